package notify

import (
	"context"
	"crypto/rand"
	"log/slog"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"capfleet/internal/config"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Options are what a Notifier is made of.
type Options struct {
	Ledger *ledger.DB // opened with Namespaces(); stays the caller's to close
	Config *config.Notifications
	// Result reads what a job gave, for a delivery. fault.NotFound is a job that is gone.
	Result func(ctx context.Context, job string) (Result, error)
	// Host is the name under which syslog knows this host; "" is "-".
	Host   string
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// Notifier keeps the outbox and delivers what is in it. All methods may be called at
// once.
type Notifier struct {
	ledger    *ledger.DB
	rules     []rule
	receivers map[string]*receiver
	result    func(context.Context, string) (Result, error)
	log       *slog.Logger
	now       func() time.Time
}

// rule is a config.Rule with a name that is the same as long as its text is.
type rule struct{ config.Rule }

func (r rule) on(m Message) bool {
	if !slices.Contains(r.On, string(m.Condition)) {
		return false
	}
	return m.Condition != JobFailed || len(r.Operations) == 0 || slices.Contains(r.Operations, m.Operation)
}

// receiver is one receiver with its worker's state.
type receiver struct {
	config.Receiver
	sender sender
	woken  chan struct{} // holds a token while there may be something to send
	back   chan struct{} // holds a token when the receiver has just taken something

	mu       sync.Mutex
	lastSent time.Time
	lastErr  string
	pause    time.Duration
}

// sender sends to one receiver.
type sender interface {
	// send sends in order, and gives how many were taken, and why the next was not. An
	// error of kind Refused is about that entry alone.
	send(ctx context.Context, batch []outgoing) (taken int, err error)
	// target says where it sends to, without secrets.
	target() string
	close()
}

// outgoing is an entry with what has to be read for it.
type outgoing struct {
	*entry
	result *Result
}

// New makes a Notifier. Nothing is sent before Run.
func New(opts Options) (*Notifier, error) {
	n := &Notifier{ledger: opts.Ledger, receivers: map[string]*receiver{}, result: opts.Result, log: opts.Logger, now: opts.Now}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.now == nil {
		n.now = time.Now
	}
	if opts.Config == nil {
		return n, nil
	}
	for _, r := range opts.Config.Rules {
		n.rules = append(n.rules, rule{r})
	}
	for _, c := range opts.Config.Receivers {
		r := &receiver{Receiver: c, woken: make(chan struct{}, 1), back: make(chan struct{}, 1)}
		var err error
		switch {
		case c.Webhook != nil:
			r.sender, err = newWebhook(*c.Webhook)
		case c.Syslog != nil:
			r.sender, err = newSyslog(*c.Syslog, opts.Host)
		default:
			r.sender = &directory{*c.Directory}
		}
		if err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Act: "set up notify receiver " + c.Name, Err: err}
		}
		n.receivers[c.Name] = r
	}
	return n, nil
}

// Receivers gives the names of the receivers in order.
func (n *Notifier) Receivers() []string {
	names := make([]string, 0, len(n.receivers))
	for name := range n.receivers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// CheckDelivery refuses receivers that do not exist or take no results.
func (n *Notifier) CheckDelivery(names []string) error {
	for _, name := range names {
		r, ok := n.receivers[name]
		switch {
		case !ok:
			return &fault.Error{Kind: fault.Invalid, Act: "deliver to " + line(name), Err: fault.New(fault.Invalid, "fleetd's configuration names no such receiver"),
				Next: "fleetctl notify list shows them"}
		case r.Syslog != nil:
			return fault.New(fault.Invalid, "receiver %s is a syslog, which takes messages and no results", name)
		}
	}
	return nil
}

// The pauses of a worker.
const (
	pauseLeast = time.Second
	pauseMost  = 5 * time.Minute
	// lookEvery bounds a wait, so that a clock that was set is noticed.
	lookEvery = time.Minute
	// batchMost is how many are sent in one go.
	batchMost = 50
	// sendTimeout bounds one go.
	sendTimeout = 30 * time.Second
)

// Run delivers until ctx ends. One Run at a time.
func (n *Notifier) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range n.receivers {
		wg.Go(func() {
			defer r.sender.close()
			for ctx.Err() == nil {
				wait, trouble := n.serve(ctx, r)
				woken := r.woken
				if trouble {
					woken = nil // more to send does not bring a receiver back
				}
				timer := time.NewTimer(wait)
				select {
				case <-timer.C:
				case <-woken:
				case <-r.back:
				case <-ctx.Done():
				}
				timer.Stop()
			}
		})
	}
	wg.Wait()
}

