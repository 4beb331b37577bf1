package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

func spec(b runnertest.Behaviour) json.RawMessage { return runnertest.Spec{Behaviour: b}.JSON() }

func TestJobFromSubmissionToRows(t *testing.T) {
	var works sync.Map
	h := newHarness(t, runnertest.Func(func(ctx context.Context, w jobs.Work, j jobs.Journal) jobs.Result {
		works.Store(w.Unit, w)
		if err := errors.Join(j.Step(ctx, "collect"), j.Note(ctx, "collect", "seen")); err != nil {
			t.Error(err)
		}
		r := succeeds(`{"device":"`+w.Unit+`","n":1}`, `{"n":2}`)
		r.Facts = map[string]string{"version": "7.1"}
		r.Warnings, r.Artifacts = []string{"mind the gap"}, []string{"abc"}
		return result(w, r)
	})).start()

	req := request("read", json.RawMessage(`{"report":"filesystem"}`), "b", "a")
	req.Warnings = []string{"c has nothing to report"}
	job := h.submit(req)
	if job.ID != "1" || job.Devices != 2 || jobs.JobState(job) != jobs.Pending || job.CreatedAt.IsZero() {
		t.Errorf("submitted: %+v", job)
	}
	got, state := h.finish(job.ID)
	if state != jobs.Succeeded || got.Counts[jobs.Succeeded] != 2 || got.StartedAt == nil || got.FinishedAt == nil ||
		!slices.Equal(got.Warnings, req.Warnings) || string(got.Spec) != `{"report":"filesystem"}` || got.CreatedBy != "alice" {
		t.Errorf("finished: %s %+v", state, got)
	}

	w, _ := works.Load("a")
	work := w.(jobs.Work)
	want := jobs.Work{Job: "1", Operation: "fake", Spec: req.Spec, Unit: "a", Attempt: 1, Fence: 1,
		Targets: []jobs.Target{{Device: "a", Unit: "a", Site: "lon", Snapshot: json.RawMessage(`{"name":"a"}`)}}}
	if diff := cmp.Diff(want, work); diff != "" {
		t.Errorf("handed out (-want +got):\n%s", diff)
	}

	tasks, err := h.Tasks(t.Context(), job.ID)
	if err != nil || len(tasks) != 2 || tasks[0].Device != "a" || tasks[1].Device != "b" {
		t.Fatalf("%v %+v", err, tasks)
	}
	for _, task := range tasks {
		if task.Job != "1" || task.State != jobs.Succeeded || task.Step != "collect" || task.Attempt != 1 || task.Rows != 2 ||
			task.StartedAt == nil || task.FinishedAt == nil || task.Failure != nil || task.Reason != "" ||
			!slices.Equal(task.Warnings, []string{"mind the gap"}) || !slices.Equal(task.Artifacts, []string{"abc"}) {
			t.Errorf("%+v", task)
		}
	}
	var rows []string
	if err := h.Rows(t.Context(), job.ID, func(device string, list []json.RawMessage) error {
		for _, row := range list {
			rows = append(rows, device+" "+string(row))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`a {"device":"a","n":1}`, `a {"n":2}`, `b {"device":"b","n":1}`, `b {"n":2}`}, rows); diff != "" {
		t.Error(diff)
	}

	var kinds []string
	for _, ev := range h.events(job.ID) {
		kinds = append(kinds, strings.TrimSpace(fmt.Sprint(ev.Type, " ", ev.Device, " ", ev.State)))
	}
	for _, device := range []string{"a", "b"} {
		begun, step, done := slices.Index(kinds, "task_state "+device+" running"), slices.Index(kinds, "task_step "+device+" running"), slices.Index(kinds, "task_state "+device+" succeeded")
		if begun < 1 || step < begun || done < step {
			t.Errorf("%s: %q", device, kinds)
		}
	}
	if kinds[0] != "job_created  pending" || kinds[len(kinds)-1] != "job_finished  succeeded" || len(kinds) != 8 {
		t.Errorf("%q", kinds)
	}
	if first := h.events(job.ID)[0]; job.FirstEvent != first.Seq-1 {
		t.Errorf("first event %d, job says %d", first.Seq, job.FirstEvent)
	}

	entries, err := h.Journal(t.Context(), job.ID, "a")
	if err != nil || len(entries) != 2 || entries[0].Kind != jobs.EntryStep || entries[1].Detail != "seen" || entries[0].Unit != "a" {
		t.Errorf("%v %+v", err, entries)
	}
	facts, seen, last, err := h.DeviceFacts(t.Context(), "a")
	if err != nil || facts["version"] != "7.1" || seen == nil || last != "" {
		t.Errorf("%v %v %q %v", facts, seen, last, err)
	}
}

func TestSameRequestIsSameJob(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	req := request("read", spec(runnertest.Succeeds), "a")
	req.RequestID = "r-1"
	var (
		wg  sync.WaitGroup
		ids sync.Map
	)
	for range 20 {
		wg.Go(func() { ids.Store(h.submit(req).ID, true) })
	}
	wg.Wait()
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 1 || count(h.events(""), jobs.EventJobCreated) != 1 {
		t.Errorf("%d jobs, %d created", n, count(h.events(""), jobs.EventJobCreated))
	}
	h.reopen()
	if job := h.submit(req); job.ID != "1" {
		t.Errorf("after a restart: job %s", job.ID)
	}
	req.RequestID = "r-2"
	if job := h.submit(req); job.ID != "2" {
		t.Errorf("another request: job %s", job.ID)
	}
}

func TestRefusesBadRequests(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	tests := map[string]func(*jobs.Request){
		"no operation":       func(r *jobs.Request) { r.Operation = "" },
		"no access":          func(r *jobs.Request) { r.Access = "write" },
		"no device":          func(r *jobs.Request) { r.Targets = nil },
		"nameless device":    func(r *jobs.Request) { r.Targets[0].Device = "" },
		"NUL in a name":      func(r *jobs.Request) { r.Targets[0].Unit = "a\x00b" },
		"long name":          func(r *jobs.Request) { r.Targets[0].Device = strings.Repeat("x", 600) },
		"device twice":       func(r *jobs.Request) { r.Targets[1].Device = "a" },
		"unit in two waves":  func(r *jobs.Request) { r.Targets[0].Unit, r.Targets[1].Unit, r.Targets[1].Wave = "u", "u", 1 },
		"negative wave":      func(r *jobs.Request) { r.Targets[0].Wave = -1 },
		"spec is not JSON":   func(r *jobs.Request) { r.Spec = json.RawMessage("{") },
		"snapshot not JSON":  func(r *jobs.Request) { r.Targets[0].Snapshot = json.RawMessage("x") },
		"endless request id": func(r *jobs.Request) { r.RequestID = strings.Repeat("x", 1000) },
	}
	for name, spoil := range tests {
		req := request("read", spec(runnertest.Succeeds), "a", "b")
		spoil(&req)
		if _, err := h.Submit(t.Context(), req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list := h.events(""); len(list) != 0 {
		t.Errorf("something was kept: %+v", list)
	}
}

func TestUnknownJobs(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{})
	h.submit(request("read", spec(runnertest.Succeeds), "a"))
	ctx := t.Context()
	for _, id := range []string{"2", "", "x", "-1", "01", "18446744073709551615", "99999999999999999999"} {
		_, _, err := h.Job(ctx, id)
		_, tasks := h.Tasks(ctx, id)
		_, journal := h.Journal(ctx, id, "a")
		_, cancel := h.Cancel(ctx, id, "bob")
		_, retry := h.Retry(ctx, id, "bob")
		var watch error
		if id != "" {
			for _, watch = range h.Watch(ctx, jobs.WatchOptions{Job: id}) {
				break
			}
		} else {
			watch = err
		}
		for what, err := range map[string]error{"job": err, "tasks": tasks, "journal": journal, "cancel": cancel, "retry": retry,
			"watch": watch, "rows": h.Rows(ctx, id, nil)} {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("%s of job %q: %v", what, id, err)
			}
		}
	}
	if _, err := h.Journal(ctx, "1", "b"); !fault.Is(err, fault.NotFound) {
		t.Errorf("journal of a device that is not in the job: %v", err)
	}
	if _, _, err := h.List(ctx, jobs.ListOptions{Before: "x"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("list before x: %v", err)
	}
}

func TestList(t *testing.T) {
	h := newHarness(t, &runnertest.Fake{}).start()
	for range 5 {
		h.finish(h.submit(request("read", spec(runnertest.Succeeds), "a")).ID)
	}
	blocked := h.submit(request("read", spec(runnertest.Blocks), "a"))
	ids := func(opts jobs.ListOptions) (list string, next string) {
		got, next, err := h.List(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range got {
			list += job.ID
		}
		return list, next
	}
	tests := []struct {
		opts       jobs.ListOptions
		list, next string
	}{
		{jobs.ListOptions{}, "654321", ""},
		{jobs.ListOptions{Limit: 4}, "6543", "3"},
		{jobs.ListOptions{Limit: 4, Before: "3"}, "21", ""},
		{jobs.ListOptions{Limit: 6}, "654321", ""},
		{jobs.ListOptions{Before: "1"}, "", ""},
		{jobs.ListOptions{Active: true}, "6", ""},
	}
	for _, tc := range tests {
		if list, next := ids(tc.opts); list != tc.list || next != tc.next {
			t.Errorf("%+v: %q and then %q", tc.opts, list, next)
		}
	}
	if _, err := h.Cancel(t.Context(), blocked.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	h.finish(blocked.ID)
	if list, _ := ids(jobs.ListOptions{Active: true}); list != "" {
		t.Errorf("active: %q", list)
	}
}

func TestRunnersThatBreakTheContract(t *testing.T) {
	tests := map[string]runnertest.Func{
		"panics": func(context.Context, jobs.Work, jobs.Journal) jobs.Result { panic("oh") },
		"says nothing": func(context.Context, jobs.Work, jobs.Journal) jobs.Result {
			return jobs.Result{}
		},
		"speaks of another device": func(context.Context, jobs.Work, jobs.Journal) jobs.Result {
			return jobs.Result{Tasks: map[string]jobs.TaskResult{"z": succeeds(`1`)}}
		},
		"invents a state": func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			return result(w, jobs.TaskResult{State: "great"})
		},
		"leaves it running": func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			return result(w, jobs.TaskResult{State: jobs.Running})
		},
		"gives a row that is not JSON": func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			return result(w, succeeds(`{`))
		},
		"fails without a word": func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
			return result(w, jobs.TaskResult{State: jobs.Failed})
		},
	}
	for name, runner := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, runner).start()
			job := h.submit(request("read", nil, "a"))
			if _, s := h.finish(job.ID); s != jobs.Failed {
				t.Errorf("the job is %s", s)
			}
			task := h.task(job.ID, "a")
			if task.Failure == nil || task.Failure.Kind != fault.Internal || task.Failure.Device != "a" || task.Rows != 0 {
				t.Errorf("%+v", task.Failure)
			}
			if strings.Contains(task.Reason, "goroutine") {
				t.Errorf("the stack is shown to users: %s", task.Reason)
			}
		})
	}
}

