package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"capfleet/internal/api"
	"capfleet/internal/device"
	"capfleet/internal/device/inventory"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/operation"
)

// Start makes a job: the one way in for everybody who starts work. By is who
// asked. The devices are fixed now, as the inventory has them; what later
// happens to the inventory does not touch the job.
func (d *Daemon) Start(ctx context.Context, by string, req api.JobRequest) (jobs.Job, error) {
	request, err := d.request(ctx, by, req)
	if err != nil {
		return jobs.Job{}, err
	}
	if err := d.ledger.Room(); err != nil {
		return jobs.Job{}, err
	}
	job, err := d.engine.Submit(ctx, request)
	if err != nil {
		return jobs.Job{}, err
	}
	d.log.Info("job requested", "job", job.ID, "op", job.Operation, "access", job.Access, "by", by, "devices", job.Devices)
	return job, nil
}

// request checks what somebody asks for and resolves its devices, touching none.
func (d *Daemon) request(ctx context.Context, by string, req api.JobRequest) (jobs.Request, error) {
	op, ok := d.operations[req.Operation]
	if !ok {
		return jobs.Request{}, fault.New(fault.Invalid, "there is no operation %q (there are: %s)", fault.Clip(req.Operation, 64),
			strings.Join(slices.Sorted(maps.Keys(d.operations)), ", "))
	}
	inv := d.inventory.Load()
	devices, err := inv.Select(selection(req.Selection))
	if err != nil {
		return jobs.Request{}, err
	}
	policy, err := policyOf(req.Rollout)
	if err != nil {
		return jobs.Request{}, err
	}
	prepared, err := op.Prepare(ctx, req.Spec, devices)
	if err != nil {
		return jobs.Request{}, err
	}
	devices, err = without(devices, prepared.Omit, req.Operation)
	if err != nil {
		return jobs.Request{}, err
	}
	request := jobs.Request{
		Operation:   op.Name(),
		Spec:        prepared.Spec,
		Access:      string(prepared.Access),
		CreatedBy:   by,
		RequestID:   req.RequestID,
		Coordinated: prepared.Coordinated,
		Beside:      prepared.Beside,
		Warnings:    slices.Concat(inv.SelectionWarnings(selection(req.Selection)), prepared.Warnings, omitted(prepared.Omit)),
		Rollout:     policy,
	}
	if policy != nil {
		request.Covering = covering(inv.Devices())
	}
	units := unitsOf(devices, prepared.Access)
	for _, dev := range devices {
		snapshot, err := json.Marshal(dev)
		if err != nil {
			return jobs.Request{}, fault.Wrap(fault.Internal, "keep the job's copy of "+dev.Name, err)
		}
		request.Targets = append(request.Targets, jobs.Target{Device: dev.Name, Unit: units[dev.Name], Site: dev.Site, Snapshot: snapshot,
			Covers: dev.Covers, Zone: dev.Timezone, WorstCase: prepared.WorstCase[dev.Name], Prepares: prepared.Prepares})
	}
	return request, nil
}

// unitsOf says which devices are worked on as one. Readers take each device by
// itself. A change takes the members of an HA pair that are selected together,
// so that both are never changed at once.
func unitsOf(devices []*device.Device, access operation.Access) map[string]string {
	units := make(map[string]string, len(devices))
	selected := make(map[string]bool, len(devices))
	for _, dev := range devices {
		units[dev.Name] = dev.Name
		selected[dev.Name] = true
	}
	if access != operation.Change {
		return units
	}
	for _, dev := range devices {
		if dev.HAPeer != "" && selected[dev.HAPeer] {
			units[dev.Name] = min(dev.Name, dev.HAPeer) + "+" + max(dev.Name, dev.HAPeer)
		}
	}
	return units
}

// without leaves out the devices that an operation has nothing to do on.
func without(devices []*device.Device, omit map[string]string, op string) ([]*device.Device, error) {
	left := slices.DeleteFunc(slices.Clone(devices), func(dev *device.Device) bool {
		_, out := omit[dev.Name]
		return out
	})
	if len(left) == 0 {
		return nil, fault.New(fault.Unsupported, "%s has nothing to do on the selected devices: %s", op, strings.Join(omitted(omit), "; "))
	}
	return left, nil
}

// omitted tells which devices were left out, a line for each reason.
func omitted(omit map[string]string) []string {
	const shown = 5
	reasons := map[string][]string{}
	for name, reason := range omit {
		reasons[reason] = append(reasons[reason], name)
	}
	var lines []string
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		names := reasons[reason]
		slices.Sort(names)
		text := strings.Join(names[:min(len(names), shown)], ", ")
		if more := len(names) - shown; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		lines = append(lines, fmt.Sprintf("left out %s: %s", text, reason))
	}
	return lines
}

func selection(sel api.Selection) inventory.Selection {
	return inventory.Selection{Names: sel.Names, Selector: sel.Selector, All: sel.All}
}
