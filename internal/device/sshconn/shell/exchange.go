package shell

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// exchange is one line typed and its answer on the way.
type exchange struct {
	t      *terminal
	line   string
	echoed bool
	start  int // where the output begins on the screen
	end    int // where it ends, once that is known

	doubt   bool // see the package comment
	scanned int  // lines before this one were looked at for prompts
	sent    int  // returns typed to confirm
	probe   int  // where the prompt stands that the last of them was typed at; -1 for nowhere
	replied int  // the line of the last question answered; -1 for none

	got answer
}

func (t *terminal) newExchange(line string) *exchange {
	return &exchange{t: t, line: line, probe: -1, replied: -1, end: -1}
}

// place is what the end of everything received looks like.
type place int

const (
	running place = iota // output that goes on
	atPrompt
	atQuestion
	atPager
)

// run waits until the answer is complete.
func (x *exchange) run() error {
	for {
		if err := x.advance(); err != nil {
			return err
		}
		switch x.look() {
		case running:
			if _, err := x.wait(0); err != nil {
				return err
			}
		case atPager:
			if err := x.turnPage(); err != nil {
				return err
			}
		case atQuestion:
			if err := x.reply(); err != nil {
				return err
			}
		case atPrompt:
			if done, err := x.confirm(); done || err != nil {
				return err
			}
		}
	}
}

// wait takes what comes next. With a quiet time it gives false when nothing came
// for that long.
func (x *exchange) wait(quiet time.Duration) (bool, error) {
	var timeout <-chan time.Time
	if quiet > 0 {
		timer := time.NewTimer(quiet)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case chunk := <-x.t.reader.chunks:
		x.t.screen.feed(chunk, time.Now())
		return true, nil
	case <-timeout:
		return false, nil
	case <-x.t.terms.done:
		return false, errStopped
	case <-x.t.reader.done:
		return false, errDropped
	}
}

// pending takes what has arrived already, so that "the end of everything
// received" means what it says.
func (x *exchange) pending() bool {
	select {
	case chunk := <-x.t.reader.chunks:
		x.t.screen.feed(chunk, time.Now())
		return true
	default:
		return false
	}
}

// advance keeps up with what was received: the echo, the cap, prompt-like lines.
func (x *exchange) advance() error {
	s := &x.t.screen
	if !x.echoed {
		switch n, state := matchEcho(s.buf, x.line, x.t.prompt); state {
		case echoWhole:
			x.echoed, x.start, x.scanned = true, n, n
		case echoOther:
			return errEcho
		}
	}
	limit := x.t.terms.limit
	if len(s.buf)-x.start > limit+2*maxPrompt || s.raw > 8*limit+1<<20 {
		x.got.truncated = true
		x.end = min(len(s.buf), x.start+limit)
		return errTooLarge
	}
	if x.echoed && x.t.known != "" {
		x.scan()
	}
	return nil
}

// scan looks for complete lines that are the prompt or begin with it. They are
// output; seeing one means that another may be taken for the end.
func (x *exchange) scan() {
	s := &x.t.screen
	prompt := []byte(strings.TrimRight(x.t.prompt, " "))
	for !x.doubt && x.scanned < s.last {
		i := bytes.Index(s.buf[x.scanned:s.last], []byte(x.t.anchor))
		if i < 0 {
			break
		}
		i += x.scanned
		from := bytes.LastIndexByte(s.buf[:i], '\n') + 1
		to := i + bytes.IndexByte(s.buf[i:], '\n')
		line := s.buf[from:to]
		confirms := x.probe >= 0 && from >= x.probe // our own return's doing
		if !confirms && (bytes.HasPrefix(line, prompt) || x.t.isPrompt(line)) {
			x.doubt = true
		}
		x.scanned = to + 1
	}
	x.scanned = max(x.scanned, s.last)
}

// look says what the last line is.
func (x *exchange) look() place {
	s := &x.t.screen
	tail := s.tail()
	switch {
	case !x.echoed || s.last < x.start || len(tail) == 0 || len(bytes.TrimSpace(tail)) == 0:
		return running
	case x.t.findPrompt(tail) >= 0:
		return atPrompt
	case len(tail) > maxPrompt:
		return running
	case x.t.plan.pager != nil && x.t.plan.pager.Match(tail):
		return atPager
	case s.last != x.replied && x.asked() != nil:
		return atQuestion
	default:
		return running
	}
}

func (x *exchange) asked() *question {
	tail := x.t.screen.tail()
	i := slices.IndexFunc(x.t.plan.questions, func(q question) bool { return q.expr.Match(tail) })
	if i < 0 {
		return nil
	}
	return &x.t.plan.questions[i]
}

// Bounds of the quiet time.
const (
	minQuiet = 20 * time.Millisecond
	maxQuiet = 5 * time.Second
)

// quiet is how long this device must be silent to be believed.
func (x *exchange) quiet() time.Duration {
	return min(max(2*x.t.screen.pause, minQuiet), maxQuiet)
}

