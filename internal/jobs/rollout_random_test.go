package jobs_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/rollout"
)

// How many random rollouts TestEngineOverRandomRollouts plays, and from which seed.
var (
	rollouts     = flag.Uint64("rollouts", 300, "random rollouts to be played through the engine")
	rolloutsFrom = flag.Uint64("rollouts-from", 0, "the first of them")
)

// TestEngineOverRandomRollouts plays rollouts through the whole engine in a
// simulated clock, with fleetd stopped and started anew, jobs paused, and devices
// that fail in every way; what the runners see is held against the rules.
func TestEngineOverRandomRollouts(t *testing.T) {
	for seed := *rolloutsFrom; seed < *rolloutsFrom+*rollouts; seed++ {
		var broken []string
		synctest.Test(t, func(t *testing.T) { broken = playRollout(t, seed) })
		if len(broken) > 0 {
			t.Fatalf("rollout %d (-rollouts-from %d -rollouts 1):\n%s", seed, seed, strings.Join(broken, "\n"))
		}
	}
}

// rolloutWorld is what truly happens to the devices of a random rollout.
type rolloutWorld struct {
	t       *testing.T
	policy  rollout.Policy
	plan    *rollout.Plan
	units   map[string]rollout.Unit
	created time.Time

	mu       sync.Mutex
	random   *rand.Rand
	out      map[string]bool // between Hold and Release, whatever runs
	running  map[string]bool // in the change phase now
	ended    map[string]jobs.State
	endedAt  map[string]time.Time
	tries    map[string]int // that failed in a way that may pass
	approved bool
	canceled time.Time
	broken   []string
	story    []string
}

func (w *rolloutWorld) upTo(n int) int { return w.random.IntN(n + 1) }

func (w *rolloutWorld) logf(format string, args ...any) {
	w.story = append(w.story, time.Now().UTC().Format("Mon 15:04:05 ")+fmt.Sprintf(format, args...))
}

func (w *rolloutWorld) breaks(format string, args ...any) {
	w.broken = append(w.broken, time.Now().UTC().Format("Mon 15:04:05 ")+fmt.Sprintf(format, args...))
}

