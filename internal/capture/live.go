package capture

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"capfleet/internal/capture/capturejob"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/pcap/records"
	"capfleet/internal/stream"
)

// Row is what a live capture was, once it has ended.
type Row = capturejob.LiveRow

// What ended a capture.
const (
	endPackets  = "packets"
	endBytes    = "bytes"
	endDuration = "duration"
	endReader   = "reader"
	endStop     = "stop"
	endDevice   = "device" // tcpdump by itself, or the device's guard
)

const (
	// readerPatience is how long a capture waits for its reader.
	readerPatience = 15 * time.Second
	// deadMan is how much longer than its duration the device lets a capture be.
	deadMan = 15 * time.Second

	keyRun = "run"
)

// remembered is what a later attempt must know to clear up after this one.
type remembered struct {
	ID string `json:"id"`
	// SSL says that the setting was put on and has to be off afterwards.
	SSL bool `json:"ssl,omitempty"`
}

// sslProvider is the BIG-IP's setting without which --f5 ssl shows nothing, and
// which must not stay on.
const sslProvider = "tcpdump.sslprovider"

type live struct {
	streams *stream.Hub
	spec    *LiveSpec
	dev     *device.Device
	found   probe
	ssl     bool // the setting has to be put on, and off again
}

func liveSteps(streams *stream.Hub, spec *LiveSpec, dev *device.Device) []operation.Step {
	l := &live{streams: streams, spec: spec, dev: dev}
	return []operation.Step{
		{Name: "reap", Observe: l.reap},
		{Name: "check", Observe: l.check},
		{Name: "capture", Observe: l.capture},
	}
}

// reap ends what an earlier attempt left behind, and what anybody's is overdue. A
// capture that was cut is not begun again: what its reader has would have a hole
// that nobody sees.
func (l *live) reap(ctx context.Context, env operation.Env) (operation.Observation, error) {
	var before remembered
	again, err := env.Recall(keyRun, &before)
	if err != nil {
		return operation.Observation{}, err
	}
	conn, err := env.Conn(ctx, l.dev)
	if err != nil {
		return operation.Observation{}, err
	}
	var ids []string
	if again {
		ids = append(ids, before.ID)
	}
	runs, err := Reap(ctx, conn, l.spec.Sudo, ids...)
	if err != nil && (again || !fault.Is(err, fault.Refused)) {
		return operation.Observation{}, err
	}
	for _, r := range runs {
		if r.State == "ended" && r.ID != before.ID {
			env.Warn(l.dev, "process %d of capture %s was overdue and has been ended", r.PID, r.ID)
		}
	}
	if again && before.SSL {
		// The device does it by itself, but for one that was switched off meanwhile and
		// has the setting in its saved configuration.
		if err := l.disableSSL(ctx, conn); err != nil {
			return operation.Observation{}, err
		}
	}
	if again {
		if err := env.Remember(ctx, keyRun, nil); err != nil {
			return operation.Observation{}, err
		}
		return operation.Observation{}, &fault.Error{Kind: fault.Conflict, Act: "capture on " + l.dev.Name, Device: l.dev.Name, Stage: "reap",
			Err: errors.New("the capture was cut, by its connection or with fleetd; nothing of it runs on the device any more"), Next: "start it again"}
	}
	return operation.Observation{Verdict: operation.Done, Detail: "nothing of an earlier capture is left"}, nil
}

func (l *live) check(ctx context.Context, env operation.Env) (operation.Observation, error) {
	conn, err := env.Conn(ctx, l.dev)
	if err != nil {
		return operation.Observation{}, err
	}
	if l.found, err = ask(ctx, conn, l.dev, l.spec.Interface, l.spec.Filter, l.spec.Sudo); err != nil {
		return operation.Observation{}, err
	}
	if err := l.found.check(l.dev, l.spec.Interface, l.spec.Filter); err != nil {
		return operation.Observation{}, err
	}
	if l.spec.secrets() {
		if err := l.checkSSL(ctx, env, conn); err != nil {
			return operation.Observation{}, err
		}
	}
	if !l.found.flushes() {
		env.Warn(l.dev, "%s has no -U: packets show when its buffer is full. Traffic pushes them through: add \"or icmp\" to the filter and run a ping", l.found.version())
	}
	return operation.Observation{Verdict: operation.Done, Detail: l.found.version()}, nil
}

var sslValue = regexp.MustCompile(`value "?([a-z]+)"?`)

