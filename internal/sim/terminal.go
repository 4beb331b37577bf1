package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxLine bounds a typed line.
const maxLine = 64 << 10

// errInterrupted is a Ctrl-C at a prompt.
var errInterrupted = errors.New("interrupted")

// terminal is the device's end of an interactive session: a line editor, and
// output that is held back until the device waits for input, so that a turn
// costs one packet each way. Reading is for the session's goroutine; writing is
// for any.
type terminal struct {
	s   *session
	out wire
	in  *input

	mu  sync.Mutex
	buf []byte

	history []string
}

// newTerminal starts reading what the client types; the session joins the
// reader, which ends with the channel.
func newTerminal(s *session) *terminal {
	t := &terminal{s: s, out: wire{s, s.ch}, in: newInput(s.interruptCommand)}
	s.joins.Go(func() { t.in.pump(s.ctx, s.ch) })
	return t
}

// Write adds output; on a PTY, LF becomes CR LF.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := p
	if t.s.hasPTY {
		for i := bytes.IndexByte(rest, '\n'); i >= 0; i = bytes.IndexByte(rest, '\n') {
			t.buf = append(append(t.buf, rest[:i]...), '\r', '\n')
			rest = rest[i+1:]
		}
	}
	t.buf = append(t.buf, rest...)
	if len(t.buf) >= 32<<10 {
		return len(p), t.flush()
	}
	return len(p), nil
}

// Flush sends what was written.
func (t *terminal) Flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flush()
}

func (t *terminal) flush() error {
	if len(t.buf) == 0 {
		return nil
	}
	_, err := t.out.Write(t.buf)
	t.buf = t.buf[:0]
	return err
}

// raw adds bytes as they are.
func (t *terminal) raw(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, s...)
}

func (t *terminal) printf(format string, args ...any) { _, _ = fmt.Fprintf(t, format, args...) }

// key reads one byte, after showing what was written.
func (t *terminal) key(ctx context.Context) (byte, error) { return t.in.next(ctx, t.Flush) }

// lineOptions say how a line is read.
type lineOptions struct {
	hidden bool // nothing is echoed: a password
	plain  bool // no history: the answer to a question
	// help is called when '?' is typed, with the line so far; nil takes it as text.
	help func(line string)
}

// readLine prompts and reads one line. Ctrl-C gives errInterrupted, Ctrl-D on an
// empty line io.EOF. Without a PTY there is neither prompt nor echo.
func (t *terminal) readLine(ctx context.Context, prompt string, opts lineOptions) (string, error) {
	e := editor{t: t, opts: opts, echo: t.s.hasPTY && !opts.hidden, prompt: prompt, recall: len(t.history)}
	if t.s.hasPTY {
		t.raw(prompt)
		e.margin = visibleWidth(prompt)
	}
	line, err := e.read(ctx)
	if err == nil && !opts.hidden && !opts.plain && line != "" {
		t.history = append(t.history, line)
		if len(t.history) > 100 {
			t.history = t.history[1:]
		}
	}
	return line, err
}

// editor reads one line.
type editor struct {
	t      *terminal
	opts   lineOptions
	echo   bool
	prompt string
	margin int // columns of the prompt
	line   []byte
	column int // characters echoed behind the prompt
	recall int // position in the history
}

