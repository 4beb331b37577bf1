package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/childtest"
	"capfleet/internal/config"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/notify"
	"capfleet/internal/schedule"
)

// weekDays lets TestWeek take longer: FLEETD_WEEK_DAYS=7 is the week.
const weekDays = "FLEETD_WEEK_DAYS"

// weekOrder is what the child of TestWeek is told. Its clock is that of the test,
// compressed until the end of the week: it goes on while no process is there.
type weekOrder struct {
	Dir, Inventory, Hook string
	Began                time.Time // really
	Begin, End           time.Time // on the compressed clock
	Factor               int
	Keep                 int // jobs; 0 keeps all
}

func (o weekOrder) now() time.Time {
	since, week := time.Since(o.Began), o.End.Sub(o.Begin)
	if compressed := since * time.Duration(o.Factor); compressed < week {
		return o.Begin.Add(compressed)
	}
	return o.End.Add(since - week/time.Duration(o.Factor))
}

// liveTheWeek is fleetd on the compressed clock. When it is told to stop it says what
// it leaves behind: goroutines, descriptors, and the memory in use then and after its
// first second.
func liveTheWeek(order string) error {
	signal.Ignore(syscall.SIGXFSZ) // a limit on the size of files stands for a full disk
	raw, err := os.ReadFile(order)
	if err != nil {
		return err
	}
	var o weekOrder
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	before := goleak.IgnoreCurrent()
	descriptors := countDescriptors()
	d, err := New(ctx, Options{
		StateDir: filepath.Join(o.Dir, "state"), Inventory: o.Inventory, Socket: filepath.Join(o.Dir, "s"),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Retry:  jobs.RetryPolicy{Attempts: 2, Base: time.Second, Max: 2 * time.Second},
		Now:    o.now, LookEvery: 5 * time.Millisecond,
		Upkeep: Upkeep{Jobs: jobs.Retention{Jobs: o.Keep}},
		Notifications: &config.Notifications{
			Receivers: []config.Receiver{{Name: "files", Directory: &config.Directory{Path: filepath.Join(o.Dir, "reports")}},
				{Name: "hook", Webhook: &config.Webhook{URL: o.Hook}}},
			Rules: []config.Rule{{On: []string{"job_failed", "schedule_missed"}, To: []string{"hook"}}},
		},
	})
	if err != nil {
		return err
	}
	heap := make(chan uint64, 1)
	early := time.AfterFunc(time.Second, func() { heap <- heapInUse() })
	defer early.Stop()
	if err := d.Run(ctx); err != nil {
		return err
	}
	select {
	case first := <-heap:
		if last := heapInUse(); last > 2*first+32<<20 {
			return fmt.Errorf("%d bytes are in use, after a second it was %d", last, first)
		}
	default: // it did not live that long
	}
	if err := goleak.Find(before, goleak.IgnoreTopFunction("os/signal.loop")); err != nil {
		return err
	}
	if n := countDescriptors(); n > descriptors+2 { // the poller's own
		return fmt.Errorf("%d descriptors are open, %d were at first", n, descriptors)
	}
	return nil
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func countDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// week is what its schedules promise and what was seen of them.
type week struct {
	t      *testing.T
	order  weekOrder
	client *client.Client
	cmd    *exec.Cmd
	log    *strings.Builder
	runs   map[string]api.ScheduleRun // every decision, by schedule, occurrence and outcome
	begin  map[string]time.Time       // when each schedule was added
}

// TestWeek runs schedules for days on a compressed clock, over a daylight-saving
// change, with a device that dies and comes back, while fleetd is killed again and again
// and its disk is full now and then. In the end every time of every schedule was decided
// once, every run that was promised has its job and every live device its rows, once;
// every delivery is there and every failure was told; what is not to be kept goes; and
// fleetd leaves nothing behind.
func TestWeek(t *testing.T) {
	days, factor := 1, 8000
	if v := os.Getenv(weekDays); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		days, factor = n, 2500
	}
	f := fleet(t, 12, "lon-probe-02:down")
	h := newHookReceiver(t)
	dir := place(t)
	w := &week{t: t, runs: map[string]api.ScheduleRun{}, begin: map[string]time.Time{},
		order: weekOrder{Dir: dir, Inventory: f.Inventory(), Hook: h.URL, Began: time.Now(), Factor: factor,
			Begin: time.Date(2026, 10, 24, 18, 20, 0, 0, time.UTC)}}
	w.order.End = w.order.Begin.AddDate(0, 0, days)
	w.give(w.order)
	var err error
	if w.client, err = client.New(filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)

	w.launch()
	for name, req := range map[string]api.ScheduleRequest{
		"hourly":  {Cron: "0 * * * *", Overlap: "queue", Missed: "run", JitterSeconds: 300, Request: scheduleOf("", "", "filesystem", "lon-probe-01", "lon-probe-02").Request},
		"quarter": {Cron: "*/15 * * * *", Overlap: "skip", Missed: "report", Request: scheduleOf("", "", "software", "lon-probe-01").Request},
		"daily":   {Cron: "30 1 * * *", TimeZone: "Europe/London", Missed: "run", Deliver: []string{"files"}, Request: scheduleOf("", "", "rotation-file", "lon-probe-01").Request},
	} {
		req.Name = name
		var s api.Schedule
		w.ask(func(ctx context.Context) (err error) { s, err = w.client.AddSchedule(ctx, req); return err })
		w.begin[name] = s.CreatedAt
	}
	kills, full, dead := 0, 0, true
	for w.order.now().Before(w.order.End) {
		w.look()
		switch rand.IntN(5) {
		case 0, 1:
			w.pause(time.Duration(rand.IntN(900)) * time.Millisecond)
		case 2:
			if w.fillDisk() {
				full++
			}
		case 3:
			_ = w.cmd.Process.Kill()
			_ = w.cmd.Wait()
			kills++
			w.launch()
		case 4:
			dead = !dead
			fault := "none"
			if dead {
				fault = "down"
			}
			if err := f.Order("lon-probe-02", fault); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What a full disk may have left is a matter of a restart; the last process lives on
	// in peace until all is done.
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
	w.launch()
	w.quiet()
	w.verify(h)
	w.end()
	w.verifyRetention()
	info, err := os.Stat(filepath.Join(dir, "state", "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > int64(days)<<25 {
		t.Errorf("the ledger has %d bytes after %d days", info.Size(), days)
	}
	t.Logf("%d days: %d decisions, %d kills, %d times a full disk, a ledger of %d bytes", days, len(w.runs), kills, full, info.Size())
}

// give writes down what the next process is told.
func (w *week) give(o weekOrder) {
	w.t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		w.t.Fatal(err)
	}
	write(w.t, filepath.Join(o.Dir, "order"), string(raw))
}

// end stops the process in order and hears what it left behind.
func (w *week) end() {
	w.t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.t.Fatal(err)
	}
	if err := w.cmd.Wait(); err != nil {
		w.t.Errorf("a process that was told to stop: %v\n%s", err, w.log)
	}
}

// verifyRetention lives on with a bound of what is kept, now that all was compared.
func (w *week) verifyRetention() {
	w.t.Helper()
	o := w.order
	o.Keep = 10
	w.give(o)
	w.launch()
	eventually(w.t, "that old jobs go", func() bool {
		var l api.JobList
		w.ask(func(ctx context.Context) (err error) {
			l, err = w.client.Jobs(ctx, api.JobQuery{Limit: 1000})
			return err
		})
		return len(l.Rows) <= o.Keep+5 // some are made meanwhile
	})
	w.end()
}

// launch starts a process and returns when it answers.
func (w *week) launch() {
	w.t.Helper()
	w.cmd = childtest.Command(w.t, "week", filepath.Join(w.order.Dir, "order"))
	w.log = &strings.Builder{}
	w.cmd.Stderr = w.log
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.ask(func(ctx context.Context) error { _, err := w.client.Version(ctx); return err })
}

// ask asks until fleetd answers.
func (w *week) ask(question func(context.Context) error) {
	w.t.Helper()
	var err error
	eventually(w.t, "an answer", func() bool {
		err = question(w.t.Context())
		return err == nil || !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Disconnected)
	})
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.log)
	}
}