func playRollout(t *testing.T, seed uint64) []string {
	w := &rolloutWorld{t: t, random: rand.New(rand.NewPCG(seed, 1)), out: map[string]bool{}, running: map[string]bool{},
		ended: map[string]jobs.State{}, endedAt: map[string]time.Time{}, tries: map[string]int{}, units: map[string]rollout.Unit{}, created: time.Now()}
	req := w.request()
	plan, err := rollout.NewPlan(w.unitsOf(req), req.Covering, w.policy, w.created)
	if err != nil {
		t.Fatal(err)
	}
	w.plan = plan
	for _, u := range plan.Units {
		w.units[u.Name] = u
	}
	h := newHarness(t, runnertest.Func(w.run), func(o *jobs.Options) {
		o.Limits = jobs.Limits{Global: 1 + w.upTo(8), PerSite: 1 + w.upTo(4), PerDevice: 1 + w.upTo(2)}
		o.Retry = jobs.RetryPolicy{Attempts: 2, Base: time.Minute}
	}).start()
	job, err := h.Submit(t.Context(), req)
	if fault.Is(err, fault.Invalid) {
		h.stop()
		return nil // none would fit
	}
	if err != nil {
		t.Fatal(err)
	}
	w.disturb(h, job.ID)
	got, _, err := h.Job(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.end(h, got)
	h.stop()
	if len(w.broken) > 0 {
		return slices.Concat(w.broken, []string{fmt.Sprintf("%+v", w.policy), fmt.Sprintf("%+v", w.plan.Units)}, w.story)
	}
	return nil
}

// request makes a random request. A minute is the smallest time.
func (w *rolloutWorld) request() jobs.Request {
	maybe := func() bool { return w.upTo(2) == 0 }
	p := rollout.Policy{PauseAfterCanary: maybe(), Approve: maybe(), MaxFailures: rollout.Units(1 + w.upTo(3)), Wave: rollout.Units(1 + w.upTo(3))}
	if maybe() {
		p.Soak = time.Duration(1+w.upTo(30)) * time.Minute
	}
	if maybe() {
		night, err := rollout.ParseWindow(fmt.Sprintf("daily %02d:00+%dh", w.upTo(23), 1+w.upTo(3)))
		if err != nil {
			w.t.Fatal(err)
		}
		p.Windows, p.ResumeWindow = []rollout.Window{night}, w.upTo(1) == 0
	}
	w.policy = p
	req := change(p)
	for i := range 1 + w.upTo(6) {
		tg := jobs.Target{Device: fmt.Sprint("d", i), Site: []string{"lon", "nyc"}[w.upTo(1)], Snapshot: []byte(`{}`), Prepares: maybe(),
			WorstCase: time.Duration(5+w.upTo(25)) * time.Minute}
		if i > 0 && w.upTo(4) == 0 { // the other member of a pair
			last := &req.Targets[len(req.Targets)-1]
			if last.Unit == "" {
				last.Unit = last.Device + "+" + tg.Device
				tg.Unit, tg.Prepares = last.Unit, last.Prepares
			}
		}
		if maybe() {
			tg.Covers = []string{[]string{"core-a", "core-b"}[w.upTo(1)]}
		}
		req.Targets = append(req.Targets, tg)
	}
	return req
}

func (w *rolloutWorld) unitsOf(req jobs.Request) (units []rollout.Unit) {
	for _, tg := range req.Targets {
		name := tg.Unit
		if name == "" {
			name = tg.Device
		}
		i := slices.IndexFunc(units, func(u rollout.Unit) bool { return u.Name == name })
		if i < 0 {
			i = len(units)
			units = append(units, rollout.Unit{Name: name})
		}
		units[i].Devices = append(units[i].Devices, tg.Device)
		units[i].Worst += tg.WorstCase
		for _, l := range tg.Covers {
			if !slices.Contains(units[i].Links, l) {
				units[i].Links = append(units[i].Links, l)
			}
		}
	}
	slices.SortFunc(units, func(a, b rollout.Unit) int { return strings.Compare(a.Name, b.Name) })
	return units
}

// run is the runner: it prepares, or takes the unit out and brings it back.
func (w *rolloutWorld) run(ctx context.Context, work jobs.Work, j jobs.Journal) jobs.Result {
	canceled := result(work, jobs.TaskResult{State: jobs.Canceled})
	pause := func(most int) bool {
		w.mu.Lock()
		d := time.Duration(1+w.upTo(most)) * time.Minute
		w.mu.Unlock()
		select {
		case <-time.After(d):
			return true
		case <-ctx.Done():
			return false
		}
	}
	if work.Phase == jobs.PhasePrepare {
		w.mu.Lock()
		if w.policy.Approve && !w.approved {
			w.breaks("%s is prepared before it was approved", work.Unit)
		}
		long := []int{0, 5, 300}[w.upTo(2)]
		bad := w.upTo(5) == 0
		w.mu.Unlock()
		if !pause(long) {
			return canceled
		}
		if bad {
			return result(work, fails(fault.Refused))
		}
		return result(work, succeeds(`1`))
	}
	w.begin(work)
	res := w.changeUnit(ctx, work, j, pause)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, work.Unit)
	w.logf("%s ended %s (held %t)", work.Unit, res.State, w.out[work.Unit])
	again := false
	if ctx.Err() == nil && res.Failure != nil && res.Failure.Kind.Retryable() {
		w.tries[work.Unit]++
		again = w.tries[work.Unit] == 1
	}
	if ctx.Err() == nil && !again {
		w.ended[work.Unit], w.endedAt[work.Unit] = res.State, time.Now()
		if w.out[work.Unit] && res.State == jobs.Failed {
			w.ended[work.Unit] = jobs.Attention
		}
	}
	return result(work, res)
}

