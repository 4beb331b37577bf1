package capture

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

const (
	// pollPause is between two looks at what can only be asked for: the rings' life,
	// another job, a BMC.
	pollPause    = 5 * time.Second
	reconnectMax = 30 * time.Second
	// endPatience bounds what is done for a job that was canceled.
	endPatience = 30 * time.Second
)

// watch is the triggers of one device at work.
type watch struct {
	*ring
	env    operation.Env
	cancel context.CancelFunc
	wg     sync.WaitGroup
	fired  chan string   // what happened; the first counts
	opened chan struct{} // closed once the log is followed
	failed chan error    // why it never can be
	dead   chan struct{} // closed when no ring of the device runs any more

	mu  sync.Mutex
	log logPlace
}

func (r *ring) watch(ctx context.Context, env operation.Env) (*watch, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &watch{ring: r, env: env, cancel: cancel, fired: make(chan string, 8), opened: make(chan struct{}), failed: make(chan error, 1),
		dead: make(chan struct{}), log: r.state.Log}, ctx
}

// stop ends the triggers and waits for them.
func (w *watch) stop() {
	w.cancel()
	w.wg.Wait()
}

func (w *watch) fire(why string) {
	select {
	case w.fired <- why:
	default:
	}
}

// capture begins the rings with those of the other devices, watches them, and
// ends them when one device's trigger has fired, or somebody says so.
func (r *ring) capture(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if p := r.state.Phase; p == phaseStopped || p == phaseCollected {
		return operation.Observation{Verdict: operation.Done, Detail: r.state.Why}, r.leave(ctx, env, "its rings were stopped before")
	}
	w, wctx := r.watch(ctx, env)
	defer w.stop()
	if err := w.begin(ctx, wctx); err != nil {
		return operation.Observation{}, err
	}
	if r.state.Phase == phaseRunning {
		if err := w.await(ctx); err != nil {
			return operation.Observation{}, err
		}
	}
	w.stop()
	if err := r.endAll(ctx, env); err != nil {
		return operation.Observation{}, err
	}
	return operation.Observation{Verdict: operation.Done, Detail: r.state.Why}, nil
}

// endAll ends the rings, over a connection that may have to be made anew.
func (r *ring) endAll(ctx context.Context, env operation.Env) error {
	r.state.Ordered = env.Now()
	if err := r.insist(ctx, env, func() error { return r.end(ctx, env) }); err != nil {
		return err
	}
	r.state.Stopped = env.Now()
	return r.remember(ctx, env, phaseStopped)
}

// insist tries something again while the connection fails.
func (r *ring) insist(ctx context.Context, env operation.Env, act func() error) error {
	const tries = 6
	pause := time.Second
	for try := 1; ; try++ {
		err := act()
		if err == nil || !fault.KindOf(err).Retryable() || try == tries || ctx.Err() != nil {
			return err
		}
		env.Logger().Info("connection failed, trying again", "device", r.dev.Name, "err", err)
		if !rest(ctx, pause) {
			return err
		}
		pause = min(2*pause, reconnectMax)
	}
}

func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// begin starts the triggers and then, together with the other devices, the rings:
// what is written to the log while they start is not missed.
func (w *watch) begin(ctx, wctx context.Context) error {
	r, env := w.ring, w.env
	found := r.state.Phase == phaseRunning
	if !found {
		r.plan(env)
		if err := r.remember(ctx, env, phaseStarting); err != nil {
			return err
		}
	}
	if err := w.triggers(ctx, wctx); err != nil {
		if found && ctx.Err() == nil {
			w.fire("the trigger was lost: " + err.Error())
			return nil
		}
		return r.unfit(ctx, env, err)
	}
	if !found {
		r.state.Log = w.place()
		if err := r.remember(ctx, env, phaseStarting); err != nil {
			return err
		}
		if err := r.folder(ctx, env); err != nil {
			return r.unfit(ctx, env, err)
		}
	}
	switch err := env.Ready(ctx); {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil && found:
		w.fire("not all devices were found again: " + clip(err.Error()))
		return nil
	case err != nil:
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
		defer cancel()
		return errors.Join(err, r.remove(clean, env))
	case found:
		if !r.state.Triggered.IsZero() {
			w.fire(r.state.Why)
		}
		return nil
	}
	r.state.Began = env.Now()
	if err := r.begin(ctx, env); err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
		defer cancel()
		return r.unfit(ctx, env, errors.Join(err, r.discard(clean, env)))
	}
	return w.save(ctx, func() {})
}