// look collects what was decided: fleetd keeps the newest 200 decisions of each.
func (w *week) look() {
	w.t.Helper()
	for name := range w.begin {
		w.ask(func(ctx context.Context) error {
			runs, err := w.client.ScheduleRuns(ctx, name, 200)
			for _, r := range runs {
				key := fmt.Sprint(r.Schedule, r.Occurrence, r.Outcome)
				if have, ok := w.runs[key]; ok && have != r {
					w.t.Errorf("decided twice: %+v and %+v", have, r)
				}
				w.runs[key] = r
			}
			return err
		})
	}
}

func (w *week) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// fillDisk lets no file of fleetd grow for a moment.
func (w *week) fillDisk() bool {
	info, err := os.Stat(filepath.Join(w.order.Dir, "state", "ledger.db"))
	if err != nil {
		return false
	}
	var was unix.Rlimit
	pid := w.cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &was); err != nil {
		return false
	}
	limited := was
	limited.Cur = uint64(max(info.Size()/2, 4096)) //nolint:gosec // a file's size
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limited, nil); err != nil {
		return false
	}
	w.pause(time.Duration(100+rand.IntN(300)) * time.Millisecond)
	return unix.Prlimit(pid, unix.RLIMIT_FSIZE, &was, nil) == nil
}

