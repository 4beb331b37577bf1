package jobs

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// index makes the scheduler's index of a job with one unit for each task list.
func index(id int, access string, tasks ...Task) *activeJob {
	j := newActiveJob(number(id), Job{Access: access}, 0)
	for _, task := range tasks {
		if task.Unit == "" {
			task.Unit = task.Device
		}
		if task.State == "" {
			task.State = Pending
		}
		j.add(task, false)
	}
	return j
}

func many(prefix, site string, n int) (tasks []Task) {
	for i := range n {
		tasks = append(tasks, Task{Device: fmt.Sprintf("%s%05d", prefix, i), Site: site})
	}
	return tasks
}

var errCanceled = errors.New("canceled")

func epoch() time.Time { return time.Unix(1_700_000_000, 0) }

// picks hands out as long as there is room, and gives the units' names.
func picks(s *schedule) (units []*unit, list []string) {
	for u := s.next(epoch()); u != nil; u = s.next(epoch()) {
		units = append(units, u)
		list = append(list, u.name)
	}
	return units, list
}

func TestLargeJobDoesNotStarveSmallOne(t *testing.T) {
	s := newSchedule(Limits{Global: 4, PerSite: 4, PerDevice: 1})
	s.addJob(index(1, accessRead, many("large", "lon", 10_000)...))
	running, _ := picks(s)
	s.addJob(index(2, accessRead, many("small", "lon", 3)...))
	var order []string
	for range 6 {
		s.ended(running[0], outcome{})
		more, list := picks(s)
		running, order = append(running[1:], more...), append(order, list...)
	}
	want := []string{"large00004", "small00000", "large00005", "small00001", "large00006", "small00002"}
	if !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
}

func TestFullSiteHoldsUpNoOther(t *testing.T) {
	s := newSchedule(Limits{Global: 100, PerSite: 2, PerDevice: 1})
	s.addJob(index(1, accessRead, append(many("lon", "lon", 5000), many("nyc", "nyc", 3)...)...))
	_, list := picks(s)
	if want := []string{"lon00000", "nyc00000", "lon00001", "nyc00001"}; !slices.Equal(list, want) {
		t.Errorf("handed out %q, want %q", list, want)
	}
}

func TestDeviceIsSharedByReadersAndHasOneChange(t *testing.T) {
	s := newSchedule(Limits{Global: 100, PerSite: 100, PerDevice: 3})
	for id := 1; id <= 5; id++ {
		s.addJob(index(id, accessChange, Task{Device: "a", Unit: fmt.Sprint("change", id)}))
		s.addJob(index(10+id, accessRead, Task{Device: "a", Unit: fmt.Sprint("read", id)}))
	}
	running, list := picks(s)
	if want := []string{"change1", "read1", "read2"}; !slices.Equal(list, want) {
		t.Fatalf("handed out %q, want %q", list, want)
	}
	s.ended(running[1], outcome{})
	if _, list := picks(s); !slices.Equal(list, []string{"read3"}) {
		t.Errorf("after a reader: %q", list)
	}
	s.ended(running[0], outcome{})
	if _, list := picks(s); !slices.Equal(list, []string{"change2"}) {
		t.Errorf("after the change: %q", list)
	}
}

func TestUnitTakesAllItsPlaces(t *testing.T) {
	s := newSchedule(Limits{Global: 100, PerSite: 1, PerDevice: 1})
	s.addJob(index(1, accessRead, Task{Device: "a", Site: "lon"}))
	s.addJob(index(2, accessChange, Task{Device: "a", Site: "lon", Unit: "pair"}, Task{Device: "b", Site: "nyc", Unit: "pair"}))
	s.addJob(index(3, accessRead, Task{Device: "c", Site: "nyc"}))
	running, list := picks(s)
	if want := []string{"a", "c"}; !slices.Equal(list, want) {
		t.Fatalf("handed out %q, want %q", list, want)
	}
	s.ended(running[0], outcome{})
	if _, list := picks(s); len(list) != 0 {
		t.Fatalf("the pair began with a site full: %q", list)
	}
	s.ended(running[1], outcome{})
	if _, list := picks(s); !slices.Equal(list, []string{"pair"}) {
		t.Errorf("handed out %q", list)
	}
}

