package shell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/scrapli/scrapligo/driver/network"
	"github.com/scrapli/scrapligo/driver/opoptions"
	"github.com/scrapli/scrapligo/util"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// Options are what a shell needs to know beside the definition.
type Options struct {
	// Device names the device in errors and log records.
	Device string
	// Enable gives the enable password; nil where the device has none. It is called
	// only when the device asks, with the context of the call that made it ask, and
	// its result is not kept.
	Enable func(context.Context) (secret.String, error)
	// CommandTimeout is the time for a command that has none of its own, and for
	// the login altogether; 0 is device.DefaultSSH's.
	CommandTimeout time.Duration
	Logger         *slog.Logger // nil discards
}

// Shell is a device.Shell.
type Shell struct {
	opts   Options
	plan   *plan
	term   *terminal
	drv    *network.Driver
	tie    *adapter
	turn   chan struct{} // holds the one token; whoever has it uses the terminal
	closed sync.Once

	mu     sync.Mutex // guards what follows
	mode   string
	prompt string
	broken error // why the shell was discarded
}

var _ device.Shell = (*Shell)(nil)

// maxLoginText bounds what is printed up to the first prompt.
const maxLoginText = 1 << 20

// Open brings a session to its first prompt, to the working mode of the
// definition, and types what the definition wants typed at login. The shell owns
// ch from here on: it is closed when Open fails, and by Close.
func Open(ctx context.Context, ch Channel, def *device.Definition, opts Options) (*Shell, error) {
	p, err := planFor(def)
	if err != nil {
		_ = ch.Close()
		return nil, &fault.Error{Kind: fault.Unsupported, Act: "open shell", Device: opts.Device, Stage: "session", Err: err}
	}
	if opts.CommandTimeout == 0 {
		opts.CommandTimeout = device.DefaultSSH().CommandTimeout
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Shell{opts: opts, plan: p, term: newTerminal(ch, p), turn: make(chan struct{}, 1)}
	s.tie = newAdapter(s.term)
	if s.drv, err = p.driver(opts.Device, s.tie); err == nil {
		err = s.drv.Driver.Open()
	}
	if err != nil {
		_ = s.Close()
		return nil, &fault.Error{Kind: fault.Internal, Act: "open shell", Device: opts.Device, Stage: "session", Err: err}
	}
	s.turn <- struct{}{}
	err = s.within(ctx, opts.CommandTimeout, terms{limit: maxLoginText}, s.login)
	if err != nil {
		_ = s.Close()
		return nil, s.explain(err, "open shell", "prompt")
	}
	return s, nil
}

func (s *Shell) login() error {
	if err := s.term.login(); err != nil {
		return err
	}
	def := &s.plan.def.Shell
	if err := s.enter(def.WorkingMode); err != nil {
		return err
	}
	for _, line := range def.OnLogin {
		if why, err := s.prepare(line); err != nil {
			return err
		} else if why != "" {
			return &fault.Error{Kind: fault.Refused, Act: line, Stage: "login", Err: fmt.Errorf("the device answers %q", why)}
		}
	}
	for _, line := range def.OnLoginOptional {
		if why, err := s.prepare(line); err != nil {
			return err
		} else if why != "" {
			s.opts.Logger.Debug("optional login command refused", "device", s.opts.Device, "command", line, "answer", why)
		}
	}
	return nil
}

// prepare types a line of our own and gives the device's refusal, if any.
func (s *Shell) prepare(line string) (refusal string, err error) {
	if err := s.send(line); err != nil {
		return "", err
	}
	return s.plan.def.Refusal(s.term.last.text), nil
}

// send types a line through scrapligo. The answer is in s.term.last.
func (s *Shell) send(line string) error {
	_, err := s.drv.Driver.SendCommand(line, opoptions.WithNoStripPrompt(), opoptions.WithExactMatchInput())
	return err
}

// enter walks to a mode.
func (s *Shell) enter(mode string) error {
	if s.term.mode == mode {
		return nil
	}
	before := s.term.terms
	defer func() { s.term.terms = before }()
	s.term.terms.step, s.term.terms.confirm, s.term.terms.limit = true, false, maxLoginText
	err := s.drv.AcquirePriv(mode)
	if errors.Is(err, util.ErrPrivilegeError) {
		return &fault.Error{Kind: fault.Refused, Act: "enter mode " + mode, Stage: "mode", Err: err}
	}
	return err
}

// Run implements device.Shell. While it moves to the command's mode the
// command's answers hold too.
func (s *Shell) Run(ctx context.Context, cmd device.Command) (device.Output, error) {
	out := device.Output{Command: cmd.Line}
	act := "run " + cmd.Line
	cmd, err := s.plan.def.CheckCommand(cmd)
	if err != nil {
		return out, err
	}
	if cmd.Timeout == 0 {
		cmd.Timeout = s.opts.CommandTimeout
	}
	if cmd.MaxBytes == 0 {
		cmd.MaxBytes = device.DefaultMaxOutput
	}
	select {
	case <-s.turn:
	case <-ctx.Done():
		return out, s.explain(stopped(ctx), act, "command")
	}
	defer func() { s.turn <- struct{}{} }()

	started := time.Now()
	t := terms{answers: cmd.Answers, confirm: true, limit: cmd.MaxBytes}
	err = s.within(ctx, cmd.Timeout, t, func() error {
		s.term.last = answer{}
		if s.term.unasked() {
			if err := s.term.settle(); err != nil {
				return err
			}
		}
		if err := s.enter(cmd.Mode); err != nil {
			return err
		}
		out.Prompt = strings.TrimRight(s.term.prompt, " ")
		return s.send(cmd.Line)
	})
	ans := s.term.last
	out.Elapsed = time.Since(started)
	out.Questions = ans.questions
	if out.Prompt != "" { // else the answer is that of a change of mode
		out.Text, out.Truncated = ans.text, ans.truncated
	}
	if err == nil {
		err = s.judge(cmd, ans)
	}
	if err != nil {
		return out, s.explain(err, act, "command")
	}
	return out, nil
}

// judge looks at a complete answer.
func (s *Shell) judge(cmd device.Command, ans answer) error {
	refused := fault.New(fault.Refused, "")
	switch why := s.plan.def.Refusal(ans.text); {
	case ans.truncated:
		return tooLarge(cmd.MaxBytes)
	case ans.safe != "":
		refused.Err = fmt.Errorf("the device asks (%s) and got the answer that changes nothing", ans.safe)
		refused.Next = "give the command an answer to it if you mean it"
	case why != "":
		refused.Err = fmt.Errorf("the device answers %q", why)
	case cmd.NewMode != "" && s.term.mode != cmd.NewMode:
		refused.Err = fmt.Errorf("it ended in mode %s and not in %s", s.term.mode, cmd.NewMode)
	default:
		return nil
	}
	return refused
}

// within runs fn on the terminal under the terms t, ends it when ctx or the time
// is over, and discards the shell when fn did not end at a prompt.
func (s *Shell) within(ctx context.Context, limit time.Duration, t terms, fn func() error) error {
	if err := s.discarded(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no complete answer within %v", limit))
	defer cancel()
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	// What blocks on the channel itself ends when the channel does.
	release := context.AfterFunc(ctx, s.abort)
	defer release()

	if s.opts.Enable != nil {
		t.secret = func() (secret.String, error) { return s.opts.Enable(ctx) }
	}
	t.done = ctx.Done()
	s.term.terms = t
	err := fn()
	if err != nil && ctx.Err() != nil {
		end := stopped(ctx)
		if end.Kind == fault.Timeout {
			end.Err = s.lastSeen(end.Err)
		}
		err = end
	}
	s.mu.Lock()
	s.mode, s.prompt = s.term.mode, strings.TrimRight(s.term.prompt, " ")
	if err != nil && errors.Is(s.broken, errClosed) {
		err = fault.New(fault.Disconnected, "the shell was closed meanwhile")
	}
	s.mu.Unlock()
	if kind := fault.KindOf(err); err != nil && kind != fault.Refused {
		s.discard(err)
	}
	return err
}

// stopped is the error for work that the end of its context stopped.
func stopped(ctx context.Context) *fault.Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &fault.Error{Kind: fault.Timeout, Err: context.Cause(ctx)}
	}
	return &fault.Error{Kind: fault.Canceled, Err: context.Cause(ctx)}
}

