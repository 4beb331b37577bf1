package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Option codes that NGWriter writes.
const (
	optSectionHardware = 2
	optSectionOS       = 3
	optSectionApp      = 4
	optIfName          = 2
	optIfDescription   = 3
	optIfResolution    = 9
	optIfFilter        = 11
	optIfOS            = 12
	optIfFCSLength     = 13
	optIfHardware      = 15
	optStatReceived    = 4
	optStatDropped     = 5
	optPacketFlags     = 2
	optPacketDropped   = 4
	optPacketID        = 5
	optPacketQueue     = 6
	// secretsTLS is the type of a block of lines as SSLKEYLOGFILE has them.
	secretsTLS = 0x544c534b
)

// maxOption is what the length of an option can say.
const maxOption = math.MaxUint16

// NGWriter writes a pcapng file of one section, little-endian, with timestamps in
// nanoseconds. It is not safe for concurrent use. After an error nothing more is
// written and every call gives it.
type NGWriter struct {
	out   *bufio.Writer
	links []LinkType
	block []byte // the block that is being made
	list  bool   // the block has options, which want an end
	err   error
}

// NewNGWriter begins a pcapng file on w. Of the section only its texts are used.
func NewNGWriter(w io.Writer, s Section) (*NGWriter, error) {
	n := &NGWriter{out: bufio.NewWriterSize(w, 64<<10)}
	n.begin(blockSection)
	n.u32(byteOrderMagic)
	n.u16(1)
	n.u16(0)
	n.u64(math.MaxUint64) // the section's length is not given
	n.comments(s.Comments)
	n.text(optSectionHardware, s.Hardware)
	n.text(optSectionOS, s.OS)
	n.text(optSectionApp, s.Application)
	n.end()
	return n, n.err
}

// AddInterface describes an interface and gives the index that packets name it by.
// Resolution and offset of its clock are not kept: what is written has nanoseconds.
func (n *NGWriter) AddInterface(i Interface) (int, error) {
	if n.err == nil && uint32(i.Link) > math.MaxUint16 {
		n.err = fmt.Errorf("link type %v does not fit into a pcapng file", i.Link)
	}
	n.begin(blockInterface)
	n.u16(uint16(i.Link)) //nolint:gosec // bounded above
	n.u16(0)
	n.u32(i.SnapLen)
	n.comments(i.Comments)
	n.text(optIfName, i.Name)
	n.text(optIfDescription, i.Description)
	n.option(optIfResolution, []byte{9})
	if i.Filter != "" {
		n.option(optIfFilter, append([]byte{0}, i.Filter...)) // 0: in the language of libpcap
	}
	n.text(optIfOS, i.OS)
	if i.FCSLength >= 0 && i.FCSLength <= math.MaxUint8 {
		n.option(optIfFCSLength, []byte{byte(i.FCSLength)})
	}
	n.text(optIfHardware, i.Hardware)
	n.end()
	n.links = append(n.links, i.Link)
	return len(n.links) - 1, n.err
}

// Write adds a packet of the interface p.Interface, with its options. One without a
// time is an error: the form of block that has none can name no interface.
func (n *NGWriter) Write(p *Packet) error {
	switch {
	case n.err != nil:
		return n.err
	case p.Interface < 0 || p.Interface >= len(n.links):
		n.err = fmt.Errorf("packet %d is of interface %d, of %d", p.Number, p.Interface, len(n.links))
	case p.Link != n.links[p.Interface]:
		n.err = fmt.Errorf("packet %d is of link type %v, its interface of %v", p.Number, p.Link, n.links[p.Interface])
	case !p.HasTime:
		n.err = fmt.Errorf("packet %d has no time, which is needed to write it", p.Number)
	case uint64(len(p.Data)) > uint64(p.Link.maxPacket()):
		n.err = fmt.Errorf("packet %d has %d bytes, more than a reader takes", p.Number, len(p.Data))
	}
	at, err := p.Time.ticks()
	if n.err == nil && err != nil {
		n.err = fmt.Errorf("packet %d: %w", p.Number, err)
	}
	if n.err != nil {
		return n.err
	}
	n.begin(blockEnhanced)
	n.u32(uint32(p.Interface)) //nolint:gosec // bounded above
	n.u32(uint32(at >> 32))
	n.u32(uint32(at))          //nolint:gosec // the lower half
	n.u32(uint32(len(p.Data))) //nolint:gosec // bounded above
	n.u32(p.Length)
	n.block = append(n.block, p.Data...)
	n.pad()
	n.copyOptions(p.Options)
	n.end()
	return n.err
}