// checkSSL finds out what the setting is, and so what it must be afterwards.
func (l *live) checkSSL(ctx context.Context, env operation.Env, conn device.Conn) error {
	refuse := func(err error) error {
		return &fault.Error{Kind: fault.Unsupported, Act: "read " + sslProvider, Device: l.dev.Name, Stage: "check", Err: err, Next: "it needs TMOS 15.0 or later, and a login that may set db variables"}
	}
	res, err := conn.Exec(ctx, device.ExecRequest{Args: []string{"tmsh", "-q", "list", "sys", "db", sslProvider, "value"}, MaxBytes: 64 << 10})
	if err != nil {
		return err
	}
	text := device.CleanText(res.Stdout)
	m := sslValue.FindStringSubmatch(text)
	if res.Status != 0 || m == nil {
		return refuse(errors.New(clip(text + device.CleanText(res.Stderr))))
	}
	if l.ssl = m[1] == "disable"; !l.ssl {
		env.Warn(l.dev, "%s was %s already and is left so", sslProvider, m[1])
	}
	return nil
}

// disableSSL puts the setting off.
func (l *live) disableSSL(ctx context.Context, conn device.Conn) error {
	res, err := conn.Exec(ctx, device.ExecRequest{Args: []string{"tmsh", "-q", "modify", "sys", "db", sslProvider, "value", "disable"}, MaxBytes: 64 << 10})
	if err == nil && res.Status != 0 {
		err = &fault.Error{Kind: fault.Conflict, Act: "put back " + sslProvider, Device: l.dev.Name, Stage: "reap",
			Err: errors.New(clip(device.CleanText(res.Stderr))), Next: "tmsh modify sys db " + sslProvider + " value disable"}
	}
	return err
}

// args is tcpdump's command line.
func (l *live) args(filter string) []string {
	args := []string{"tcpdump", "-i", l.spec.Interface, "-s", strconv.Itoa(l.spec.SnapLen), "-w", "-"}
	if l.found.flushes() {
		args = append(args, "-U")
	}
	if l.found.takes("--immediate-mode") {
		// Without it the kernel hands packets over by the block, up to a second late.
		args = append(args, "--immediate-mode")
	}
	if l.found.takes("-B size") {
		args = append(args, "-B", "32768") // KiB: in immediate mode a packet can take 64 of them
	}
	if l.spec.NoPromiscuous {
		args = append(args, "-p")
	}
	if l.spec.F5 != "" {
		args = append(args, "--f5", l.spec.F5)
	}
	if l.spec.Packets != nil {
		args = append(args, "-c", strconv.FormatInt(*l.spec.Packets, 10))
	}
	if filter != "" {
		args = append(args, filter)
	}
	return args
}

// capture is the work: it ends when a limit is reached, the reader goes, the job
// is canceled or tcpdump ends.
func (l *live) capture(ctx context.Context, env operation.Env) (operation.Observation, error) {
	conn, err := env.Conn(ctx, l.dev)
	if err != nil {
		return operation.Observation{}, err
	}
	wait, cancel := context.WithTimeout(ctx, readerPatience)
	defer cancel()
	to, err := l.streams.Write(wait, l.spec.Stream)
	if err != nil {
		if ctx.Err() != nil {
			return operation.Observation{}, ctx.Err()
		}
		return operation.Observation{}, &fault.Error{Kind: fault.Conflict, Act: "capture on " + l.dev.Name, Device: l.dev.Name, Stage: "capture",
			Err: fmt.Errorf("nobody came to read it within %v", readerPatience), Next: "read it with fleetctl capture live"}
	}
	defer func() { _ = to.Close() }()

	select {
	case <-to.Gone():
		return operation.Observation{}, &fault.Error{Kind: fault.Canceled, Act: "capture on " + l.dev.Name, Device: l.dev.Name, Stage: "capture",
			Err: errors.New("its reader went before it began")}
	default:
	}
	filter, apart := exclude(l.spec.Filter, l.found.peer, l.found.own)
	if !apart {
		env.Warn(l.dev, "the device does not say from where it sees us: our own SSH session is captured as well where it crosses %s", l.spec.Interface)
	}
	k := Keep{ID: "live-" + rand.Text(), Args: l.args(filter), Limit: l.spec.duration() + deadMan, Sudo: l.spec.Sudo}
	if l.ssl {
		k.Before, k.After = "tmsh -q modify sys db "+sslProvider+" value enable", "tmsh -q modify sys db "+sslProvider+" value disable"
	}
	if err := env.Remember(ctx, keyRun, remembered{ID: k.ID, SSL: l.ssl}); err != nil {
		return operation.Observation{}, err
	}
	stop := newStopper(ctx, to.Gone(), env.Stopped(), l.spec.duration())
	var limits records.Limits
	if l.spec.Bytes != nil {
		limits.Bytes = *l.spec.Bytes
	}
	tell := &teller{w: to, tell: func(packets int64) { env.Progress(l.dev, packets, 0, l.unit()) }, now: env.Now}
	cut := records.New(tell, limits)
	tell.cut = cut
	tell.tell(0)
	ended, err := k.Live(ctx, conn, cut, stop.stop)
	_ = to.Close()
	why := stop.end()
	if fault.Is(err, fault.Disconnected) {
		// The next attempt looks that nothing is left there.
		return operation.Observation{}, err
	}
	if ferr := env.Remember(context.WithoutCancel(ctx), keyRun, nil); ferr != nil && err == nil {
		err = ferr
	}
	if err := l.failure(err, ended, cut); err != nil {
		return operation.Observation{}, err
	}
	row := l.row(filter, ended, cut)
	switch {
	case errors.Is(err, records.ErrLimit):
		row.EndedBy = endBytes
	case errors.Is(err, stream.ErrGone):
		row.EndedBy = endReader
	case why != "":
		row.EndedBy = why
	case l.spec.Packets != nil && cut.Packets() >= *l.spec.Packets:
		row.EndedBy = endPackets
	}
	if ended.Why != "" {
		env.Warn(l.dev, "the device ended the capture by itself (%s): it did not hear from fleetd in time", ended.Why)
	}
	if n := row.DroppedByKernel; n != nil && *n > 0 {
		env.Warn(l.dev, "%d packets were dropped by the kernel: what is missing in the capture proves nothing", *n)
	}
	env.Row(l.dev, row)
	return operation.Observation{Verdict: operation.Done, Detail: fmt.Sprintf("%d packets, ended by %s", row.Packets, row.EndedBy)}, nil
}

