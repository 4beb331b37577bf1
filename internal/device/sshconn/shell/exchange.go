package shell

import (
	"bytes"
	"crypto/rand"
	"iter"
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

	marks   []int // blanks in the marked returns typed, one number for each
	replied int   // the line of the last question answered; -1 for none

	got answer
}

func (t *terminal) newExchange(line string) *exchange {
	return &exchange{t: t, line: line, replied: -1, end: -1}
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
		return false, x.t.dropped()
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

// advance keeps up with what was received: the echo and the cap.
func (x *exchange) advance() error {
	s := &x.t.screen
	if !x.echoed {
		switch n, state := matchEcho(s.buf, x.line, x.t.prompt); state {
		case echoWhole:
			x.echoed, x.start = true, n
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
	return nil
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

// Bounds of the time for which a device must be silent to be believed.
const (
	minQuiet = 20 * time.Millisecond
	maxQuiet = 5 * time.Second
)

// quiet is that time for this device: twice the longest pause that it has made
// in this answer.
func (x *exchange) quiet(atLeast time.Duration) time.Duration {
	return min(max(2*x.t.screen.pause, atLeast), maxQuiet)
}

// confirm makes sure that the device waits at the prompt that stands at the end.
func (x *exchange) confirm() (done bool, err error) {
	if x.pending() {
		return false, nil
	}
	s := &x.t.screen
	if !x.needsProof() {
		return x.finish(s.last + x.t.findPrompt(s.tail())), nil
	}
	if at, ok := x.marked(); ok {
		x.t.echoes = echoesBlanks
		return x.finish(at), nil
	}
	if len(x.marks) == 0 {
		return false, x.mark()
	}
	// A return is on its way, unless the device threw away what was typed while it
	// was writing, or its answer is there and shows no mark.
	if more, err := x.wait(x.quiet(x.patience())); more || err != nil {
		return false, err
	}
	switch first, found := x.prompts(); {
	case x.t.echoes == echoesBlanks:
		return false, x.mark()
	case found <= len(x.marks):
		_, err := x.wait(0)
		return false, err
	case len(x.marks) < 2:
		return false, x.mark() // counting prompts is weaker than a mark, so count twice
	default:
		x.t.echoes = echoesNone
		return x.finish(first), nil
	}
}

// patience is how long the answer to a marked return may take before something
// else is tried.
func (x *exchange) patience() time.Duration {
	switch x.t.echoes {
	case echoesNone:
		return minQuiet
	case echoesBlanks:
		return 2 * time.Second
	default:
		return 250 * time.Millisecond
	}
}

// needsProof reports whether the answer goes to a caller. The login needs proof
// when anything but the prompt was printed: a message of the day may hold a line
// like a prompt.
func (x *exchange) needsProof() bool {
	if x.t.known != "" {
		return x.t.terms.confirm
	}
	s := &x.t.screen
	return len(x.marks) > 0 || len(bytes.TrimSpace(s.buf[:s.last])) > 0
}

// mark types a return with a number of blanks before it, one that output would
// not happen to have behind a prompt, and waits for something to come of it.
func (x *exchange) mark() error {
	const least, kinds = 8, 32
	var b [1]byte
	for {
		_, _ = rand.Read(b[:])                // never fails
		blanks := least + 2*(int(b[0])%kinds) // even; see marked
		if !slices.Contains(x.marks, blanks) {
			x.marks = append(x.marks, blanks)
			break
		}
		if len(x.marks) == kinds {
			return errMarks
		}
	}
	if err := x.t.write(strings.Repeat(" ", x.marks[len(x.marks)-1]) + "\n"); err != nil {
		return err
	}
	_, err := x.wait(0)
	return err
}

// marked looks for the echo of the last marked return: the prompt with its
// blanks, and nothing behind it but the prompt that now stands at the end. It
// gives where the first of the marked lines begins, which is where output ends.
// A blank of the prompt's own may stand before ours.
func (x *exchange) marked() (at int, ok bool) {
	for from, line := range x.linesBack() {
		rest := bytes.TrimRight(line, " ")
		switch blanks := len(line) - len(rest); {
		case len(rest) == 0:
			continue // some print an empty line before their prompt
		case !slices.ContainsFunc(x.marks, func(n int) bool { return blanks == n || blanks == n+1 }):
			return at, ok
		default:
			begin := x.t.findPrompt(append(slices.Clone(rest), x.blank()...))
			if begin < 0 {
				return at, ok
			}
			at = from + begin
			last := x.marks[len(x.marks)-1]
			ok = ok || blanks == last || blanks == last+1
			if begin > 0 {
				return at, ok
			}
		}
	}
	return at, ok
}

// prompts walks back over the prompts that end the screen, at most as many as the
// returns typed account for, and gives where the first of them begins.
func (x *exchange) prompts() (first, found int) {
	first, found = x.t.screen.last+x.t.findPrompt(x.t.screen.tail()), 1
	for from, line := range x.linesBack() {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		begin := x.t.findPrompt(append(bytes.TrimRight(slices.Clone(line), " "), x.blank()...))
		if begin < 0 {
			break
		}
		first = from + begin
		if found++; begin > 0 || found > len(x.marks) {
			break
		}
	}
	return first, found
}

// blank is the white space that ends the prompt; before it is known, the one that
// stands at the end.
func (x *exchange) blank() string {
	if x.t.known != "" {
		return trailingBlank(x.t.prompt)
	}
	return trailingBlank(string(x.t.screen.tail()))
}

// linesBack goes through the complete lines of the output from the last to the
// first, with the offset of each.
func (x *exchange) linesBack() iter.Seq2[int, []byte] {
	buf := x.t.screen.buf
	return func(yield func(int, []byte) bool) {
		for end := x.t.screen.last; end > x.start; {
			line := buf[x.start : end-1]
			from := x.start + bytes.LastIndexByte(line, '\n') + 1
			if !yield(from, buf[from:end-1]) {
				return
			}
			end = from
		}
	}
}

// finish records that output ends at an offset and which prompt the device waits
// at.
func (x *exchange) finish(end int) bool {
	x.end = end
	tail := x.t.screen.tail()
	x.t.arrived(tail[x.t.findPrompt(tail):])
	return true
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
	if more, err := x.wait(x.quiet(minQuiet)); more || err != nil {
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

// reply answers a question: as the caller said, with the secret where the line
// enters a mode that has one, else with the answer that changes nothing.
func (x *exchange) reply() error {
	if more, err := x.wait(x.quiet(minQuiet)); more || err != nil {
		return err
	}
	q := x.asked()
	if len(x.got.questions) == maxQuestions {
		return errAsks
	}
	x.got.questions = append(x.got.questions, q.Name)
	x.replied = x.t.screen.last

	text, ok := x.t.terms.answers[q.Name]
	if !ok && q.Name == device.QuestionPassword && x.t.plan.takesSecret(x.line) && x.t.terms.secret != nil && !x.got.secret {
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