// confirm makes sure that the device waits at the prompt that stands at the end.
func (x *exchange) confirm() (done bool, err error) {
	if x.pending() {
		return false, nil
	}
	s := &x.t.screen
	at := x.t.findPrompt(s.tail())
	if !x.needsProof() {
		x.end = s.last + at
		x.finish()
		return true, nil
	}
	x.doubt = x.doubt || s.pieces || at > 0 || s.cleaner.Held() > 0

	first, found := x.prompts()
	if x.probe >= 0 && first <= x.probe {
		// Nothing but prompts behind the one that the return was typed at. Each
		// return typed so far brings one.
		if found < 1+x.sent {
			_, err := x.wait(0)
			return false, err
		}
		if again, err := x.unsettled(); again || err != nil {
			return false, err
		}
		x.end = first
		x.finish()
		return true, nil
	}
	if x.sent > 0 {
		x.doubt = true // an earlier prompt was none
	}
	if again, err := x.unsettled(); again || err != nil {
		return false, err
	}
	x.probe = s.last + at
	x.sent++
	if err := x.t.write("\n"); err != nil {
		return false, err
	}
	_, err = x.wait(0)
	return false, err
}

// needsProof reports whether the answer goes to a caller. The login needs proof
// when anything but the prompt was printed: a message of the day may hold a line
// like a prompt.
func (x *exchange) needsProof() bool {
	if x.t.known != "" {
		return x.t.terms.confirm
	}
	s := &x.t.screen
	return x.sent > 0 || s.pieces || len(bytes.TrimSpace(s.buf[:s.last])) > 0
}

// unsettled waits for silence where there is doubt, and reports whether the
// device broke it.
func (x *exchange) unsettled() (bool, error) {
	if !x.doubt {
		return x.pending(), nil
	}
	return x.wait(x.quiet())
}

// prompts walks back over the prompts that end the screen, blank lines between
// them aside, at most as many as the returns typed account for. It gives where
// the first of them begins.
func (x *exchange) prompts() (first, found int) {
	buf := x.t.screen.buf
	first = len(buf)
	for end := len(buf); found <= x.sent; {
		from := x.start
		if i := bytes.LastIndexByte(buf[x.start:end], '\n'); i >= 0 {
			from += i + 1
		}
		line := buf[from:end]
		if found > 0 {
			line = restoreBlank(line, x.t.blank)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			at := x.t.findPrompt(line)
			if at < 0 {
				return first, found
			}
			first = from + at
			found++
			if at > 0 {
				return first, found
			}
		}
		if from <= x.start {
			return first, found
		}
		end = from - 1
	}
	return first, found
}

// restoreBlank gives a line the trailing white space of the prompt: some devices
// take it away when a return is typed behind it.
func restoreBlank(line []byte, blank string) []byte {
	return append(slices.Clone(bytes.TrimRight(line, " ")), blank...)
}

// finish records the prompt that the device waits at.
func (x *exchange) finish() {
	s := &x.t.screen
	x.t.arrived(s.tail()[x.t.findPrompt(s.tail()):])
}

// answer gives what came, complete or not.
func (x *exchange) answer() answer {
	buf := x.t.screen.buf
	end := x.end
	if end < 0 {
		end = len(buf)
	}
	if x.echoed && end > x.start {
		text := buf[x.start:end]
		if len(text) > x.t.terms.limit {
			text, x.got.truncated = text[:x.t.terms.limit], true
		}
		x.got.text = strings.ReplaceAll(string(text), "\b", "")
	}
	return x.got
}

// turnPage answers a pager. A line of output that looks like one goes on, and a
// pager waits, so it must be quiet first.
func (x *exchange) turnPage() error {
	if more, err := x.wait(x.quiet()); more || err != nil {
		return err
	}
	s := &x.t.screen
	if m := x.t.plan.pager.FindIndex(s.tail()); m != nil {
		s.cutTail(m[0])
	}
	return x.t.write(x.t.plan.def.Shell.Pager.Next)
}

// maxQuestions bounds how often a device may ask within one command.
const maxQuestions = 20

// reply answers a question: as the caller said, with the secret where one was
// offered, else with the answer that changes nothing.
func (x *exchange) reply() error {
	if more, err := x.wait(x.quiet()); more || err != nil {
		return err
	}
	q := x.asked()
	if len(x.got.questions) == maxQuestions {
		return errAsks
	}
	x.got.questions = append(x.got.questions, q.Name)
	x.replied = x.t.screen.last

	text, ok := x.t.terms.answers[q.Name]
	if !ok && q.Name == device.QuestionPassword && x.t.terms.secret != nil && !x.got.secret {
		s, err := x.t.terms.secret()
		if err != nil {
			return &fault.Error{Kind: fault.Auth, Act: "read the enable password", Stage: "enable", Err: err}
		}
		text, ok, x.got.secret = s.Reveal(), true, true
	}
	if !ok {
		text, x.got.safe = q.Safe, q.Name
	}
	return x.t.write(text + "\n")
}
