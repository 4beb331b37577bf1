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
	jobs   map[string]api.Job         // finished and found to have their rows, by id
}

// TestWeek runs schedules for days on a compressed clock, over a daylight-saving
// change, with a device that dies and comes back, while fleetd is killed again and again
// and its disk is full now and then. In the end every time of every schedule was decided
// once, every run that was promised has its job and every live device its rows, once;
// every delivery is there and every failure was told; and fleetd leaves nothing behind.
// Meanwhile, at each start, retention takes the oldest jobs, in the middle of which
// fleetd is killed as well: what it may have taken is all that may be missing.
func TestWeek(t *testing.T) {
	days, factor, keep := 1, 8000, 20
	if v := os.Getenv(weekDays); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		days, factor, keep = n, 2500, 100
	}
	f := fleet(t, 12, "lon-probe-02:down")
	h := newHookReceiver(t)
	dir := place(t)
	w := &week{t: t, runs: map[string]api.ScheduleRun{}, begin: map[string]time.Time{}, jobs: map[string]api.Job{},
		order: weekOrder{Dir: dir, Inventory: f.Inventory(), Hook: h.URL, Began: time.Now(), Factor: factor, Keep: keep,
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
		w.inspect()
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
	w.inspect()
	// Besides those that are kept: what had not finished when retention looked, and what
	// was made up for after the start.
	const unfinished = 12
	eventually(t, "that old jobs go", func() bool { return len(w.list()) <= keep+unfinished })
	gone := w.verify(h)
	w.end()
	info, err := os.Stat(filepath.Join(dir, "state", "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > int64(days)<<25 {
		t.Errorf("the ledger has %d bytes after %d days", info.Size(), days)
	}
	t.Logf("%d days: %d decisions, %d kills, %d times a full disk, %d jobs looked at, %d taken by retention, a ledger of %d bytes",
		days, len(w.runs), kills, full, len(w.jobs), gone, info.Size())
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

// inspect looks at the rows of the jobs that have finished since the last time, before
// retention can take them.
func (w *week) inspect() {
	w.t.Helper()
	for _, job := range w.list() {
		if _, seen := w.jobs[job.ID]; seen || job.FinishedAt == nil {
			continue
		}
		var res api.Results
		var err error
		w.ask(func(ctx context.Context) error {
			if res, err = w.client.Results(ctx, job.ID); fault.Is(err, fault.NotFound) {
				return nil
			}
			return err
		})
		if err != nil {
			continue // it went meanwhile; whether it might is asked in the end
		}
		w.jobs[job.ID] = job
		w.verifyRows(job, res)
	}
}

// list gives all jobs that are there.
func (w *week) list() (all []api.Job) {
	w.t.Helper()
	for before := ""; ; {
		var l api.JobList
		w.ask(func(ctx context.Context) (err error) {
			l, err = w.client.Jobs(ctx, api.JobQuery{Limit: 1000, Before: before})
			return err
		})
		all = append(all, l.Rows...)
		if before = l.Next; before == "" {
			return all
		}
	}
}

// verify compares what was promised with what is there, and gives how many jobs
// retention has taken.
func (w *week) verify(h *hookReceiver) (gone int) {
	w.t.Helper()
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
	there := map[string]bool{}
	for _, job := range w.list() {
		there[job.ID] = true
		if _, ok := started[job.ID]; !ok && job.CreatedAt.Before(asOf) {
			w.t.Errorf("job %s of %v has no occurrence", job.ID, job.CreatedAt)
		}
	}
	for id, run := range started {
		if !there[id] {
			gone++
			w.verifyGone(id, run, started)
		}
		if job, seen := w.jobs[id]; seen {
			w.verifyTold(h, job, run)
		}
	}
	return gone
}

// verifyGone is about a job that is not there: as many as are kept must have come after
// it. Those that waited for a device may have finished after some that came later.
func (w *week) verifyGone(id string, run api.ScheduleRun, started map[string]api.ScheduleRun) {
	w.t.Helper()
	const slack = 5
	number, err := strconv.Atoi(id)
	if err != nil {
		w.t.Fatal(err)
	}
	later := 0
	for other := range started {
		if n, err := strconv.Atoi(other); err == nil && n > number {
			later++
		}
	}
	if later < w.order.Keep-slack {
		w.t.Errorf("job %s of %s at %v is gone, and only %d came after it", id, run.Schedule, run.Occurrence, later)
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

// verifyRows wants the rows of the devices that lived, each once.
func (w *week) verifyRows(job api.Job, res api.Results) {
	w.t.Helper()
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
		w.t.Errorf("job %s (%s) has no row of the live device: %+v", job.ID, job.State, res.Failures)
	}
	if job.Schedule == "hourly" && job.State == "succeeded" && !strings.Contains(fmt.Sprintf("%s", res.Rows), `"lon-probe-02"`) {
		w.t.Errorf("job %s has no row of the device that was back", job.ID)
	}
}

// verifyTold wants the delivery of a job, or that its failure was told.
func (w *week) verifyTold(h *hookReceiver, job api.Job, run api.ScheduleRun) {
	w.t.Helper()
	switch {
	case run.Schedule == "hourly" && job.State != "succeeded":
		eventually(w.t, "that job "+job.ID+" is told of", func() bool {
			for _, m := range h.messages(notify.JobFailed) {
				if m.Job == job.ID {
					return true
				}
			}
			return false
		})
	case run.Schedule == "daily":
		eventually(w.t, "the file of job "+job.ID, func() bool {
			names, err := filepath.Glob(filepath.Join(w.order.Dir, "reports", "daily_*_job"+job.ID+".csv"))
			return err == nil && len(names) == 1
		})
	}
}
