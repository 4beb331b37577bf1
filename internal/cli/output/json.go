package output

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// marshal is json.Marshal without the escapes made for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

func writeJSON(w io.Writer, doc any) error {
	flat, err := marshal(doc)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, flat, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(escapeJSON(b.Bytes()))
	return err
}

func writeJSONL(w io.Writer, rows []json.RawMessage) error {
	lines := bufio.NewWriterSize(w, 64<<10)
	for _, row := range rows {
		if !printable(row) { // of the printable ones, each is a line as it is
			flat, err := marshal(row)
			if err != nil {
				return err
			}
			row = escapeJSON(flat)
		}
		_, _ = lines.Write(row) // what fails is told by Flush
		_ = lines.WriteByte('\n')
	}
	return lines.Flush()
}

// printable reports whether text has nothing but the printable characters of ASCII.
func printable(text []byte) bool {
	for _, b := range text {
		if b < 0x20 || b >= 0x7f {
			return false
		}
	}
	return true
}

// escapeJSON writes the invisible characters that JSON would let through (DEL,
// the C1 controls, bidirectional overrides) as \u escapes. In valid JSON they can
// only stand inside strings, so the value stays the same.
func escapeJSON(text []byte) []byte {
	if printable(text) {
		return text
	}
	plain := func(r rune) bool { return r < 0x7f || visible(r) }
	if bytes.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case plain(r):
			out = append(out, text[i:i+size]...)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += size
	}
	return out
}
