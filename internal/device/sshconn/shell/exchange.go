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

	marks   []mark // the marked returns typed
	replied int    // the line of the last question answered; -1 for none

	got answer
}

func (t *terminal) newExchange(line string) *exchange {
	return &exchange{t: t, line: line, replied: -1, end: -1}
}

// mark is a return with blanks before it.
type mark struct {
	blanks int
	at     int // the end of the screen when it was typed
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
		switch n, state := matchEcho(s.buf, x.line, x.t.prompt, x.t.plan.def.Shell.TerminalWidth); state {
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
		return tooLarge(limit)
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
	if x.t.known != "" && !x.t.terms.confirm {
		s := &x.t.screen
		return x.finish(s.last + x.t.findPrompt(s.tail())), nil
	}
	if len(x.marks) == 0 {
		return false, x.mark()
	}
	shown := x.marked()
	if shown.last && (x.t.known == "" || shown.gap == x.t.lead) {
		return x.accept(shown), nil
	}
	// A return is on its way, unless the device threw away what was typed while it
	// was writing, or its answer is there and shows no mark.
	if more, err := x.wait(x.quiet(x.patience())); more || err != nil {
		return false, err
	}
	first, found := x.prompts()
	switch {
	case x.t.echoes == echoesBlanks && shown.last && shown.even > 1:
		return x.accept(shown), nil // it has come to print more or fewer empty lines
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

// accept takes what the marks show for the end of the answer.
func (x *exchange) accept(shown showing) bool {
	x.t.echoes, x.t.lead = echoesBlanks, shown.gap
	return x.finish(x.withoutEchoes(shown.at))
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

// mark types a return with a number of blanks before it, one that output would
// not happen to have behind a prompt, and waits for something to come of it.
func (x *exchange) mark() error {
	const least, kinds = 24, 64
	if len(x.marks) == kinds {
		return errMarks
	}
	var b [1]byte
	var blanks int
	for fresh := false; !fresh; fresh = !slices.ContainsFunc(x.marks, func(m mark) bool { return m.blanks == blanks }) {
		_, _ = rand.Read(b[:])               // never fails
		blanks = least + 2*(int(b[0])%kinds) // even; see behind
	}
	x.marks = append(x.marks, mark{blanks, len(x.t.screen.buf)})
	if err := x.t.write(strings.Repeat(" ", blanks) + "\n"); err != nil {
		return err
	}
	_, err := x.wait(0)
	return err
}

// behind reports whether so many blanks behind a prompt are the mark's. A blank
// of the prompt's own may stand before them.
func (m mark) behind(blanks int) bool { return blanks == m.blanks || blanks == m.blanks+1 }

// showing says how the marks are seen on the screen.
type showing struct {
	at   int  // where the first of the marked lines begins: output ends there
	last bool // the last mark is among them
	gap  int  // empty lines between it and the prompt that stands at the end
	even int  // how many marks, from the last one back, have such a gap
}

// marked looks for the echoes of our marks: prompts with their blanks, and nothing
// behind them but the prompt that now stands at the end.
//
// Some devices print an empty line before each prompt, and how many is known from
// the login. Another number is no proof: a terminal may itself echo what is typed
// while a command runs, and the empty line be the end of a supposed prompt.
func (x *exchange) marked() showing {
	var seen showing
	left := slices.Clone(x.marks)
	gap := 0
	for from, line := range x.linesBack() {
		rest := bytes.TrimRight(line, " ")
		blanks := len(line) - len(rest)
		if len(rest) == 0 {
			gap++
			continue
		}
		i := slices.IndexFunc(left, func(m mark) bool { return m.behind(blanks) })
		begin := x.promptIn(rest)
		if i < 0 || begin < 0 {
			break
		}
		if len(left) == len(x.marks) {
			seen.last, seen.gap = i == len(left)-1, gap
		}
		if gap == seen.gap {
			seen.even++
		}
		seen.at = from + begin
		gap, left = 0, slices.Delete(left, i, i+1)
		if begin > 0 {
			break
		}
	}
	return seen
}

// promptIn finds the prompt in a line whose trailing blanks are gone. Before the
// login is done it must be the one that stands at the end.
func (x *exchange) promptIn(rest []byte) int {
	tail := string(x.t.screen.tail())
	blank := x.t.prompt
	if x.t.known == "" {
		blank = tail
	}
	line := append(slices.Clone(rest), trailingBlank(blank)...)
	if x.t.known == "" && x.t.plan.identity(string(line)) != x.t.plan.identity(tail) {
		return -1
	}
	return x.t.findPrompt(line)
}

// withoutEchoes takes out of the output what the terminal itself echoed of our
// marks while the command ran, and gives where output ends then. Each mark is
// shown by the command line as well, behind that end, so one that stands before it
// is the terminal's doing.
func (x *exchange) withoutEchoes(end int) int {
	s := &x.t.screen
	for i := len(x.marks) - 1; i >= 0; i-- {
		m := x.marks[i]
		echo := append(bytes.Repeat([]byte(" "), m.blanks), '\n')
		if m.at >= end {
			continue
		}
		if at := bytes.Index(s.buf[m.at:end], echo); at >= 0 {
			s.buf = slices.Delete(s.buf, m.at+at, m.at+at+len(echo))
			s.last -= len(echo)
			end -= len(echo)
		}
	}
	return end
}

// prompts walks back over the prompts that end the screen, at most as many as the
// returns typed account for, and gives where the first of them begins.
func (x *exchange) prompts() (first, found int) {
	first, found = x.t.screen.last+x.t.findPrompt(x.t.screen.tail()), 1
	for from, line := range x.linesBack() {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		begin := x.promptIn(bytes.TrimRight(line, " "))
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
