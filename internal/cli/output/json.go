package output

import (
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
	for _, row := range rows {
		flat, err := marshal(row)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(escapeJSON(flat), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// escapeJSON writes the invisible characters that JSON would let through (DEL,
// the C1 controls, bidirectional overrides) as \u escapes. In valid JSON they can
// only stand inside strings, so the value stays the same.
func escapeJSON(text []byte) []byte {
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