// triggers starts what watches for a reason to stop. It returns once the log is
// followed.
func (w *watch) triggers(ctx, wctx context.Context) error {
	s := w.spec
	if s.UntilLog != "" {
		expr, err := regexp.Compile(s.UntilLog)
		if err != nil {
			return err
		}
		w.wg.Go(func() { w.followLog(wctx, expr) })
		select {
		case <-w.opened:
		case err := <-w.failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if s.UntilSEL != "" {
		if err := w.baseline(ctx); err != nil {
			return err
		}
		expr, err := regexp.Compile(s.UntilSEL)
		if err != nil {
			return err
		}
		w.wg.Go(func() { w.poll(wctx, func() bool { return w.newEvent(wctx, expr) }) })
	}
	if s.UntilJob != "" {
		w.wg.Go(func() { w.poll(wctx, func() bool { return w.otherJob(wctx) }) })
	}
	return nil
}

// poll asks again and again until it is told to stop asking.
func (w *watch) poll(ctx context.Context, enough func() bool) {
	for !enough() {
		if !rest(ctx, pollPause) {
			return
		}
	}
}

// followLog follows the log over as many connections as it takes.
func (w *watch) followLog(ctx context.Context, expr *regexp.Regexp) {
	var first sync.Once
	id := rand.Text()
	for n, pause := 0, time.Second; ctx.Err() == nil; n++ {
		conn, err := w.env.Conn(ctx, w.dev)
		var line string
		if err == nil {
			var at logPlace
			line, at, err = followLog(ctx, conn, fmt.Sprintf("log-%s-%d", id, n), w.spec.Log, w.spec.Sudo, expr, w.place(), duration(w.spec.LimitSeconds), func() {
				first.Do(func() { close(w.opened) })
				pause = time.Second
			}, w.reached)
			w.reached(at)
		}
		switch {
		case line != "":
			w.fire("log line: " + clip(line))
			return
		case ctx.Err() != nil:
			return
		case !fault.KindOf(err).Retryable():
			select {
			case <-w.opened:
				w.env.Warn(w.dev, "the log is not followed any more: %v", err)
			default:
				w.failed <- err
			}
			return
		}
		w.env.Logger().Info("log lost, following it again", "device", w.dev.Name, "err", err)
		if !rest(ctx, pause) {
			return
		}
		pause = min(2*pause, reconnectMax)
	}
}

func (w *watch) place() logPlace {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log
}

func (w *watch) reached(at logPlace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = at
}

// baseline notes which events are old.
func (w *watch) baseline(ctx context.Context) error {
	if w.opts.Events == nil {
		return w.refuse(fault.Unsupported, "watch the event log", "", "this fleetd has no reader of event logs")
	}
	if w.state.SeenSet {
		return nil
	}
	events, err := w.opts.Events(ctx, w.dev)
	if err != nil {
		return err
	}
	for _, e := range events {
		w.state.Seen = append(w.state.Seen, e.ID)
	}
	const most = 4000 // records; a BMC's log is smaller
	if len(w.state.Seen) > most {
		w.state.Seen = w.state.Seen[len(w.state.Seen)-most:]
	}
	w.state.SeenSet = true
	return nil
}

// newEvent looks for an event that is new and meant.
func (w *watch) newEvent(ctx context.Context, expr *regexp.Regexp) bool {
	events, err := w.opts.Events(ctx, w.dev)
	if err != nil {
		w.env.Logger().Info("event log cannot be read now", "device", w.dev.Name, "err", err)
		return false
	}
	for _, e := range events {
		if !slices.Contains(w.state.Seen, e.ID) && expr.MatchString(e.Text) {
			w.fire("event: " + clip(e.Text))
			return true
		}
	}
	return false
}

// otherJob looks at the job that is waited for.
func (w *watch) otherJob(ctx context.Context) bool {
	news, err := w.opts.Job(ctx, w.spec.UntilJob)
	switch {
	case ctx.Err() != nil:
		return true
	case fault.Is(err, fault.NotFound):
		w.fire("job " + w.spec.UntilJob + " is not known any more")
		return true
	case err != nil:
		w.env.Logger().Info("job cannot be looked at now", "device", w.dev.Name, "err", err)
		return false
	case news.Failed || news.Ended:
		w.fire("job " + w.spec.UntilJob + ": " + clip(news.Why))
		return true
	}
	return false
}

// live notices that the rings of the device have ended by themselves.
func (w *watch) live(ctx context.Context) bool {
	conn, err := w.env.Conn(ctx, w.dev)
	if err != nil {
		return false // they go on without us
	}
	now, err := w.running(ctx, conn)
	if err != nil {
		return false
	}
	some := false
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.state.Rings {
		if now[f].alive {
			some = true
			continue
		}
		if f.Ended == "" {
			f.Ended = now[f].why
			if f.Ended == "" {
				f.Ended = "died"
			}
			w.env.Warn(w.dev, "the capture on %s ended by itself: %s", f.Interface, endedBy(f.Ended))
		}
	}
	if !some {
		close(w.dead)
	}
	return !some
}

func endedBy(why string) string {
	switch why {
	case "floor":
		return "the disk was nearly full (--min-free)"
	case "limit":
		return "its time limit was over (--limit)"
	case "died":
		return "tcpdump is gone"
	}
	return why
}

// await waits for the end of the rings and says in the state why it came.
func (w *watch) await(ctx context.Context) error {
	r, env := w.ring, w.env
	wctx, cancel := context.WithCancel(ctx)
	var polls sync.WaitGroup
	// What goes on about the rings ends before the rings do: a turn of a ring that
	// is half done would begin a file behind their end.
	quiet := func() {
		cancel()
		polls.Wait()
	}
	defer quiet()
	polls.Go(func() { w.poll(wctx, func() bool { return w.live(wctx) }) })
	if r.state.Rotated {
		for _, f := range r.state.Rings {
			polls.Go(func() { w.rotate(wctx, f) })
		}
	}
	due := func(seconds float64) (<-chan time.Time, func()) {
		if seconds == 0 {
			return nil, func() {}
		}
		t := time.NewTimer(duration(seconds) - env.Now().Sub(r.state.Began))
		return t.C, func() { t.Stop() }
	}
	over, stopOver := due(r.spec.DurationSeconds)
	defer stopOver()
	limit, stopLimit := due(r.spec.LimitSeconds)
	defer stopLimit()
	save := time.NewTicker(placeSaved)
	defer save.Stop()
	for {
		select {
		case <-env.Stopped():
			w.because("stopped together with the other devices")
			return nil
		case <-over:
			return w.all(ctx, fmt.Sprintf("the time of %v is over", duration(r.spec.DurationSeconds)))
		case <-limit:
			return w.all(ctx, fmt.Sprintf("the limit of %v is over", duration(r.spec.LimitSeconds)))
		case why := <-w.fired:
			return w.after(ctx, why, quiet)
		case <-w.dead:
			w.because("ended by itself: " + w.ends())
			return r.leave(ctx, env, "its rings ended by themselves")
		case <-save.C:
			if err := w.savePlace(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return w.interrupted(ctx, quiet)
		}
	}
}

// placeSaved is how often it is kept how far the log was read.
const placeSaved = 10 * time.Second

func (w *watch) savePlace(ctx context.Context) error {
	w.mu.Lock()
	moved := w.log != w.state.Log
	w.mu.Unlock()
	if !moved {
		return nil
	}
	return w.save(ctx, func() {})
}

// save changes the state of running rings and remembers it.
func (w *watch) save(ctx context.Context, change func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.state.Log = w.log
	return w.remember(ctx, w.env, phaseRunning)
}

func (w *watch) because(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Why == "" {
		w.state.Why = why
	}
}

func (w *watch) ends() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, f := range w.state.Rings {
		if why := endedBy(f.Ended); !slices.Contains(all, why) {
			all = append(all, why)
		}
	}
	return strings.Join(all, ", ")
}

// all has every device stop.
func (w *watch) all(ctx context.Context, why string) error {
	w.because(why)
	return w.env.Stop(ctx, why)
}

// after waits for what is to be captured behind the trigger. A fleetd that is
// killed meanwhile knows of it.
func (w *watch) after(ctx context.Context, why string, quiet func()) error {
	w.because(why)
	if w.state.Triggered.IsZero() {
		if err := w.save(ctx, func() { w.state.Triggered = w.env.Now() }); err != nil {
			return err
		}
	}
	t := time.NewTimer(duration(*w.spec.AfterSeconds) - w.env.Now().Sub(w.state.Triggered))
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.env.Stopped():
	case <-w.dead:
	case <-ctx.Done():
		return w.interrupted(ctx, quiet)
	}
	return w.all(ctx, why)
}

// interrupted leaves the rings to the next fleetd, or ends them because the job
// was canceled. The files stay on the device: a retry of the job collects them.
func (w *watch) interrupted(ctx context.Context, quiet func()) error {
	quiet()
	cause := context.Cause(ctx)
	if errors.Is(cause, fault.ErrStopping) {
		return fault.Wrap(fault.Canceled, "leave the rings to the next start", cause)
	}
	w.because("canceled")
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
	defer cancel()
	err := w.ring.end(clean, w.env)
	if err == nil {
		w.state.Stopped = w.env.Now()
		err = w.remember(clean, w.env, phaseStopped)
		w.env.Warn(w.dev, "canceled: what was captured is in %s; fleetctl job retry collects it", w.state.Directory)
	}
	return errors.Join(fault.Wrap(fault.Canceled, "capture", cause), err)
}
