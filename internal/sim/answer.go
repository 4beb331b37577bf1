package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
)

// errCut means that the simulator cut the connection on purpose.
var errCut = errors.New("connection cut by order")

// flusher is a writer that holds output back.
type flusher interface{ Flush() error }

func flush(w io.Writer) error {
	if f, ok := w.(flusher); ok {
		return f.Flush()
	}
	return nil
}

// answer writes the output of a report command, disturbed by the faults in
// force. prompt is the session's present prompt.
func (s *session) answer(ctx context.Context, w io.Writer, out []byte, prompt string) error {
	f := s.dev.ordered.Load()
	if !f.disturbsOutput {
		_, err := w.Write(out)
		return err
	}
	if f.hang {
		if err := flush(w); err != nil {
			return err
		}
		<-s.ctx.Done() // not even Ctrl-C helps
		return s.ctx.Err()
	}
	if f.flood != 0 {
		return flood(ctx, w, f.flood)
	}
	if f.garbled {
		out = garble(out)
	}
	if f.takeDrop() {
		if _, err := w.Write(out[:len(out)/2]); err != nil {
			return err
		}
		if err := flush(w); err != nil {
			return err
		}
		s.conn.cut()
		return errCut
	}
	switch {
	case f.promptInOutput:
		return s.withPrompts(ctx, w, out, prompt, f)
	case f.splitEscapes:
		return withEscapes(w, out)
	default:
		_, err := w.Write(out)
		return err
	}
}

// flood writes n bytes of lines, endlessly when n is negative.
func flood(ctx context.Context, w io.Writer, n int64) error {
	line := "2026-03-14T15:09:26Z kernel: dag0: stream 0: ring buffer wrapped, records continue at next block\n"
	block := []byte(strings.Repeat(line, (32<<10)/len(line)))
	for n != 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n > 0 && n < int64(len(block)) {
			block = append(block[:n-1:n-1], '\n')
		}
		if _, err := w.Write(block); err != nil {
			return err
		}
		if n > 0 {
			n -= int64(len(block))
		}
	}
	return nil
}

// garble turns every line with words in it into a table row, the way a release
// with another layout might.
func garble(out []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(out) {
		if fields := bytes.Fields(line); len(fields) > 0 {
			b.WriteString("| " + string(bytes.Join(fields, []byte(" | "))) + " |\n")
		} else {
			b.WriteString("+----+----+\n")
		}
	}
	if b.Len() == 0 {
		b.WriteString("| no | data |\n")
	}
	return b.Bytes()
}

// withPrompts puts lines that look like prompts into the middle of the output:
// the session's own with a command behind it, another device's, and the
// session's own alone on a line.
func (s *session) withPrompts(ctx context.Context, w io.Writer, out []byte, prompt string, f *faults) error {
	prompt = stripEscapes(prompt)
	lines := bytes.SplitAfter(out, []byte("\n"))
	middle := len(lines) / 2
	own := strings.TrimRight(prompt, " ")
	parts := []string{
		own + " show log\n",
		strings.ReplaceAll(own, s.dev.name, "other-device-77") + "\n",
		prompt, "\n",
	}
	for i, line := range lines {
		if i == middle {
			for _, p := range parts {
				if _, err := io.WriteString(w, p); err != nil {
					return err
				}
				if f.promptPause == 0 {
					continue
				}
				if err := flush(w); err != nil {
					return err
				}
				if err := pause(ctx, f.promptPause); err != nil {
					return err
				}
			}
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// withEscapes colours every line and sends each sequence in two parts.
func withEscapes(w io.Writer, out []byte) error {
	for line := range bytes.Lines(out) {
		body := bytes.TrimRight(line, "\n")
		for _, part := range []string{"\x1b[1;3", "2m" + string(body) + "\x1b", "[0", "m" + string(line[len(body):])} {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
			if err := flush(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// stripEscapes takes terminal escape sequences out of our own prompts.
func stripEscapes(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != keyEscape {
			b.WriteByte(s[i])
			continue
		}
		for i++; i < len(s) && (s[i] == '[' || s[i] < '@' || s[i] > '~'); i++ {
		}
	}
	return b.String()
}