// Late is in the unit of a capture's progress where packets show late.
const Late = "shown late"

func (l *live) unit() string {
	if l.found.flushes() {
		return "packets"
	}
	return "packets, " + Late
}

// teller tells watchers how many packets there are, at most once a second.
type teller struct {
	w    *stream.Writer
	cut  *records.Cutter
	tell func(packets int64)
	now  func() time.Time
	last time.Time
}

// Write implements io.Writer.
func (t *teller) Write(p []byte) (int, error) {
	if now := t.now(); now.Sub(t.last) >= time.Second {
		t.last = now
		t.tell(t.cut.Packets())
	}
	return t.w.Write(p)
}

// failure is what makes a capture a failed one.
func (l *live) failure(err error, ended Ended, cut *records.Cutter) error {
	var not *records.NotCaptureError
	refuse := func(why string) error {
		return &fault.Error{Kind: fault.Refused, Act: "capture " + l.spec.Interface + " on " + l.dev.Name, Device: l.dev.Name, Stage: "capture", Err: errors.New(why)}
	}
	switch {
	case errors.As(err, &not):
		return refuse("what comes is no capture: " + clip(device.CleanText(not.Begin)))
	case err != nil && !errors.Is(err, records.ErrLimit) && !errors.Is(err, stream.ErrGone):
		var f *fault.Error
		if errors.As(err, &f) && f.Device == "" {
			named := *f
			named.Device = l.dev.Name
			return &named
		}
		return err
	case ended.Status > 0 && !cut.Began():
		return refuse(complaint(ended.Said))
	}
	return nil
}

func (l *live) row(filter string, ended Ended, cut *records.Cutter) Row {
	r := Row{Device: l.dev.Name, Interface: l.spec.Interface, Filter: filter, EndedBy: endDevice,
		Packets: cut.Packets(), Bytes: cut.Bytes(), Delayed: !l.found.flushes(), Keys: l.spec.secrets()}
	r.Captured, r.Received = countOf(ended.Said, "captured"), countOf(ended.Said, "received by filter")
	r.DroppedByKernel, r.DroppedByInterface = countOf(ended.Said, "dropped by kernel"), countOf(ended.Said, "dropped by interface")
	if first, last, ok := cut.Times(); ok {
		r.FirstTime, r.LastTime = &first, &last
	}
	return r
}

// countOf reads one of tcpdump's counts, such as "297 packets received by filter".
func countOf(said, what string) *int64 {
	for line := range strings.Lines(said) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if rest != "packets "+what && rest != "packet "+what {
			continue
		}
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			return &n
		}
	}
	return nil
}

// stopper closes stop for the first reason to end a capture, and remembers which.
type stopper struct {
	stop chan struct{}
	quit chan struct{}
	wg   sync.WaitGroup
	why  string
}

func newStopper(ctx context.Context, gone, stopped <-chan struct{}, after time.Duration) *stopper {
	s := &stopper{stop: make(chan struct{}), quit: make(chan struct{})}
	s.wg.Go(func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
			s.why = endDuration
		case <-gone:
			s.why = endReader
		case <-stopped:
			s.why = endStop
		case <-ctx.Done():
			s.why = endStop
		case <-s.quit:
			return
		}
		close(s.stop)
	})
	return s
}

// end gives the reason, "" where the capture ended before there was one.
func (s *stopper) end() string {
	close(s.quit)
	s.wg.Wait()
	return s.why
}
