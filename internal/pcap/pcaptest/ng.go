package pcaptest

// NG writes pcapng.
type NG struct{ Big bool }

// Option is an option of a block.
type Option struct {
	Code  uint16
	Value []byte
}

// Text gives an option that is text.
func Text(code uint16, value string) Option { return Option{code, []byte(value)} }

// Block gives a block of any type.
func (n NG) Block(kind uint32, body []byte, opts ...Option) []byte {
	o := order(n.Big)
	body = pad(append([]byte(nil), body...))
	for _, opt := range opts {
		body = o.AppendUint16(body, opt.Code)
		body = o.AppendUint16(body, uint16(len(opt.Value))) //nolint:gosec // tests give short values
		body = pad(append(body, opt.Value...))
	}
	if len(opts) > 0 {
		body = append(body, 0, 0, 0, 0)
	}
	total := uint32(len(body) + 12) //nolint:gosec // tests give short blocks
	b := o.AppendUint32(nil, kind)
	b = o.AppendUint32(b, total)
	b = append(b, body...)
	return o.AppendUint32(b, total)
}

// Section gives a section header.
func (n NG) Section(opts ...Option) []byte {
	b := n.words(0x1a2b3c4d)
	b = order(n.Big).AppendUint16(b, 1)
	b = order(n.Big).AppendUint16(b, 0)
	return n.Block(0x0a0d0d0a, append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), opts...)
}

// Interface gives an interface description.
func (n NG) Interface(link uint16, snap uint32, opts ...Option) []byte {
	b := order(n.Big).AppendUint16(nil, link)
	b = append(b, 0, 0)
	return n.Block(1, order(n.Big).AppendUint32(b, snap), opts...)
}

// Enhanced gives an enhanced packet block.
func (n NG) Enhanced(id uint32, at uint64, original uint32, data []byte, opts ...Option) []byte {
	b := n.words(id, uint32(at>>32), uint32(at), uint32(len(data)), original) //nolint:gosec // halves of the time
	return n.Block(6, append(b, data...), opts...)
}

// Simple gives a simple packet block.
func (n NG) Simple(original uint32, data []byte) []byte {
	return n.Block(3, append(n.words(original), data...))
}

// Obsolete gives a packet block.
func (n NG) Obsolete(id uint16, at uint64, original uint32, data []byte) []byte {
	b := order(n.Big).AppendUint16(nil, id)
	b = order(n.Big).AppendUint16(b, 0xffff)
	b = append(b, n.words(uint32(at>>32), uint32(at), uint32(len(data)), original)...) //nolint:gosec // halves of the time
	return n.Block(2, append(b, data...))
}

// Statistics gives interface statistics.
func (n NG) Statistics(id uint32, received, dropped uint64) []byte {
	o := order(n.Big)
	return n.Block(5, n.words(id, 0, 0), Option{4, o.AppendUint64(nil, received)}, Option{5, o.AppendUint64(nil, dropped)})
}

// Offset gives the option if_tsoffset.
func (n NG) Offset(seconds int64) Option {
	return Option{14, order(n.Big).AppendUint64(nil, uint64(seconds))} //nolint:gosec // signed by the format
}

func (n NG) words(values ...uint32) []byte {
	var b []byte
	for _, v := range values {
		b = order(n.Big).AppendUint32(b, v)
	}
	return b
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
