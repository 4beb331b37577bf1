package capture

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/records"
)

const keyAnalyze = "analyze"

// analyzeState is what a later attempt, or the next fleetd, goes by.
type analyzeState struct {
	Run   string    `json:"run"` // names the file of the findings
	Began time.Time `json:"began"`
	IDs   []string  `json:"ids"`   // of what may run on the device, see Keep
	Ended string    `json:"ended"` // why it was stopped
	Left  uint64    `json:"left"`  // rows beyond those that are kept
}

// analyze is one device's part in one attempt. The captures come over SSH and go
// through the analysis; findings alone are written down, so that they are there
// after a restart.
type analyze struct {
	spool string
	spec  *AnalyzeSpec
	dev   *device.Device
	found map[string]probe // by interface

	mu      sync.Mutex // of state and what follows, while streams run
	state   analyzeState
	packets int64
	bytes   int64
	told    time.Time
}

// reap ends what an earlier attempt left running. What was found before stays; what
// passed meanwhile was not seen.
func (a *analyze) reap(ctx context.Context, env operation.Env) (operation.Observation, error) {
	again, err := env.Recall(keyAnalyze, &a.state)
	if err != nil {
		return operation.Observation{}, err
	}
	conn, err := env.Conn(ctx, a.dev)
	if err != nil {
		return operation.Observation{}, a.unfit(ctx, env, err)
	}
	if _, err := Reap(ctx, conn, a.spec.Sudo, a.state.IDs...); err != nil && (again || !fault.Is(err, fault.Refused)) {
		return operation.Observation{}, a.unfit(ctx, env, err)
	}
	if again && a.state.Ended == "" {
		env.Warn(a.dev, "the analysis was interrupted: what passed meanwhile was not looked at")
	}
	return operation.Observation{Verdict: operation.Done, Detail: "nothing of an earlier attempt is left"}, nil
}

// unfit lets the others go on without this device.
func (a *analyze) unfit(ctx context.Context, env operation.Env, err error) error {
	if l, ok := env.(operation.Leaver); ok && ctx.Err() == nil {
		return errors.Join(err, l.Leave(ctx, "it cannot take part"))
	}
	return err
}

func (a *analyze) check(ctx context.Context, env operation.Env) (operation.Observation, error) {
	a.found = map[string]probe{}
	detail := ""
	for _, p := range a.spec.points(a.dev.Name) {
		conn, err := env.Conn(ctx, a.dev)
		var found probe
		if err == nil {
			found, err = ask(ctx, conn, a.dev, p.Interface, p.Filter, a.spec.Sudo)
		}
		if err == nil {
			err = found.check(a.dev, p.Interface, p.Filter)
		}
		if err != nil {
			return operation.Observation{}, a.unfit(ctx, env, err)
		}
		a.found[p.Interface], detail = found, found.version()
	}
	return operation.Observation{Verdict: operation.Done, Detail: detail}, nil
}

// run analyses until the time is over or somebody says stop.
func (a *analyze) run(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if a.state.Ended != "" {
		return operation.Observation{Verdict: operation.Done, Detail: a.state.Ended}, nil
	}
	switch err := env.Ready(ctx); {
	case err != nil && (ctx.Err() != nil || a.state.Run == ""):
		return operation.Observation{}, err
	case err != nil:
		return a.stopped(ctx, env, "not all devices were found again: "+clip(err.Error()))
	}
	if a.state.Run == "" {
		a.state.Run, a.state.Began = "analyze-"+rand.Text(), env.Now()
		if err := env.Remember(ctx, keyAnalyze, a.state); err != nil {
			return operation.Observation{}, err
		}
	}
	lasts := a.spec.LimitSeconds
	if a.spec.DurationSeconds > 0 {
		lasts = min(lasts, a.spec.DurationSeconds)
	}
	left := duration(lasts) - env.Now().Sub(a.state.Began)
	if left <= 0 {
		return a.stopped(ctx, env, endDuration)
	}
	out, err := a.open()
	if err != nil {
		return operation.Observation{}, a.unfit(ctx, env, err)
	}
	stop := newStopper(ctx, nil, env.Stopped(), left)
	points := a.spec.points(a.dev.Name)
	errs := make([]error, len(points))
	var all sync.WaitGroup
	for i, p := range points {
		all.Go(func() { errs[i] = a.stream(ctx, env, p, out, left, stop.stop) })
	}
	all.Wait()
	why := stop.end()
	err = errors.Join(append(errs, out.close())...)
	a.state.Left += out.left
	switch {
	case ctx.Err() != nil:
		return operation.Observation{}, context.Cause(ctx)
	case why == "" && out.rows == 0: // it ended on every interface by itself
		return operation.Observation{}, a.unfit(ctx, env, err)
	case why == "":
		// A failed task has no rows; what was found is worth more.
		env.Warn(a.dev, "the analysis ended before its time: %v", err)
		if err := a.unfit(ctx, env, nil); err != nil {
			return operation.Observation{}, err
		}
		why = endDevice
	case err != nil:
		env.Warn(a.dev, "%v", err)
	}
	return a.stopped(ctx, env, why)
}