// quiet waits until no job runs.
func (w *week) quiet() {
	w.t.Helper()
	w.look()
	var unfinished api.JobList
	eventually(w.t, "the end of all jobs", func() bool {
		w.ask(func(ctx context.Context) (err error) {
			unfinished, err = w.client.Jobs(ctx, api.JobQuery{Active: true, Limit: 5})
			return err
		})
		w.look()
		return len(unfinished.Rows) == 0
	})
}

// verify compares what was promised with what is there.
func (w *week) verify(h *hookReceiver) {
	w.t.Helper()
	ctx := w.t.Context()
	started := map[string]api.ScheduleRun{}
	asOf := w.order.now()
	for name, begin := range w.begin {
		var decided, want int
		// The clock still goes on, and so does what is decided; hardly, by now.
		eventually(w.t, "that all times of "+name+" are decided", func() bool {
			decided, want = w.decisions(name, begin)
			return decided == want
		})
	}
	for _, r := range w.runs {
		if r.Outcome != "started" {
			continue
		}
		if _, twice := started[r.Job]; twice {
			w.t.Errorf("job %s is of two occurrences", r.Job)
		}
		started[r.Job] = r
	}
	var all []api.Job
	for before := ""; ; {
		l, err := w.client.Jobs(ctx, api.JobQuery{Limit: 1000, Before: before})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, l.Rows...)
		if before = l.Next; before == "" {
			break
		}
	}
	for _, job := range all {
		run, ok := started[job.ID]
		if !ok {
			if job.CreatedAt.Before(asOf) {
				w.t.Errorf("job %s of %v has no occurrence", job.ID, job.CreatedAt)
			}
			continue // made since the last look
		}
		delete(started, job.ID)
		w.verifyJob(ctx, h, job, run)
	}
	for id, run := range started {
		w.t.Errorf("job %s of %s at %v is gone", id, run.Schedule, run.Occurrence)
	}
}

// decisions counts how many times of a schedule were decided, and how many have come up
// to the last that was. Where a decision came between the two readings it gives 0 and 1.
func (w *week) decisions(name string, begin time.Time) (decided, want int) {
	w.t.Helper()
	w.look()
	before := len(w.runs)
	var s api.Schedule
	w.ask(func(ctx context.Context) (err error) { s, err = w.client.Schedule(ctx, name, 1); return err })
	if w.look(); len(w.runs) != before {
		return 0, 1
	}
	e, err := schedule.Parse(s.Cron, s.TimeZone)
	if err != nil {
		w.t.Fatal(err)
	}
	var last time.Time
	note := func(at time.Time) {
		if at.After(last) {
			last = at
		}
	}
	for _, r := range w.runs {
		if r.Schedule == name {
			decided += r.Count
			note(r.Occurrence)
		}
	}
	if s.QueuedAt != nil { // taken, and waiting for the job before it
		decided++
		note(*s.QueuedAt)
	}
	for at := e.Next(begin); !at.After(last); at = e.Next(at) {
		want++
	}
	return decided, want
}

func (w *week) verifyJob(ctx context.Context, h *hookReceiver, job api.Job, run api.ScheduleRun) {
	w.t.Helper()
	if job.FinishedAt == nil {
		return // begun after the last look for unfinished ones
	}
	res, err := w.client.Results(ctx, job.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	seen := map[string]bool{}
	live := 0
	for _, raw := range res.Rows {
		if seen[string(raw)] {
			w.t.Errorf("job %s has a row twice: %s", job.ID, raw)
		}
		seen[string(raw)] = true
		if strings.Contains(string(raw), `"lon-probe-01"`) {
			live++
		}
	}
	if live == 0 {
		w.t.Errorf("job %s of %s (%s) has no row of the live device: %+v", job.ID, run.Schedule, job.State, res.Failures)
	}
	switch run.Schedule {
	case "hourly":
		if job.State == "succeeded" {
			if !strings.Contains(fmt.Sprintf("%s", res.Rows), `"lon-probe-02"`) {
				w.t.Errorf("job %s has no row of the device that was back", job.ID)
			}
			return
		}
		eventually(w.t, "that job "+job.ID+" is told of", func() bool {
			for _, m := range h.messages(notify.JobFailed) {
				if m.Job == job.ID {
					return true
				}
			}
			return false
		})
	case "daily":
		eventually(w.t, "the file of job "+job.ID, func() bool {
			names, err := filepath.Glob(filepath.Join(w.order.Dir, "reports", "daily_*_job"+job.ID+".csv"))
			return err == nil && len(names) == 1
		})
	}
}