// Statistics writes how many packets of an interface were received and dropped,
// as its capture said at its end. A figure that is not known is left out.
func (n *NGWriter) Statistics(id int, at Timestamp, i Interface) error {
	ticks, err := at.ticks()
	switch {
	case n.err != nil:
		return n.err
	case err != nil:
		n.err = err
	case id < 0 || id >= len(n.links):
		n.err = fmt.Errorf("statistics are of interface %d, of %d", id, len(n.links))
	}
	if n.err != nil {
		return n.err
	}
	n.begin(blockStatistics)
	n.u32(uint32(id)) //nolint:gosec // bounded above
	n.u32(uint32(ticks >> 32))
	n.u32(uint32(ticks)) //nolint:gosec // the lower half
	for _, f := range []struct {
		has   bool
		code  uint16
		value uint64
	}{{i.HasReceived, optStatReceived, i.Received}, {i.HasDropped, optStatDropped, i.Dropped}} {
		if f.has {
			n.option(f.code, binary.LittleEndian.AppendUint64(nil, f.value))
		}
	}
	n.end()
	return n.err
}

// KeyLog writes TLS secrets in the form of an SSLKEYLOGFILE, with which Wireshark
// decrypts the packets that follow. Who reads the file can read those.
func (n *NGWriter) KeyLog(lines []byte) error {
	n.begin(blockSecrets)
	n.u32(secretsTLS)
	n.u32(uint32(len(lines))) //nolint:gosec // the whole block is bounded by end
	n.block = append(n.block, lines...)
	n.pad()
	n.end()
	return n.err
}

// Flush hands on what is buffered. The file is whole after it.
func (n *NGWriter) Flush() error {
	if n.err == nil {
		n.err = n.out.Flush()
	}
	return n.err
}

// ticks gives nanoseconds since 1970, in the range that pcapng has.
func (t Timestamp) ticks() (uint64, error) {
	if t.Sec < 0 || uint64(t.Sec) > (math.MaxUint64-nanosPerSecond)/nanosPerSecond {
		return 0, errors.New("the time is not between 1970 and 2554")
	}
	return uint64(t.Sec)*nanosPerSecond + uint64(t.Nanos), nil
}

// begin starts a block; its length is filled in by end.
func (n *NGWriter) begin(kind uint32) {
	n.block, n.list = n.block[:0], false
	n.u32(kind)
	n.u32(0)
}

// end closes options, where there are any, and writes the block.
func (n *NGWriter) end() {
	if n.err != nil {
		return
	}
	if n.list {
		n.u32(optEnd)
	}
	total := len(n.block) + 4
	if uint64(total) > math.MaxUint32 {
		n.err = errors.New("a block is larger than pcapng can say")
		return
	}
	binary.LittleEndian.PutUint32(n.block[4:], uint32(total))
	n.u32(uint32(total))
	_, n.err = n.out.Write(n.block)
}

func (n *NGWriter) u16(v uint16) { n.block = binary.LittleEndian.AppendUint16(n.block, v) }
func (n *NGWriter) u32(v uint32) { n.block = binary.LittleEndian.AppendUint32(n.block, v) }
func (n *NGWriter) u64(v uint64) { n.block = binary.LittleEndian.AppendUint64(n.block, v) }

func (n *NGWriter) pad() {
	for len(n.block)%4 != 0 {
		n.block = append(n.block, 0)
	}
}

func (n *NGWriter) option(code uint16, value []byte) {
	n.list = true
	if len(value) > maxOption {
		value = value[:maxOption]
	}
	n.u16(code)
	n.u16(uint16(len(value))) //nolint:gosec // bounded above
	n.block = append(n.block, value...)
	n.pad()
}

func (n *NGWriter) text(code uint16, s string) {
	if s != "" {
		n.option(code, []byte(s))
	}
}

func (n *NGWriter) comments(texts []string) {
	for _, s := range texts {
		n.text(optComment, s)
	}
}

// copyOptions writes the options of a packet of another file. Numbers are turned
// where that file has the other byte order; options whose layout is not known then
// stay behind, because they would say something else.
func (n *NGWriter) copyOptions(from Options) {
	for code, value := range from.All() {
		switch {
		case !from.big, code == optComment:
			n.option(code, value)
		case (code == optPacketFlags || code == optPacketQueue) && len(value) == 4:
			n.option(code, binary.LittleEndian.AppendUint32(nil, binary.BigEndian.Uint32(value)))
		case (code == optPacketDropped || code == optPacketID) && len(value) == 8:
			n.option(code, binary.LittleEndian.AppendUint64(nil, binary.BigEndian.Uint64(value)))
		}
	}
}