func TestFacts(t *testing.T) {
	next := make(chan jobs.TaskResult, 1)
	h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		return result(w, <-next)
	}), func(o *jobs.Options) { o.Retry.Attempts = 1 }).start()
	with := func(r jobs.TaskResult, facts map[string]string) jobs.TaskResult {
		r.Facts = facts
		return r
	}
	steps := []struct {
		name  string
		r     jobs.TaskResult
		facts map[string]string
		err   string
		seen  bool // this time
	}{
		{"a first failure", fails(fault.Unreachable), nil, "it failed: unreachable", false},
		{"success", with(succeeds(), map[string]string{"version": "1", "build": "9"}), map[string]string{"version": "1", "build": "9"}, "", true},
		{"merged by key", with(succeeds(), map[string]string{"version": "2", "build": ""}), map[string]string{"version": "2"}, "", true},
		{"refused by the device", fails(fault.Refused), map[string]string{"version": "2"}, "it failed: refused", true},
		{"facts of a failure", with(fails(fault.Timeout), map[string]string{"clock_offset_seconds": "3"}), map[string]string{"version": "2", "clock_offset_seconds": "3"}, "it failed: timeout", true},
		{"unreachable", fails(fault.Unreachable), map[string]string{"version": "2", "clock_offset_seconds": "3"}, "it failed: unreachable", false},
	}
	for _, step := range steps {
		_, before, _, _ := h.DeviceFacts(t.Context(), "a")
		next <- step.r
		h.finish(h.submit(request("read", nil, "a")).ID)
		facts, seen, last, err := h.DeviceFacts(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.facts, facts); diff != "" || last != step.err {
			t.Errorf("%s: error %q, facts (-want +got)\n%s", step.name, last, diff)
		}
		if now := seen != nil && (before == nil || seen.After(*before)); now != step.seen {
			t.Errorf("%s: seen %v, before %v", step.name, seen, before)
		}
	}
	all, err := h.AllDeviceFacts(t.Context())
	if err != nil || all.Len() != 1 || all.Encoded("a") == "" || all.Encoded("never") != "" {
		t.Errorf("%v %+v", err, all)
	}
	if known, err := all.Of("a"); err != nil || known.Facts["version"] != "2" {
		t.Errorf("%v %+v", err, known)
	}
	if known, err := all.Of("never"); err != nil || known.Facts != nil || known.LastSeen != nil || known.LastError != "" {
		t.Errorf("a device that nobody reached: %v %+v", err, known)
	}
	if facts, seen, last, err := h.DeviceFacts(t.Context(), "never"); facts != nil || seen != nil || last != "" || err != nil {
		t.Errorf("a device that nobody reached: %v %v %q %v", facts, seen, last, err)
	}
}

