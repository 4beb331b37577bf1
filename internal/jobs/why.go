package jobs

import (
	"context"
	"fmt"
)

// Units that a limit holds up are pending, and why is nowhere in the ledger: with
// thousands of them it changes with every one that ends. It is worked out when
// somebody asks.

// answer has the loop of Run be asked, until the function that it gives is called.
func (e *Engine) answer() func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	answers := make(chan struct{})
	e.answers = answers
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		close(answers)
		e.answers = nil
	}
}

// explain fills in why tasks wait that do not say.
func (e *Engine) explain(ctx context.Context, id number, tasks []Task) {
	now := e.now()
	silent := func(t Task) bool {
		return t.State == Pending || t.State == Waiting && (t.Until == nil || !t.Until.After(now))
	}
	asks := false
	for _, t := range tasks {
		asks = asks || silent(t)
	}
	e.mu.Lock()
	answers := e.answers
	e.mu.Unlock()
	if !asks || answers == nil {
		return
	}
	reply := make(chan map[string]string, 1)
	e.mail.post(message{job: id, why: reply})
	var why map[string]string
	select {
	case why = <-reply:
	case <-answers:
	case <-ctx.Done():
	}
	for i, t := range tasks {
		if reason := why[t.Unit]; reason != "" && silent(t) {
			tasks[i].Reason = reason
		}
	}
}

// why says of the units of a job that could be handed out what they wait for.
func (s *schedule) why(id number) map[string]string {
	j := s.jobs[id]
	if j == nil {
		return nil
	}
	found := make(map[string]string)
	say := func(units ...*unit) {
		for _, u := range units {
			if u.job != j || u.revoked {
				continue
			}
			reason := s.whyNot(u)
			found[u.name] = reason
			for _, m := range u.members {
				found[m.name] = reason
			}
		}
	}
	for _, q := range j.sites {
		for _, l := range q.lanes {
			say(l.returned...)
			say(l.units...)
		}
	}
	for _, places := range []map[string]*place{s.sites, s.devices} {
		for _, p := range places {
			say(p.parked...)
		}
	}
	say(s.preps.parked...)
	say(s.urgent...)
	say(s.gangs...)
	if s.held != nil {
		say(s.held)
	}
	for _, later := range j.later {
		for _, u := range later {
			found[u.name] = fmt.Sprintf("waits for wave %d", j.wave)
		}
	}
	return found
}

// whyNot names the limit that holds up a unit; "" for one that is about to begin.
func (s *schedule) whyNot(u *unit) string {
	switch {
	case u.job.gate.shut && !u.begun:
		return "the job is paused"
	case u.members != nil:
		return fmt.Sprintf("waits until all %d units of the job can begin together", u.size())
	case s.running+s.heldPlaces() >= s.limits.Global:
		return fmt.Sprintf("all %d places of fleetd are taken", s.limits.Global)
	case u.lane == silentLane && s.silent >= share(s.limits.Global):
		return fmt.Sprintf("all %d places for devices that did not answer last time are taken", share(s.limits.Global))
	}
	if u.phase == PhasePrepare && s.preps.used >= forPreparing(s.limits.Global) {
		return fmt.Sprintf("all %d places for preparations are taken", forPreparing(s.limits.Global))
	}
	for _, name := range u.places {
		p := s.sites[name]
		switch {
		case p == nil:
		case u.phase == PhasePrepare && p.preps >= forPreparing(s.limits.PerSite):
			return fmt.Sprintf("all %d places of site %s for preparations are taken", forPreparing(s.limits.PerSite), name)
		case p.used+p.held >= s.limits.PerSite:
			return fmt.Sprintf("all %d places of site %s are taken", s.limits.PerSite, name)
		case u.lane == silentLane && p.silent >= share(s.limits.PerSite):
			return fmt.Sprintf("all %d places of site %s for devices that did not answer last time are taken", share(s.limits.PerSite), name)
		}
	}
	for _, name := range u.devices {
		p := s.devices[name]
		switch {
		case p == nil:
		case (p.change || p.heldChange) && u.changes():
			return fmt.Sprintf("another change of %s is at work", name)
		case p.used+p.held >= s.limits.PerDevice:
			return fmt.Sprintf("all %d places of %s are taken", s.limits.PerDevice, name)
		}
	}
	return ""
}