// changeUnit takes at most the worst case.
func (w *rolloutWorld) changeUnit(ctx context.Context, work jobs.Work, j jobs.Journal, pause func(int) bool) jobs.TaskResult {
	canceled := jobs.TaskResult{State: jobs.Canceled}
	w.mu.Lock()
	most := int(w.units[work.Unit].Worst/time.Minute)/3 - 1
	fate := w.upTo(9)
	w.mu.Unlock()
	if !pause(most) { // preflight
		return canceled
	}
	if fate == 0 {
		return fails(fault.Unreachable)
	}
	if !work.Held {
		if err := j.Hold(ctx, "maintenance"); err != nil {
			return canceled
		}
	}
	w.mu.Lock()
	w.out[work.Unit] = true
	w.mu.Unlock()
	if !pause(most) {
		return canceled
	}
	switch fate {
	case 1:
		return fails(fault.Refused)
	case 2:
		return jobs.TaskResult{State: jobs.Attention, Failure: &jobs.Failure{Kind: fault.Internal, Message: "it shows nothing"}}
	}
	if err := j.Release(ctx, "return"); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	w.out[work.Unit] = false
	w.mu.Unlock()
	if fate == 3 {
		return jobs.TaskResult{State: jobs.Unchanged}
	}
	return succeeds(`1`)
}

// begin holds a unit that begins against the rules. One that was held goes on
// whatever they say now.
func (w *rolloutWorld) begin(work jobs.Work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.units[work.Unit]
	w.logf("%s begins, attempt %d, held %t", u.Name, work.Attempt, work.Held)
	if w.running[u.Name] {
		w.breaks("%s runs twice", u.Name)
	}
	if !w.canceled.IsZero() && time.Since(w.canceled) > 0 && !work.Held {
		w.breaks("%s begins in a job that is canceled", u.Name)
	}
	w.running[u.Name] = true
	if begun := slices.ContainsFunc(work.History, func(e jobs.Entry) bool { return e.Kind == jobs.EntryHold }); begun {
		if w.out[u.Name] && !work.Held {
			w.breaks("%s is out, and nobody says so", u.Name)
		}
		return
	}
	atWork := map[string]bool{}
	for name := range w.running {
		atWork[name] = true
	}
	for name, out := range w.out {
		if _, over := w.ended[name]; out && !over {
			atWork[name] = true
		}
	}
	failed := 0
	for name, state := range w.ended {
		if state != jobs.Failed && state != jobs.Attention {
			continue
		}
		failed++
		if (w.units[name].Wave == 0 || state == jobs.Attention) && time.Since(w.endedAt[name]) > 0 { // else nobody can know yet
			w.breaks("%s begins after %s ended as %s in wave %d", u.Name, name, state, w.units[name].Wave)
		}
	}
	if len(atWork)+failed > w.plan.Budget {
		w.breaks("%s begins: %d at work, %d failed, a budget of %d", u.Name, len(atWork), failed, w.plan.Budget)
	}
	if most := max(w.plan.Size, w.plan.Canary); len(atWork) > most {
		w.breaks("%s begins as the %dth of %d", u.Name, len(atWork), most)
	}
	for _, l := range u.Links {
		n := 0
		for _, other := range w.plan.Units {
			_, failedOut := w.ended[other.Name]
			if slices.Contains(other.Links, l) && (atWork[other.Name] || failedOut && w.out[other.Name]) {
				n++
			}
		}
		if have := w.plan.Covering[l]; have > 1 && n >= have {
			w.breaks("%s begins and leaves link %s to nobody", u.Name, l)
		}
	}
	for _, other := range w.plan.Units {
		if at, done := w.endedAt[other.Name]; done && w.ended[other.Name] == jobs.Succeeded && other.Wave < u.Wave &&
			!w.waveBegun(u) && time.Since(at) < w.policy.Soak {
			w.breaks("%s begins %v after %s", u.Name, time.Since(at), other.Name)
		}
	}
	if w.policy.Approve && !w.approved {
		w.breaks("%s begins before it was approved", u.Name)
	}
	w.inWindow(u)
}

