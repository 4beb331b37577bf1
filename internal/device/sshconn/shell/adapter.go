package shell

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/scrapli/scrapligo/transport"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// adapter is what scrapligo sees instead of a device. What scrapligo writes and
// then looks for is answered here:
//
//   - a line: its echo, at once; nothing is sent yet
//   - a return behind a line: the line goes to the device, and the write returns
//     when the answer is complete; scrapligo then finds the prompt
//   - a return on its own, which is how it asks for the prompt: the last one
//
// So scrapligo never has to wait, and its polling never runs.
type adapter struct {
	term   *terminal
	typed  []byte
	handed chan []byte
	closed chan struct{}
	once   sync.Once
}

var _ transport.Implementation = (*adapter)(nil)

func newAdapter(t *terminal) *adapter {
	return &adapter{term: t, handed: make(chan []byte), closed: make(chan struct{})}
}

// Open has nothing to do: the session is there.
func (a *adapter) Open(*transport.Args) error { return nil }

// Close is called by scrapligo; stop is what ends the adapter.
func (a *adapter) Close() error { return nil }

// IsAlive reports whether the adapter was not stopped.
func (a *adapter) IsAlive() bool {
	select {
	case <-a.closed:
		return false
	default:
		return true
	}
}

func (a *adapter) stop() { a.once.Do(func() { close(a.closed) }) }

// Read gives scrapligo's reading goroutine what Write hands over.
func (a *adapter) Read(int) ([]byte, error) {
	select {
	case b := <-a.handed:
		return b, nil
	case <-a.closed:
		return nil, io.EOF
	}
}

// Write is called with a line, or with the return behind it.
func (a *adapter) Write(b []byte) error {
	if string(b) != "\n" {
		a.typed = slices.Clone(b)
		return a.hand(b)
	}
	if a.typed == nil {
		return a.hand([]byte(a.term.prompt))
	}
	line, before := string(a.typed), a.term.mode
	a.typed = nil
	var err error
	if a.term.last, err = a.term.ask(line); err != nil {
		return err
	}
	if a.term.terms.step && a.term.mode == before {
		return a.refused(line)
	}
	return a.hand([]byte(a.term.prompt))
}

// hand gives b to scrapligo and returns when it is in its queue. Its goroutine
// comes back for more only then: taking nothing a second time is the proof.
func (a *adapter) hand(b []byte) error {
	for _, part := range [][]byte{b, nil} {
		select {
		case a.handed <- part:
		case <-a.closed:
			return errDropped
		}
	}
	return nil
}

// refused says why a change of mode came to nothing. Without it scrapligo would
// take the same step over and over, typing a wrong password each time.
func (a *adapter) refused(line string) error {
	ans := a.term.last
	e := &fault.Error{Kind: fault.Refused, Act: line, Stage: "mode"}
	switch why := a.term.plan.def.Refusal(ans.text); {
	case ans.secret:
		e.Kind, e.Stage, e.Err = fault.Auth, "enable", errors.New("the device does not accept the enable password")
		e.Next = "check credentials.enable in the inventory"
	case ans.safe == device.QuestionPassword:
		e.Kind, e.Stage, e.Err = fault.Auth, "enable", errors.New("the device asks for an enable password and there is none")
		e.Next = "add enable to the device's credentials in the inventory"
	case ans.safe != "":
		e.Err = fmt.Errorf("the device asks (%s) and got the answer that changes nothing", ans.safe)
		e.Next = "give the command an answer to it if you mean it"
	case why != "":
		e.Err = fmt.Errorf("the device answers %q", why)
	default:
		e.Err = fmt.Errorf("the device stays in mode %s", a.term.mode)
	}
	return e
}