// discard ends a shell that cannot be trusted any more.
func (s *Shell) discard(why error) {
	s.mu.Lock()
	if s.broken == nil {
		s.broken = why
	}
	s.mu.Unlock()
	s.abort()
}

// abort makes everything that blocks return, on either side of scrapligo.
func (s *Shell) abort() {
	_ = s.term.hangUp()
	s.tie.stop()
}

func (s *Shell) discarded() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		return nil
	}
	return &fault.Error{Kind: fault.Disconnected, Stage: "session", Err: fmt.Errorf("the shell was given up: %w", textOf(s.broken))}
}

// textOf keeps the words of an error and drops its kind: a shell given up after
// a timeout is disconnected, not timed out again.
func textOf(err error) error { return errors.New(err.Error()) }

// explain gives an error its kind and says what was being done, where.
func (s *Shell) explain(err error, act, stage string) error {
	e := &fault.Error{Act: act, Device: s.opts.Device, Stage: stage, Err: err}
	var have *fault.Error
	switch {
	case errors.Is(err, errDropped): // first, as the channel's own reason may be anything
		e.Kind = fault.Disconnected
	case errors.As(err, &have):
		e.Kind = have.Kind
		if have.Stage != "" {
			e.Stage = have.Stage
		}
		if e.Kind == fault.Timeout && stage == "prompt" {
			e.Next = "if that is its prompt, correct the modes of the platform definition"
		}
	case errors.Is(err, errTooLarge):
		e.Kind = fault.TooLarge
	case errors.Is(err, errEcho), errors.Is(err, errAsks), errors.Is(err, errMarks), errors.Is(err, errUnasked), errors.Is(err, errStopped):
		e.Kind = fault.Disconnected
	default:
		e.Kind = fault.Internal
	}
	return e
}

