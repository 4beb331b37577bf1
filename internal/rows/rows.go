// Package rows takes JSON that is a list of rows apart, and puts such a list
// together, without looking into the rows. A fleet's answer has many megabytes of
// them and passes through several hands, each of which would otherwise parse them
// all.
//
// Whoever makes a row is authoritative about it, and whoever reads one finds out
// whether it is JSON: here only its brackets and quotes are followed, which is what
// tells where it ends.
package rows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// errCut is a text that ends before its value does.
var errCut = errors.New("the JSON is cut off")

// Split gives the elements of a JSON array; of null and of an empty array none, but
// of the latter a slice that is not nil. They are parts of data and not copies.
func Split(data []byte) ([]json.RawMessage, error) {
	at := space(data, 0)
	if bytes.Equal(bytes.TrimRight(data[at:], blanks), []byte("null")) {
		return nil, nil
	}
	list := []json.RawMessage{}
	for element, err := range inside(data, at, '[', ']') {
		if err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	return list, nil
}

// Fields gives the members of a JSON object by name, in any spelling of a value
// that JSON has. They are parts of data and not copies. Of a name that comes twice,
// the last one counts.
func Fields(data []byte) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	for member, err := range inside(data, space(data, 0), '{', '}') {
		if err != nil {
			return nil, err
		}
		end := text(member, 0)
		colon := space(member, max(end, 0))
		if end < 0 || colon == len(member) || member[colon] != ':' {
			return nil, fmt.Errorf("%.40q is no member of a JSON object", member)
		}
		var name string
		if err := json.Unmarshal(member[:end], &name); err != nil {
			return nil, err
		}
		fields[name] = member[space(member, colon+1):]
	}
	return fields, nil
}

// Join gives the JSON array of rows. A row that is not JSON is an error.
func Join(rows []json.RawMessage) ([]byte, error) {
	size := len("[]")
	for _, row := range rows {
		size += len(row) + len(",")
	}
	out := append(make([]byte, 0, size), '[')
	for i, row := range rows {
		if !json.Valid(row) {
			return nil, fmt.Errorf("row %d is not JSON", i)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, row...)
	}
	return append(out, ']'), nil
}

const blanks = " \t\r\n"

// space gives where the white space from at on ends.
func space(data []byte, at int) int {
	for at < len(data) && (data[at] == ' ' || data[at] == '\n' || data[at] == '\r' || data[at] == '\t') {
		at++
	}
	return at
}

// text gives where the JSON string that begins at ends, or -1.
func text(data []byte, at int) int {
	if at >= len(data) || data[at] != '"' {
		return -1
	}
	for begin := at + 1; ; {
		quote := bytes.IndexByte(data[begin:], '"')
		if quote < 0 {
			return -1
		}
		quote += begin
		escapes := quote
		for data[escapes-1] == '\\' { // the opening quote stops it
			escapes--
		}
		if begin = quote + 1; (quote-escapes)%2 == 0 {
			return begin
		}
	}
}

// inside gives what is between the brackets that begin at, comma by comma, without
// the white space around it. After the closing one nothing may come.
func inside(data []byte, at int, open, closing byte) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		if at == len(data) || data[at] != open {
			yield(nil, fmt.Errorf("%.40q does not begin with %c", data[at:], open))
			return
		}
		begin, depth := at+1, 0
		for i := at + 1; i < len(data); i++ {
			switch data[i] {
			case '"':
				end := text(data, i)
				if end < 0 {
					yield(nil, errCut)
					return
				}
				i = end - 1
			case '[', '{':
				depth++
			case ']', '}':
				if depth--; depth >= 0 {
					continue
				}
				last := bytes.Trim(data[begin:i], blanks)
				empty := len(last) == 0
				switch {
				case data[i] != closing:
					yield(nil, fmt.Errorf("%c closes %c", data[i], open))
				case space(data, i+1) < len(data):
					yield(nil, fmt.Errorf("%.40q comes after the end", data[i+1:]))
				case empty && begin > at+1:
					yield(nil, errors.New("nothing comes after a comma"))
				case !empty:
					yield(last, nil)
				}
				return
			case ',':
				if depth > 0 {
					continue
				}
				element := bytes.Trim(data[begin:i], blanks)
				if len(element) == 0 {
					yield(nil, errors.New("nothing comes before a comma"))
					return
				}
				if !yield(element, nil) {
					return
				}
				begin = i + 1
			}
		}
		yield(nil, errCut)
	}
}