func TestWaves(t *testing.T) {
	s := newSchedule(Limits{Global: 100, PerSite: 100, PerDevice: 1})
	s.addJob(index(1, accessChange, Task{Device: "c1", Wave: 2}, Task{Device: "b1", Wave: 1}, Task{Device: "a1"}, Task{Device: "a2"}))
	for _, want := range [][]string{{"a1", "a2"}, {"b1"}, {"c1"}} {
		running, list := picks(s)
		if !slices.Equal(list, want) {
			t.Fatalf("handed out %q, want %q", list, want)
		}
		for _, u := range running {
			s.ended(u, outcome{})
		}
	}
}

// TestRetryOvertakesTheLastEnd: the ledger can say that a job is finished, and an
// operator can retry it, before the end of its last unit has come here.
func TestRetryOvertakesTheLastEnd(t *testing.T) {
	s := newSchedule(Limits{Global: 1, PerSite: 1, PerDevice: 1})
	s.addJob(index(1, accessRead, many("d", "lon", 2)...))
	first, _ := picks(s)
	s.ended(first[0], outcome{})
	last, _ := picks(s)

	again := index(1, accessRead, many("d", "lon", 2)...)
	again.round = 1
	s.addJob(again)
	s.addJob(index(1, accessRead, many("d", "lon", 2)...)) // an old message
	s.ended(last[0], outcome{})
	var order []string
	for units, list := picks(s); len(units) > 0; units, list = picks(s) {
		order = append(order, list...)
		s.ended(units[0], outcome{})
	}
	if !slices.Equal(order, []string{"d00000", "d00001"}) {
		t.Errorf("after the retry: %q", order)
	}
	if len(s.jobs) != 0 || s.running != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// TestRetryOvertakesACancel: the ledger can say that a job is canceled, and an
// operator can retry it, before the message of the cancel has come here.
func TestRetryOvertakesACancel(t *testing.T) {
	s := newSchedule(Limits{Global: 1, PerSite: 1, PerDevice: 1})
	again := index(1, accessRead, many("d", "lon", 1)...)
	again.round = 1
	s.addJob(again)
	s.cancel(1, 0, errCanceled)
	if units, _ := picks(s); len(units) != 1 {
		t.Fatalf("%d units handed out of the retried job, want 1", len(units))
	}
	if running := s.cancel(1, 1, errCanceled); len(running) != 1 {
		t.Errorf("a cancel of the retry stops %d units, want 1", len(running))
	}
}

// TestJobIsKnownAlready: Run has read a job from the ledger when the message of
// its submission comes.
func TestJobIsKnownAlready(t *testing.T) {
	s := newSchedule(Limits{Global: 4, PerSite: 4, PerDevice: 4})
	for range 2 {
		s.addJob(index(1, accessRead, many("d", "lon", 2)...))
		picks(s)
	}
	if s.running != 2 {
		t.Errorf("%d units run of a job that has two", s.running)
	}
}

// TestScheduleProperty plays a scheduler in a simulated clock against a plain
// account of what it may do: jobs come, are canceled and retried, units end, are
// done again at once or later, and time passes.
func TestScheduleProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &player{
			limits:  Limits{Global: rapid.IntRange(1, 6).Draw(t, "global"), PerSite: rapid.IntRange(1, 4).Draw(t, "site"), PerDevice: rapid.IntRange(1, 3).Draw(t, "device")},
			now:     epoch(),
			waiting: make(map[*unit]time.Time),
			silent:  make(map[string]bool),
			counted: make(map[*unit]bool),
		}
		p.s = newSchedule(p.limits)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) { p.add(t) },
			"end": func(t *rapid.T) { p.end(t) },
			"cancel": func(t *rapid.T) {
				if len(p.jobs) > 0 {
					p.cancel(rapid.SampledFrom(p.jobs).Draw(t, "job"))
				}
			},
			"tick": func(t *rapid.T) {
				p.now = p.now.Add(time.Duration(rapid.IntRange(1, 10).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) {
				p.handOut(t)
				p.check(t)
			},
		})
		for len(p.running) > 0 || len(p.waiting) > 0 { // nothing more comes: everything ends
			p.now = p.now.Add(time.Hour)
			p.handOut(t)
			p.check(t)
			if len(p.running) == 0 {
				t.Fatalf("%d units are left and none is handed out", len(p.waiting))
			}
			p.finish(p.running[0], outcome{})
		}
		if s := p.s; len(s.jobs)+len(s.turn)+len(s.due)+len(s.gangs)+s.heldPlaces()+len(s.sites)+len(s.devices)+s.running != 0 {
			t.Fatalf("something is left behind: %+v", s)
		}
	})
}