// waveBegun reports whether another of a unit's wave, or of a later one, was begun.
func (w *rolloutWorld) waveBegun(u rollout.Unit) bool {
	return slices.ContainsFunc(w.plan.Units, func(other rollout.Unit) bool {
		_, ended := w.ended[other.Name]
		return other.Name != u.Name && other.Wave >= u.Wave && (ended || w.running[other.Name] || w.out[other.Name])
	})
}

// inWindow counts windows, which are daily and in UTC here, in a way of its own.
func (w *rolloutWorld) inWindow(u rollout.Unit) {
	if len(w.policy.Windows) == 0 {
		return
	}
	var hour, hours int
	if _, err := fmt.Sscanf(w.policy.Windows[0].String(), "daily %d:00+%dh", &hour, &hours); err != nil {
		w.t.Fatal(err)
	}
	now := time.Now().UTC()
	day := time.Date(now.Year(), now.Month(), now.Day(), hour, 0, 0, 0, time.UTC)
	if day.After(now) {
		day = day.AddDate(0, 0, -1)
	}
	end := day.Add(time.Duration(hours) * time.Hour)
	first := end.Sub(w.created) <= 24*time.Hour
	if now.Add(u.Worst).After(end) || !first && !w.policy.ResumeWindow {
		w.breaks("%s begins and takes up to %v, in the window from %v", u.Name, u.Worst, day)
	}
}

// disturb lets the job come to its end, with what people and machines do meanwhile.
func (w *rolloutWorld) disturb(h *harness, id string) {
	for hours := 0; ; hours++ {
		if job, _, err := h.Job(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		} else if job.FinishedAt != nil {
			return
		}
		if hours > 1000 {
			w.breaks("it does not end")
			return
		}
		w.mu.Lock()
		wait, what := time.Duration(1+w.upTo(120))*time.Minute+time.Second, w.upTo(9)
		if hours > 200 {
			what = 9 // it is left alone
		}
		w.mu.Unlock()
		time.Sleep(wait)
		switch {
		case what < 3:
			h.stop()
			time.Sleep(time.Duration(what) * 40 * time.Minute)
			h.reopen()
			h.start()
		case what == 3:
			if _, err := h.Pause(w.t.Context(), id, "bob"); err != nil && !fault.Is(err, fault.Conflict) {
				w.breaks("pause: %v", err)
			}
		case what == 4 && hours > 3:
			if _, err := h.Cancel(w.t.Context(), id, "bob"); err != nil && !fault.Is(err, fault.Conflict) {
				w.breaks("cancel: %v", err)
			}
			w.mu.Lock()
			w.canceled = time.Now()
			w.mu.Unlock()
		case what > 5:
			if _, err := h.Resume(w.t.Context(), id, "bob"); err != nil && !fault.Is(err, fault.Conflict) {
				w.breaks("resume: %v", err)
			}
			if w.policy.Approve {
				w.mu.Lock()
				w.approved = true
				w.mu.Unlock()
				if _, err := h.Approve(w.t.Context(), id, "bob"); err != nil && !fault.Is(err, fault.Conflict) {
					w.breaks("approve: %v", err)
				}
			}
		}
	}
}

// end holds the whole against the rules.
func (w *rolloutWorld) end(h *harness, job jobs.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tasks, err := h.Tasks(w.t.Context(), job.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	bad := map[string]bool{}
	for _, task := range tasks {
		w.logf("%s in the end %s: %s", task.Device, task.State, task.Reason)
		if task.State == jobs.Failed || task.State == jobs.Attention {
			bad[task.Unit] = true
		}
		if w.out[task.Unit] && task.State != jobs.Attention {
			w.breaks("%s is out and %s", task.Device, task.State)
		}
		if ended, ok := w.ended[task.Unit]; ok && ended != task.State && w.canceled.IsZero() {
			w.breaks("%s ended as %s and is %s", task.Device, ended, task.State)
		}
		if task.Reason == "" && task.State == jobs.Skipped {
			w.breaks("%s is skipped and does not know why", task.Device)
		}
	}
	if len(bad) > w.plan.Budget {
		w.breaks("%d failed of a budget of %d", len(bad), w.plan.Budget)
	}
}
