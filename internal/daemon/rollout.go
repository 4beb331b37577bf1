package daemon

import (
	"context"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/rollout"
)

// policyOf reads a request's rollout; nil stays nil.
func policyOf(r *api.Rollout) (*rollout.Policy, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	p := &rollout.Policy{Canary: r.Canary, Soak: time.Duration(r.SoakSeconds) * time.Second, PauseAfterCanary: r.PauseAfter == "canary",
		Approve: r.Approve, ResumeWindow: r.ResumeWindow, RequireCoverage: r.RequireCoverage}
	if r.PauseAfter != "" && r.PauseAfter != "canary" {
		return nil, fault.New(fault.Invalid, "a job can pause after the canary, not after %q", fault.Clip(r.PauseAfter, 64))
	}
	var err error
	if p.Wave, err = rollout.ParseAmount(r.Wave); err != nil {
		return nil, fault.Wrap(fault.Invalid, "read the size of a wave (--wave)", err)
	}
	if p.MaxFailures, err = rollout.ParseAmount(r.MaxFailures); err != nil {
		return nil, fault.Wrap(fault.Invalid, "read the number of failures (--max-failures)", err)
	}
	for _, text := range r.Window {
		w, err := rollout.ParseWindow(text)
		if err != nil {
			return nil, err
		}
		p.Windows = append(p.Windows, w)
	}
	if r.Start != nil {
		p.Start = r.Start.UTC()
	}
	if r.End != nil {
		p.End = r.End.UTC()
	}
	return p, p.Validate()
}

// rolloutOf is policyOf the other way round.
func rolloutOf(p *rollout.Policy) *api.Rollout {
	if p == nil {
		return nil
	}
	r := &api.Rollout{Canary: p.Canary, Wave: p.Wave.String(), MaxFailures: p.MaxFailures.String(), SoakSeconds: int64(p.Soak / time.Second),
		Approve: p.Approve, ResumeWindow: p.ResumeWindow, RequireCoverage: p.RequireCoverage}
	if p.PauseAfterCanary {
		r.PauseAfter = "canary"
	}
	for _, w := range p.Windows {
		r.Window = append(r.Window, w.String())
	}
	r.Start, r.End = known(p.Start), known(p.End)
	return r
}

// known gives a time, or nil for one that is not known.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// covering counts the devices of the inventory that watch each link.
func covering(devices []*device.Device) map[string]int {
	n := make(map[string]int)
	for _, dev := range devices {
		for _, link := range dev.Covers {
			n[link]++
		}
	}
	return n
}

// Plan says how the rollout of a request would go. One without a rollout goes to all
// devices at once.
func (s service) Plan(ctx context.Context, by string, req api.JobRequest) (api.Plan, error) {
	request, err := s.d.request(ctx, by, req)
	if err != nil {
		return api.Plan{}, err
	}
	if request.Rollout == nil {
		none := 0
		request.Rollout = &rollout.Policy{Canary: &none, Wave: rollout.Percent(100)}
	}
	plan, now, err := s.d.engine.Plan(request)
	if err != nil {
		return api.Plan{}, err
	}
	p := planOut(plan, request, now)
	p.Operation = request.Operation
	p.Warnings = append(list(request.Warnings), plan.Warnings()...)
	p.Refusals = list(plan.Refusals(now))
	return p, nil
}

func planOut(plan *rollout.Plan, request jobs.Request, now time.Time) api.Plan {
	p := api.Plan{Canary: plan.Canary, WaveSize: plan.Size, Waves: plan.Waves, MaxFailures: plan.Budget}
	site := make(map[string]string)
	for _, t := range request.Targets {
		site[t.Device] = t.Site
	}
	var last time.Time
	forecast := plan.Forecast(now)
	for i, u := range plan.Units {
		f := forecast[i]
		zone := u.Zone
		if zone == "" {
			zone = "UTC"
		}
		p.Rows = append(p.Rows, api.PlannedUnit{Unit: u.Name, Devices: u.Devices, Wave: u.Wave, Site: site[u.Devices[0]], TimeZone: zone,
			Covers: list(u.Links), WorstCaseSeconds: int64(u.Worst / time.Second), BeginAt: known(f.Begin), EndAt: known(f.End),
			LatestBeginAt: known(f.Latest), Skipped: f.Skipped})
		if f.End.After(last) {
			last = f.End
		}
	}
	p.EndsAt = known(last)
	return p
}

func (s service) Approve(ctx context.Context, id, by string) (api.Job, error) {
	j, err := s.d.engine.Approve(ctx, id, by)
	if err == nil {
		s.d.log.Info("job approved", "job", id, "by", by)
	}
	return out(j, err)
}