// player keeps the account.
type player struct {
	limits  Limits
	s       *schedule
	now     time.Time
	jobs    []*activeJob
	last    int
	waiting map[*unit]time.Time // units that did not begin, and from when they may
	running []*unit
	silent  map[string]bool // devices whose last contact failed
	counted map[*unit]bool  // those that run and were silent when they began
}

// quiet reports whether a unit has a silent device.
func (p *player) quiet(u *unit) bool {
	return slices.ContainsFunc(u.devices, func(d string) bool { return p.silent[d] })
}

func (p *player) add(t *rapid.T) {
	p.last++
	devices := []string{"a", "b", "c", "d", "e", "f"}
	site := map[string]string{"a": "1", "b": "1", "c": "1", "d": "2", "e": "2", "f": "3"}
	access := rapid.SampledFrom([]string{accessRead, accessChange}).Draw(t, "access")
	left := rapid.Permutation(devices).Draw(t, "devices")[:rapid.IntRange(1, 6).Draw(t, "how many")]
	j := newActiveJob(number(p.last), Job{Access: access}, 0)
	for i := 0; len(left) > 0; i++ {
		n := min(len(left), rapid.IntRange(1, 2).Draw(t, "size"))
		wave := rapid.IntRange(0, 2).Draw(t, "wave")
		final := rapid.IntRange(0, 5).Draw(t, "final") == 0
		for _, d := range left[:n] {
			task := Task{Device: d, Unit: fmt.Sprint("u", i), Site: site[d], Wave: wave, State: Pending}
			if final {
				task.State = Succeeded
			}
			j.add(task, false)
		}
		left = left[n:]
	}
	var open []*unit
	for _, u := range j.units {
		if u.open {
			open = append(open, u)
		}
	}
	j.together = len(open) > 0 && p.mayBeTogether(open) && rapid.Bool().Draw(t, "together")
	p.jobs = append(p.jobs, j)
	p.s.addJob(j)
	if j.together {
		open = p.s.gangs[len(p.s.gangs)-1:]
		if n := open[0].size(); n != len(open[0].members) || len(p.s.jobs[j.id].later) != 0 {
			t.Fatalf("a gang of %d has %d members, and something is left for later", n, len(open[0].members))
		}
	}
	for _, u := range open {
		p.waiting[u] = p.now
	}
}

// mayBeTogether reports whether Submit would take units as a gang.
func (p *player) mayBeTogether(units []*unit) bool {
	sites := map[string]int{}
	for _, u := range units {
		if u.wave != units[0].wave {
			return false
		}
		for _, name := range u.places {
			sites[name]++
		}
	}
	for _, n := range sites {
		if n > p.limits.PerSite {
			return false
		}
	}
	return len(units) <= p.limits.Global
}

func (p *player) end(t *rapid.T) {
	if len(p.running) == 0 {
		return
	}
	u := rapid.SampledFrom(p.running).Draw(t, "unit")
	o := outcome{again: rapid.Bool().Draw(t, "again")}
	if o.again && rapid.Bool().Draw(t, "later") {
		o.until = p.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "delay")) * time.Second)
	}
	for _, d := range u.devices {
		if c := rapid.SampledFrom([]contact{unknown, heard, silent}).Draw(t, "contact"); c != unknown {
			o.tell(d, c)
			p.silent[d] = c == silent
		}
	}
	p.finish(u, o)
}

func (p *player) finish(u *unit, o outcome) {
	p.running = slices.DeleteFunc(p.running, func(r *unit) bool { return r == u })
	delete(p.counted, u)
	if o.again && slices.Contains(p.jobs, u.job) {
		p.waiting[u] = p.now
		if o.until.After(p.now) {
			p.waiting[u] = o.until
		}
	}
	p.s.ended(u, o)
}

func (p *player) cancel(j *activeJob) {
	p.jobs = slices.DeleteFunc(p.jobs, func(other *activeJob) bool { return other == j })
	for u := range p.waiting {
		if u.job == j {
			delete(p.waiting, u)
		}
	}
	want := 0
	for _, u := range p.running {
		if u.job == j {
			want++
		}
	}
	if got := p.s.cancel(j.id, j.round, errCanceled); len(got) != want {
		panic(fmt.Sprintf("cancel gave %d running units, want %d", len(got), want))
	}
}