// lastSeen adds what the device wrote last, which is what a person needs to see
// why it was not taken for a prompt.
func (s *Shell) lastSeen(err error) error {
	const most = 80
	tail := s.term.screen.tail()
	switch {
	case s.term.screen.raw == 0:
		return fmt.Errorf("%w: the device wrote nothing", err)
	case len(tail) == 0:
		return fmt.Errorf("%w: the device's last line is complete, and no prompt follows", err)
	case len(tail) > most:
		tail = tail[len(tail)-most:]
	}
	return fmt.Errorf("%w: the device stands at %q", err, tail)
}

// Mode implements device.Shell.
func (s *Shell) Mode() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode
}

// Prompt implements device.Shell.
func (s *Shell) Prompt() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.prompt
}

// Close implements device.Shell. A command under way ends with
// fault.Disconnected.
func (s *Shell) Close() error {
	var err error
	s.closed.Do(func() {
		s.logout()
		err = s.term.hangUp()
		s.discard(errClosed)
		s.term.reader.stop()
		if s.drv != nil {
			// The reading goroutine of scrapligo has seen the end; this lets it go.
			err = errors.Join(err, s.drv.Driver.Close())
		}
	})
	return err
}

var errClosed = errors.New("closed")

// logout types the definition's farewell, without waiting for what comes of it,
// where the shell is healthy and nobody uses it.
func (s *Shell) logout() {
	const patience = 50 * time.Millisecond
	line := s.plan.def.Shell.Logout
	if line == "" || s.discarded() != nil {
		return
	}
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	default:
		return
	}
	// A device that reads nothing must not hold up the closing.
	timer := time.AfterFunc(patience, s.abort)
	defer timer.Stop()
	s.term.terms = terms{}
	_ = s.term.write(line + "\n")
}
