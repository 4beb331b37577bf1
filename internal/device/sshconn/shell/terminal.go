package shell

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"capfleet/internal/secret"
)

// Channel is what a shell runs on: the pipes of an SSH session with a PTY.
// Closing it must end a Read or Write that blocks.
type Channel interface {
	io.Reader
	io.Writer
	io.Closer
}

// maxPrompt bounds a prompt, a question and a pager's prompt. A longer last line
// is output that has not ended yet.
const maxPrompt = 512

// What ends an exchange other than an answer. The shell makes errors with a kind
// and the device's name of them.
var (
	errStopped  = errors.New("stopped by its context")
	errDropped  = errors.New("the device closed the session")
	errTooLarge = errors.New("more output than allowed") // see tooLarge
	errEcho     = errors.New("what came back does not begin with the command: an earlier answer was still under way, or something else wrote to the terminal")
	errAsks     = errors.New("the device asks without end")
	errUnasked  = errors.New("the device writes unasked and does not end")
	errMarks    = errors.New("the device shows prompts and answers nothing that is typed at them")
)

// tooLarge is errTooLarge with what is allowed.
func tooLarge(limit int) error {
	return fmt.Errorf("%w: it was cut at %d bytes, and the session ended", errTooLarge, limit)
}

// terminal is our end of the device's command line. It is used by one goroutine
// at a time, apart from close.
type terminal struct {
	ch     Channel
	plan   *plan
	reader *reader
	screen screen

	prompt string // the last one, with its trailing space
	mode   string
	known  string // identity of the prompt learned at login; "" before

	echoes blankEcho
	lead   int // empty lines that the device prints before a prompt

	terms terms  // of the call in progress
	last  answer // of the last line typed

	closing sync.Once
}

// blankEcho says whether blanks typed at the prompt come back.
type blankEcho int

const (
	echoesUnknown blankEcho = iota
	echoesBlanks
	echoesNone
)

// terms are what holds for the lines of one call.
type terms struct {
	done    <-chan struct{} // of the caller's context
	answers map[string]string
	secret  func() (secret.String, error) // the enable password; nil where there is none
	confirm bool
	limit   int
	// step marks a line of our own, a change of mode: a refusal ends the walk.
	step bool
}

// answer is what a line brought.
type answer struct {
	text      string
	questions []string // asked, in order
	safe      string   // the question that got its safe answer
	secret    bool     // the secret was typed
	truncated bool
}

func newTerminal(ch Channel, p *plan) *terminal {
	t := &terminal{ch: ch, plan: p, reader: startReader(ch)}
	t.screen.erase = -1
	return t
}

// hangUp makes everything that blocks on the channel return. It may be called
// from any goroutine.
func (t *terminal) hangUp() (err error) {
	t.closing.Do(func() { err = t.ch.Close() })
	return err
}

// dropped is errDropped, with the reason where the channel gives one.
func (t *terminal) dropped() error {
	if why := t.reader.err; why != nil && !errors.Is(why, io.EOF) {
		return fmt.Errorf("%w: %w", errDropped, why)
	}
	return errDropped
}

func (t *terminal) write(text string) error {
	t.screen.fed = time.Now() // until now it was we who paused
	if _, err := io.WriteString(t.ch, text); err != nil {
		select {
		case <-t.terms.done:
			return errStopped
		default:
			return errDropped
		}
	}
	return nil
}

// login waits for the first prompt and learns it. It is proven in any case: a
// message of the day may hold a line like a prompt, and how the device shows the
// mark now, with nothing under way, tells what to expect later.
func (t *terminal) login() error {
	x := t.newExchange("")
	x.echoed = true
	if err := x.run(); err != nil {
		return err
	}
	t.known = t.plan.identity(t.prompt)
	return nil
}

// ask types a line and waits for the complete answer.
func (t *terminal) ask(line string) (answer, error) {
	t.screen.reset()
	if err := t.write(line + "\n"); err != nil {
		return answer{}, err
	}
	x := t.newExchange(line)
	err := x.run()
	return x.answer(), err
}

// unasked reports whether the device wrote something since the last answer.
func (t *terminal) unasked() bool {
	select {
	case chunk := <-t.reader.chunks:
		t.screen.reset()
		t.screen.feed(chunk, time.Now())
		return true
	default:
		return false
	}
}

// settle comes back to a prompt after the device wrote unasked, as it does when
// a message is broadcast to all terminals.
func (t *terminal) settle() error {
	const quiet = 100 * time.Millisecond
	x := t.newExchange("")
	x.echoed = true
	for {
		more, err := x.wait(quiet)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if x.advance() != nil {
			return errUnasked
		}
	}
	if x.look() != atPrompt {
		if err := t.write("\n"); err != nil {
			return err
		}
	}
	return x.run()
}

// trailingBlank is the white space that ends a prompt.
func trailingBlank(prompt string) string { return prompt[len(strings.TrimRight(prompt, " ")):] }

// isPrompt reports whether a whole line is the prompt, apart from what varies.
// Before the login is done every mode's prompt is.
func (t *terminal) isPrompt(line []byte) bool {
	if len(line) > maxPrompt || t.plan.modeOf(line) == "" {
		return false
	}
	return t.known == "" ||
		bytes.HasSuffix(line, []byte(trailingBlank(t.prompt))) && t.plan.identity(string(line)) == t.known
}

// findPrompt gives the place in line where the prompt begins, or -1: the whole
// line, or, when the output before it did not end its line, the exact prompt at
// its end.
func (t *terminal) findPrompt(line []byte) int {
	switch {
	case len(line) == 0:
		return -1
	case t.isPrompt(line):
		return 0
	case t.known != "" && bytes.HasSuffix(line, []byte(t.prompt)):
		return len(line) - len(t.prompt)
	default:
		return -1
	}
}

// arrived records the prompt that ended an answer.
func (t *terminal) arrived(prompt []byte) {
	if string(prompt) != t.prompt {
		t.prompt, t.mode = string(prompt), t.plan.modeOf(prompt)
	}
}