// wake has a receiver's worker look.
func (n *Notifier) wake(receiver string) {
	if r := n.receivers[receiver]; r != nil {
		select {
		case r.woken <- struct{}{}:
		default:
		}
	}
}

// Wake has all workers look. It is called after a transaction that put something into
// the outbox; without it they look within a minute.
func (n *Notifier) Wake() {
	for name := range n.receivers {
		n.wake(name)
	}
}

// serve sends what is due for a receiver, and gives how long there is nothing to do; in
// trouble how long the receiver is to be left alone, whatever comes.
func (n *Notifier) serve(ctx context.Context, r *receiver) (wait time.Duration, trouble bool) {
	for {
		due, next, err := n.waiting(ctx, r.Name, batchMost)
		if err != nil {
			return n.trouble(ctx, r, err), true
		}
		if len(due) == 0 {
			if next.IsZero() {
				return lookEvery, false
			}
			return min(max(next.Sub(n.now()), time.Millisecond), lookEvery), false
		}
		if wait, ok := n.sendBatch(ctx, r, due); !ok {
			return wait, true
		}
	}
}

// sendBatch sends entries; ok is false when the receiver is to be left alone for a
// while.
func (n *Notifier) sendBatch(ctx context.Context, r *receiver, due []entry) (wait time.Duration, ok bool) {
	batch, gone, err := n.prepare(ctx, r, due)
	if err != nil {
		return n.trouble(ctx, r, err), false
	}
	if len(gone) > 0 {
		if err := n.done(ctx, gone); err != nil {
			return n.trouble(ctx, r, err), false
		}
	}
	if len(batch) == 0 {
		return 0, true
	}
	sending, cancel := context.WithTimeout(ctx, sendTimeout)
	taken, err := r.sender.send(sending, batch)
	cancel()
	if taken > 0 {
		sent := make([]entry, taken)
		for i := range sent {
			sent[i] = *batch[i].entry
		}
		// Taken is taken, also while fleetd stops: what is written now is not sent twice.
		if derr := n.done(context.WithoutCancel(ctx), sent); derr != nil {
			return n.trouble(ctx, r, derr), false
		}
		r.sent(n.now())
	}
	switch {
	case err == nil:
		return 0, true
	case ctx.Err() != nil:
		return 0, false
	}
	failed := *batch[taken].entry
	alone := fault.Is(err, fault.Refused)
	var until time.Time // at once, in its order, once the receiver is tried again
	if alone {
		until = n.now().Add(backoff(failed.Attempts))
	}
	if perr := n.postpone(ctx, failed, until, err); perr != nil {
		return n.trouble(ctx, r, perr), false
	}
	if alone {
		r.failed(err)
		n.log.Warn("receiver refused a message; it is tried again", "receiver", r.Name, "id", failed.id(), "attempts", failed.Attempts+1, "err", err)
		return 0, true
	}
	return n.trouble(ctx, r, err), false
}

