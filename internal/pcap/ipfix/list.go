package ipfix

import "encoding/binary"

// Lists within records: RFC 6313. Each begins with a semantic of one byte, which says
// how the elements are meant together and is given by name.

// list is a structured value.
type list struct {
	Semantic string `json:"semantic"`
	Element  string `json:"element,omitempty"` // of a basicList
	Values   []any  `json:"values"`
}

func semantic(b byte) string {
	switch b {
	case 0:
		return "noneOf"
	case 1:
		return "exactlyOneOf"
	case 2:
		return "oneOrMoreOf"
	case 3:
		return "allOf"
	case 4:
		return "ordered"
	}
	return "undefined"
}

// basicList reads values of one element. False means that it does not add up.
func (m *message) basicList(b []byte, depth int) (any, bool) {
	if len(b) < 5 {
		return nil, false
	}
	out := list{Semantic: semantic(b[0]), Values: []any{}}
	f := field{id: binary.BigEndian.Uint16(b[1:]), length: binary.BigEndian.Uint16(b[3:])}
	b = b[5:]
	if f.id&enterpriseBit != 0 {
		if len(b) < 4 {
			return nil, false
		}
		f.id, f.enterprise, b = f.id&^enterpriseBit, binary.BigEndian.Uint32(b), b[4:]
	}
	if f.length == 0 {
		return nil, false
	}
	name, k := f.name()
	out.Element = name
	for len(b) > 0 {
		value, rest, err := f.value(b)
		if err != nil {
			return nil, false
		}
		out.Values = append(out.Values, m.value(k, value, depth))
		b = rest
	}
	return out, true
}

// subTemplateList reads records of one template.
func (m *message) subTemplateList(b []byte, depth int) (any, bool) {
	if len(b) < 3 {
		return nil, false
	}
	out := list{Semantic: semantic(b[0]), Values: []any{}}
	return m.under(out, binary.BigEndian.Uint16(b[1:]), b[3:], depth)
}

// subTemplateMultiList reads records of several templates.
func (m *message) subTemplateMultiList(b []byte, depth int) (any, bool) {
	if len(b) < 1 {
		return nil, false
	}
	out := list{Semantic: semantic(b[0]), Values: []any{}}
	for b = b[1:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, false
		}
		id, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			return nil, false
		}
		part, ok := m.under(list{}, id, b[4:size], depth)
		if !ok {
			return nil, false
		}
		out.Values = append(out.Values, part.Values...)
		b = b[size:]
	}
	return out, true
}

// under adds the records of a template to a list.
func (m *message) under(out list, id uint16, b []byte, depth int) (list, bool) {
	t := m.st.templates[id]
	if t == nil {
		return out, false
	}
	for len(b) > 0 {
		scope, fields, rest, err := m.record(t, b, depth)
		if err != nil {
			return out, false
		}
		for name, value := range scope {
			add(fields, name, value)
		}
		out.Values = append(out.Values, fields)
		b = rest
	}
	return out, true
}