func (p *player) handOut(t *rapid.T) {
	for u := p.s.next(p.now); u != nil; u = p.s.next(p.now) {
		from, ok := p.waiting[u]
		if !ok {
			t.Fatalf("unit %s of job %d was handed out and does not wait", u.name, u.job.id)
		}
		if from.After(p.now) {
			t.Fatalf("unit %s of job %d was handed out %v too soon", u.name, u.job.id, from.Sub(p.now))
		}
		if w := p.wave(u.job); u.wave != w {
			t.Fatalf("unit %s of job %d is of wave %d, and wave %d is not done", u.name, u.job.id, u.wave, w)
		}
		delete(p.waiting, u)
		p.running = append(p.running, u)
		p.counted[u] = u.members == nil && p.quiet(u)
		if why := p.over(); why != "" {
			t.Fatalf("handing out unit %s of job %d: %s", u.name, u.job.id, why)
		}
	}
}

// wave is the first wave of a job in which something is not done.
func (p *player) wave(j *activeJob) int {
	wave := 1 << 30
	for u := range p.waiting {
		if u.job == j {
			wave = min(wave, u.wave)
		}
	}
	for _, u := range p.running {
		if u.job == j {
			wave = min(wave, u.wave)
		}
	}
	return wave
}

// over says which limit is exceeded by what runs.
func (p *player) over() string {
	sites, devices, changes := map[string]int{}, map[string]int{}, map[string]int{}
	quiet, quietAt, total := 0, map[string]int{}, 0
	for _, u := range p.running {
		total += u.size()
		if p.counted[u] {
			quiet++
		}
		for _, name := range u.places {
			sites[name]++
			if p.counted[u] {
				quietAt[name]++
			}
		}
		for _, name := range u.devices {
			devices[name]++
			if u.job.access == accessChange {
				changes[name]++
			}
		}
	}
	if total > p.limits.Global {
		return fmt.Sprintf("%d run in all", total)
	}
	if quiet > share(p.limits.Global) {
		return fmt.Sprintf("%d run on silent devices", quiet)
	}
	for name, n := range sites {
		if n > p.limits.PerSite || quietAt[name] > share(p.limits.PerSite) {
			return fmt.Sprintf("%d run at site %s, %d of them on silent devices", n, name, quietAt[name])
		}
	}
	for name, n := range devices {
		if n > p.limits.PerDevice || changes[name] > 1 {
			return fmt.Sprintf("%d run on device %s, %d of them changes", n, name, changes[name])
		}
	}
	return ""
}

// check makes sure that nothing that could run is left waiting, and that the
// clock will be asked again for what waits for it.
func (p *player) check(t *rapid.T) {
	for u, from := range p.waiting {
		if u.wave != p.wave(u.job) {
			continue
		}
		if from.After(p.now) {
			if at, ok := p.s.wake(); !ok || at.After(from) {
				t.Fatalf("unit %s of job %d waits until %v and nobody wakes for it (%v %t)", u.name, u.job.id, from, at, ok)
			}
			continue
		}
		if p.s.held != nil && u != p.s.held {
			continue // it keeps places from others until it begins
		}
		if u.members != nil && u != p.s.held && p.s.gangLast {
			continue // work of the other kind has its turn first
		}
		p.running = append(p.running, u)
		p.counted[u] = u.members == nil && p.quiet(u)
		why := p.over()
		p.running = p.running[:len(p.running)-1]
		delete(p.counted, u)
		if why == "" {
			t.Fatalf("unit %s of job %d could run and does not", u.name, u.job.id)
		}
	}
}

// TestGateMessagesOvertake: the later event counts, in whatever order messages
// come.
func TestGateMessagesOvertake(t *testing.T) {
	s := newSchedule(Limits{Global: 1, PerSite: 1, PerDevice: 1})
	s.addJob(index(1, accessRead, many("d", "lon", 3)...))
	running, _ := picks(s)
	s.turnGate(1, gate{shut: false, since: 9}) // resumed
	s.turnGate(1, gate{shut: true, since: 8})  // after it was paused
	s.ended(running[0], outcome{again: true, gate: gate{shut: true, since: 8}})
	running, list := picks(s)
	if len(list) != 1 {
		t.Fatalf("a job that was resumed stands still: %q", list)
	}
	s.turnGate(1, gate{shut: true, since: 10})
	s.ended(running[0], outcome{})
	if _, list := picks(s); len(list) != 0 {
		t.Errorf("a paused job goes on: %q", list)
	}
	if _, ok := s.wake(); ok {
		t.Error("a paused job keeps the clock going")
	}
}