func (a *analyze) stopped(ctx context.Context, env operation.Env, why string) (operation.Observation, error) {
	a.state.Ended, a.state.IDs = why, nil
	err := env.Remember(ctx, keyAnalyze, a.state)
	return operation.Observation{Verdict: operation.Done, Detail: fmt.Sprintf("%d packets, ended by %s", a.packets, why)}, err
}

// stream analyses one interface, over as many connections as it takes.
func (a *analyze) stream(ctx context.Context, env operation.Env, p RingPoint, out *findings, left time.Duration, stop <-chan struct{}) error {
	wait, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	defer func() {
		cancel()
		watcher.Wait()
	}()
	watcher.Go(func() {
		select {
		case <-stop:
			cancel()
		case <-wait.Done():
		}
	})
	until := env.Now().Add(left)
	for pause := time.Second; ; pause = min(2*pause, reconnectMax) {
		began := env.Now()
		err := a.once(ctx, env, p, out, until.Sub(began), stop)
		switch {
		case wait.Err() != nil || isClosed(stop):
			return nil
		case err == nil || !fault.KindOf(err).Retryable():
			return err
		}
		env.Warn(a.dev, "%s: the connection was lost, and what passed until it was back was not looked at: %v", p.Interface, err)
		if env.Now().Sub(began) > reconnectMax {
			pause = time.Second
		}
		if !rest(wait, pause) {
			return nil
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// once runs one tcpdump and takes in what it sees.
func (a *analyze) once(ctx context.Context, env operation.Env, p RingPoint, out *findings, left time.Duration, stop <-chan struct{}) error {
	conn, err := env.Conn(ctx, a.dev)
	if err != nil {
		return err
	}
	l := &live{spec: &LiveSpec{Interface: p.Interface, SnapLen: a.spec.SnapLen}, dev: a.dev, found: a.found[p.Interface]}
	filter, apart := exclude(p.Filter, l.found.peer, l.found.own)
	if !apart {
		env.Warn(a.dev, "the device does not say from where it sees us: our own SSH session is analysed as well where it crosses %s", p.Interface)
	}
	k := Keep{ID: "analyze-" + rand.Text(), Args: l.args(filter), Limit: max(left, time.Second) + deadMan, Sudo: a.spec.Sudo}
	if err := a.remember(ctx, env, func() { a.state.IDs = append(a.state.IDs, k.ID) }); err != nil {
		return err
	}
	from, to := io.Pipe()
	cut := records.New(&passing{w: to, tell: func(n int) { a.progress(env, n) }}, records.Limits{})
	scanned := make(chan error, 1)
	go func() {
		err := a.scan(ctx, from, a.dev.Name+":"+p.Interface, p.Interface, out)
		if errors.Is(err, pcap.ErrNotCapture) && !cut.Began() {
			err = nil // it was ended before it began
		}
		_ = from.CloseWithError(err) // nil ends the writer, too
		scanned <- err
	}()
	ended, err := k.Live(ctx, conn, cut, stop)
	_ = to.Close()
	bad := <-scanned
	a.count(cut.Packets())
	if !fault.Is(err, fault.Disconnected) {
		ferr := a.remember(context.WithoutCancel(ctx), env, func() {
			a.state.IDs = slices.DeleteFunc(a.state.IDs, func(id string) bool { return id == k.ID })
		})
		err = errors.Join(err, ferr)
	}
	if n := countOf(ended.Said, "dropped by kernel"); n != nil && *n > 0 {
		env.Warn(a.dev, "%s: %d packets were dropped by the kernel and not looked at", p.Interface, *n)
	}
	switch {
	case bad != nil && ctx.Err() == nil:
		return fault.Wrap(fault.Refused, "read the capture of "+p.Interface+" on "+a.dev.Name, bad)
	case ctx.Err() != nil || isClosed(stop):
		return nil //nolint:nilerr // it was told to end
	}
	if err := l.failure(err, ended, cut); err != nil {
		return err
	}
	return &fault.Error{Kind: fault.Refused, Act: "capture " + p.Interface + " on " + a.dev.Name, Device: a.dev.Name, Stage: "analyze",
		Err: fmt.Errorf("tcpdump ended by itself: %s", complaint(ended.Said)), Next: "start it again"}
}

func (a *analyze) remember(ctx context.Context, env operation.Env, change func()) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	return env.Remember(ctx, keyAnalyze, a.state)
}

func (a *analyze) count(packets int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.packets += packets
}

// progress tells watchers how much was looked at, at most once a second.
func (a *analyze) progress(env operation.Env, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes += int64(n)
	if now := env.Now(); now.Sub(a.told) >= time.Second {
		a.told = now
		env.Progress(a.dev, a.bytes, 0, "bytes analysed")
	}
}

// passing tells how much goes through it.
type passing struct {
	w    io.Writer
	tell func(n int)
}

// Write implements io.Writer.
func (p *passing) Write(b []byte) (int, error) {
	p.tell(len(b))
	return p.w.Write(b)
}
