package daemon

import (
	"time"

	"capfleet/internal/api"
	"capfleet/internal/device"
	"capfleet/internal/jobs"
	"capfleet/internal/schedule"
)

// The bodies of the API are made here from what the engine and the inventory
// hold. Empty lists and maps are never null, times are UTC.

func out(j jobs.Job, err error) (api.Job, error) {
	if err != nil {
		return api.Job{}, err
	}
	return jobOut(j), nil
}

func jobOut(j jobs.Job) api.Job {
	counts := make(map[string]int, len(j.Counts))
	for state, n := range j.Counts {
		if n > 0 {
			counts[string(state)] = n
		}
	}
	name, _, _ := schedule.Origin(j.RequestID)
	return api.Job{
		ID: j.ID, Schedule: name, Operation: j.Operation, State: string(jobs.JobState(j)), Access: j.Access, CreatedBy: j.CreatedBy,
		CreatedAt: j.CreatedAt.UTC(), StartedAt: utc(j.StartedAt), FinishedAt: utc(j.FinishedAt), CanceledBy: j.CanceledBy,
		PausedBy: j.PausedBy, PausedAt: utc(j.PausedAt), ApprovedBy: j.ApprovedBy, ApprovedAt: utc(j.ApprovedAt), Rollout: rolloutOf(j.Rollout),
		Counts: counts, Devices: j.Devices, Spec: j.Spec, Warnings: list(j.Warnings),
	}
}

func taskOut(t jobs.Task) api.Task {
	o := api.Task{
		Job: t.Job, Device: t.Device, Unit: t.Unit, Site: t.Site, Wave: t.Wave, State: string(t.State), Step: t.Step,
		Attempt: t.Attempt, Reason: t.Reason, Until: utc(t.Until), StartedAt: utc(t.StartedAt), FinishedAt: utc(t.FinishedAt),
		Warnings: list(t.Warnings), Artifacts: list(t.Artifacts), Rows: t.Rows,
	}
	if f := t.Failure; f != nil {
		o.Failure = &api.Failure{Device: f.Device, Stage: f.Stage, Kind: string(f.Kind), Message: f.Message}
	}
	return o
}

func eventOut(e jobs.Event) api.Event {
	return api.Event{
		Seq: e.Seq, Time: e.Time.UTC(), Type: string(e.Type), Job: e.Job, Device: e.Device, State: string(e.State),
		Step: e.Step, Attempt: e.Attempt, Reason: e.Reason, Until: utc(e.Until), Done: e.Done, Total: e.Total, Unit: e.Unit,
	}
}

// deviceOut leaves out everything about secrets, the places of them included.
func deviceOut(dev *device.Device, f jobs.DeviceFacts) api.Device {
	o := api.Device{
		Name: dev.Name, Platform: dev.Platform, Address: address(dev.Host, dev.Port), Site: dev.Site,
		Groups: list(dev.Groups), Labels: pairs(dev.Labels), Covers: list(dev.Covers), HAPeer: dev.HAPeer, Jump: []string{},
		Username: dev.Credentials.Username, Facts: pairs(f.Facts), LastSeenAt: utc(f.LastSeen), LastError: f.LastError,
	}
	for _, hop := range dev.Jump {
		o.Jump = append(o.Jump, hop.Name)
	}
	if dev.BMC != nil {
		o.BMC = dev.BMC.Host
		if dev.BMC.Port != 0 {
			o.BMC = address(dev.BMC.Host, dev.BMC.Port)
		}
	}
	return o
}

func keysOut(keys []device.HostKey) []api.HostKey {
	l := make([]api.HostKey, 0, len(keys))
	for _, k := range keys {
		l = append(l, api.HostKey(k))
	}
	return l
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

func pairs(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