// TestPairIsWorkedOnAsOne: both members are handed out together, also when one of
// them is done, and one that cannot pass settles both.
func TestPairIsWorkedOnAsOne(t *testing.T) {
	attempts := make(chan jobs.Work, 10)
	h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		attempts <- w
		ok, broken := succeeds(fmt.Sprintf(`{"attempt":%d}`, w.Attempt)), fails(fault.Refused)
		if w.Attempt > 1 {
			return result(w, ok)
		}
		return jobs.Result{Tasks: map[string]jobs.TaskResult{"a": ok, "b": broken, "c": fails(fault.Timeout), "d": broken}}
	})).start()
	req := request("change", nil, "a", "b", "c", "d")
	for i, unit := range []string{"ab", "ab", "cd", "cd"} {
		req.Targets[i].Unit = unit
	}
	job := h.submit(req)
	h.finish(job.ID)
	for device, want := range map[string]jobs.State{"a": jobs.Succeeded, "b": jobs.Failed, "c": jobs.Failed, "d": jobs.Failed} {
		if task := h.task(job.ID, device); task.State != want || task.Attempt != 1 {
			t.Errorf("%s is %s after %d attempts", device, task.State, task.Attempt)
		}
	}
	if _, err := h.Retry(t.Context(), job.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, s := h.finish(job.ID); s != jobs.Succeeded {
		t.Error(s)
	}
	for range 4 {
		if w := <-attempts; len(w.Targets) != 2 {
			t.Errorf("unit %s was handed out with %d devices", w.Unit, len(w.Targets))
		}
	}
	if a, b := h.task(job.ID, "a"), h.task(job.ID, "b"); a.Attempt != 1 || b.Attempt != 2 {
		t.Errorf("a had %d attempts, b %d", a.Attempt, b.Attempt)
	}
	if err := h.Rows(t.Context(), job.ID, func(device string, rows []json.RawMessage) error {
		if device == "a" && string(rows[0]) != `{"attempt":1}` {
			t.Errorf("the rows of a were replaced: %s", rows)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRowsInBatches reads more than fits into one batch.
func TestRowsInBatches(t *testing.T) {
	long := `"` + strings.Repeat("x", 300<<10) + `"`
	h := newHarness(t, runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		return result(w, succeeds(long))
	})).start()
	job := h.submit(request("read", nil, names(20)...))
	h.finish(job.ID)
	if got := h.rows(job.ID); len(got) != 20 {
		t.Errorf("%d devices", len(got))
	}
	stop := errors.New("enough")
	n := 0
	if err := h.Rows(t.Context(), job.ID, func(string, []json.RawMessage) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
}