func (e *editor) read(ctx context.Context) (string, error) {
	for {
		b, err := e.t.key(ctx)
		if errors.Is(err, io.EOF) && len(e.line) > 0 && !e.t.s.hasPTY {
			return string(e.line), nil // a script's last line counts without its end
		}
		if err != nil {
			return "", err
		}
		switch b {
		case '\r', '\n':
			if e.t.s.hasPTY {
				e.t.raw("\r\n") // a password's Enter shows as well
			}
			return string(e.line), nil
		case keyCtrlC:
			if e.t.s.hasPTY {
				e.t.raw("^C\r\n")
			}
			return "", errInterrupted
		case keyCtrlD:
			if len(e.line) == 0 {
				return "", io.EOF
			}
		case keyBackspace, keyDelete:
			e.rubOut(1)
		case keyCtrlU:
			e.rubOut(len(e.line))
		case keyCtrlW:
			trimmed := strings.TrimRight(string(e.line), " ")
			e.rubOut(utf8.RuneCount(e.line) - utf8.RuneCountInString(trimmed[:strings.LastIndexByte(trimmed, ' ')+1]))
		case keyTab:
			if e.echo {
				e.t.raw("\a") // nothing to complete
			}
		case keyEscape:
			if err := e.escape(ctx); err != nil {
				return "", err
			}
		case '?':
			if e.opts.help == nil || !e.t.s.hasPTY {
				e.add(b)
				continue
			}
			e.t.raw("?\r\n")
			e.opts.help(string(e.line))
			e.t.raw(e.prompt)
			e.column = 0
			for _, b := range e.line {
				e.show(b)
			}
		default:
			if b >= ' ' {
				e.add(b)
			}
		}
	}
}

func (e *editor) add(b byte) {
	if len(e.line) >= maxLine {
		if e.echo {
			e.t.raw("\a")
		}
		return
	}
	e.line = append(e.line, b)
	e.show(b)
}

// show echoes one byte. Behind the last column of the terminal a line editor
// forces the cursor onto the next line with a space and a carriage return.
func (e *editor) show(b byte) {
	if !e.echo {
		return
	}
	e.t.raw(string([]byte{b}))
	if !utf8.RuneStart(b) {
		return
	}
	e.column++
	if cols := int(e.t.s.cols.Load()); cols > 0 && (e.margin+e.column)%cols == 0 {
		e.t.raw(" \r")
	}
}

// rubOut takes the last n characters away.
func (e *editor) rubOut(n int) {
	for ; n > 0 && len(e.line) > 0; n-- {
		_, size := utf8.DecodeLastRune(e.line)
		e.line = e.line[:len(e.line)-size]
		if e.echo {
			e.t.raw("\b \b")
			e.column--
		}
	}
}

// escape reads one escape sequence; the arrows up and down recall lines.
func (e *editor) escape(ctx context.Context) error {
	b, err := e.t.key(ctx)
	if err != nil || b != '[' && b != 'O' {
		return err
	}
	for {
		if b, err = e.t.key(ctx); err != nil {
			return err
		}
		if b >= '@' && b <= '~' {
			break
		}
	}
	switch {
	case b == 'A' && e.recall > 0:
		e.recall--
	case b == 'B' && e.recall < len(e.t.history):
		e.recall++
	default:
		return nil
	}
	e.rubOut(len(e.line))
	if e.recall < len(e.t.history) {
		for _, b := range []byte(e.t.history[e.recall]) {
			e.add(b)
		}
	}
	return nil
}

// ask puts a question on the terminal and reads the answer.
func (t *terminal) ask(ctx context.Context, question string, hidden bool) (string, error) {
	return t.readLine(ctx, question, lineOptions{hidden: hidden, plain: true})
}

// visibleWidth counts the columns of a prompt, escape sequences aside.
func visibleWidth(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == keyEscape:
			for i++; i < len(s) && (s[i] == '[' || s[i] < '@' || s[i] > '~'); i++ {
			}
		case utf8.RuneStart(s[i]):
			n++
		}
	}
	return n
}

// page shows text a screen at a time. more gives the pager's prompt for the
// lines shown so far; any key goes on, Enter by one line, q ends.
func (t *terminal) page(ctx context.Context, text []byte, rows int, more func(from, to, total int) string) error {
	lines := bytes.SplitAfter(text, []byte("\n"))
	if n := len(lines); n > 0 && len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	from, step := 0, rows-1
	for {
		to := min(len(lines), from+step)
		for _, l := range lines[from:to] {
			if _, err := t.Write(l); err != nil {
				return err
			}
		}
		if to == len(lines) {
			return nil
		}
		t.raw(more(from+1, to, len(lines)))
		key, err := t.key(ctx)
		if err != nil {
			return err
		}
		t.raw("\r\x1b[K")
		from, step = to, rows-1
		switch key {
		case 'q', 'Q', keyCtrlC:
			return nil
		case '\r', '\n':
			step = 1
		}
	}
}