// prepare reads what deliveries are about, and finds what is not to be sent any more.
func (n *Notifier) prepare(ctx context.Context, r *receiver, due []entry) (batch []outgoing, gone []entry, err error) {
	for i := range due {
		e := &due[i]
		if n.now().Sub(e.Queued) > giveUp {
			n.log.Error("given up on a message that could not be delivered for a week", "receiver", r.Name, "id", e.id(), "attempts", e.Attempts, "err", e.LastError)
			gone = append(gone, *e)
			continue
		}
		out := outgoing{entry: e}
		if e.Delivery != nil {
			result, err := n.result(ctx, e.Delivery.Job)
			if fault.Is(err, fault.NotFound) {
				n.log.Error("result not delivered: its job is gone", "receiver", r.Name, "job", e.Delivery.Job, "schedule", e.Delivery.Schedule)
				gone = append(gone, *e)
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			out.result = &result
			batch = append(batch, out)
			break // one at a time: a result may be large
		}
		batch = append(batch, out)
	}
	return batch, gone, nil
}

// trouble notes that a receiver could not be served, and gives how long to leave it
// alone.
func (n *Notifier) trouble(ctx context.Context, r *receiver, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	r.failed(err)
	r.mu.Lock()
	r.pause = min(max(2*r.pause, pauseLeast), pauseMost)
	pause := jittered(r.pause)
	r.mu.Unlock()
	n.log.Warn("receiver could not be told; trying again", "receiver", r.Name, "in", pause, "err", err)
	return pause
}

func (r *receiver) sent(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSent, r.lastErr, r.pause = at, "", 0
}

func (r *receiver) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr = line(err.Error())
}

// backoff is how long an entry waits after so many failed attempts.
func backoff(attempts int) time.Duration {
	pause := pauseLeast
	for range min(attempts, 20) {
		pause = min(2*pause, pauseMost)
	}
	return jittered(pause)
}

func jittered(d time.Duration) time.Duration {
	return d - time.Duration(mrand.Int64N(int64(d/4)+1)) //nolint:gosec // spreads load, hides nothing
}

// Status is how a receiver does.
type Status struct {
	Name, Kind, Target string
	Conditions         []string // of the rules that name it
	Waiting            int
	Oldest             time.Time // of what waits; zero when nothing does
	LastSent           time.Time // since start; zero is never
	LastError          string    // since it last took something
}

// List tells how the receivers do, in order of name.
func (n *Notifier) List(ctx context.Context) ([]Status, error) {
	var all []Status
	for _, name := range n.Receivers() {
		r := n.receivers[name]
		s := Status{Name: name, Kind: r.kind(), Target: r.sender.target()}
		for _, rule := range n.rules {
			if slices.Contains(rule.To, name) {
				s.Conditions = append(s.Conditions, rule.On...)
			}
		}
		slices.Sort(s.Conditions)
		s.Conditions = slices.Compact(s.Conditions)
		due, err := n.box(ctx, name)
		if err != nil {
			return nil, err
		}
		s.Waiting = due.n
		s.Oldest = due.oldest
		r.mu.Lock()
		s.LastSent, s.LastError = r.lastSent, r.lastErr
		r.mu.Unlock()
		if s.LastError == "" {
			s.LastError = due.err
		}
		all = append(all, s)
	}
	return all, nil
}

func (r *receiver) kind() string {
	switch {
	case r.Webhook != nil:
		return "webhook"
	case r.Syslog != nil:
		return "syslog"
	default:
		return "directory"
	}
}

// SendTest sends a receiver a message of condition "test", past the outbox, and gives
// the message once it was taken.
func (n *Notifier) SendTest(ctx context.Context, name, by string) (Message, error) {
	r, ok := n.receivers[name]
	if !ok {
		return Message{}, &fault.Error{Kind: fault.NotFound, Err: fault.New(fault.NotFound, "there is no receiver %q", line(name)), Next: "fleetctl notify list shows them"}
	}
	m := Message{ID: "test-" + rand.Text(), Condition: Test, Severity: Notice, Time: n.now().UTC().Truncate(time.Millisecond),
		Summary: "a test of notifications, asked for by " + line(by)}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if _, err := r.sender.send(ctx, []outgoing{{entry: &entry{Message: &m}}}); err != nil {
		return Message{}, &fault.Error{Kind: fault.KindOf(err), Act: "send a test to receiver " + name, Err: err}
	}
	r.sent(n.now())
	select {
	case r.back <- struct{}{}:
	default:
	}
	return m, nil
}
