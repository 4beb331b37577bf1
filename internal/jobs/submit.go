package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// The bounds of names in keys. Devices and units come from an inventory that has
// rules of its own; these are what the ledger needs.
const (
	maxName      = 512
	maxRequestID = 256
)

// Submit makes a job. It is durable when Submit returns, all of it or nothing,
// and its work begins when the limits have room. A request id that was used
// before gives the job that was made then, and nothing is started.
func (e *Engine) Submit(ctx context.Context, req Request) (Job, error) {
	if err := req.validate(); err != nil {
		return Job{}, err
	}
	if req.Coordinated {
		if limit, need, have := e.limits.tooLarge(req.Targets); limit != "" {
			return Job{}, fault.New(fault.Invalid, "%d units have to run together %s, and the limit is %d", need, limit, have)
		}
	}
	now := e.now()
	if req.Rollout != nil {
		if err := req.layOut(now); err != nil {
			// Its time can be past when it is asked for once more.
			if job, ok := e.requested(ctx, req.RequestID); ok {
				return job, nil
			}
			return Job{}, err
		}
	}
	job := Job{
		Operation: req.Operation,
		Spec:      req.Spec,
		Access:    req.Access,
		CreatedBy: req.CreatedBy,
		CreatedAt: now,
		RequestID: req.RequestID,
		Warnings:  req.Warnings,
		Devices:   len(req.Targets),

		Coordinated: req.Coordinated,
		Beside:      req.Beside,
		Rollout:     req.Rollout,
	}
	if req.Rollout != nil {
		job.Covering = req.Covering
	}
	if len(job.Spec) == 0 {
		job.Spec = json.RawMessage("{}")
	}
	targets, tasks, err := encodeTargets(req.Targets)
	if err != nil {
		return Job{}, err
	}

	var (
		id   number
		made bool
	)
	err = e.ledger.Update(ctx, func(tx *ledger.Tx) error {
		if req.RequestID != "" {
			if have := tx.Get(nsRequests, []byte(req.RequestID)); have != nil {
				id = numberOf(have)
				return nil
			}
		}
		n, err := tx.Sequence(nsJobs)
		if err != nil {
			return err
		}
		id, made = number(n), true
		return e.store(tx, id, &job, targets, tasks)
	})
	if err != nil {
		return Job{}, fault.Wrap(fault.Storage, "submit job", err)
	}
	if !made {
		job, _, err = e.Job(ctx, id.String())
		return job, err
	}

	active := newActiveJob(id, job, 0)
	for _, t := range req.Targets {
		active.add(Task{Device: t.Device, Unit: t.unit(), Site: t.Site, Wave: t.Wave, State: Pending}, t.Prepares)
	}
	if req.Rollout != nil {
		if err := active.follow(job, progress{}, req.Targets); err != nil {
			return Job{}, err
		}
	}
	e.mail.post(message{add: active})
	e.watchers.wake(job.ID)
	return job, nil
}

// requested gives the job that was made for a request id.
func (e *Engine) requested(ctx context.Context, request string) (job Job, ok bool) {
	if request == "" {
		return Job{}, false
	}
	err := e.view(ctx, func(tx *ledger.Tx) (err error) {
		if have := tx.Get(nsRequests, []byte(request)); have != nil {
			job, err = readJob(tx, numberOf(have))
			ok = err == nil
		}
		return err
	})
	return job, ok && err == nil
}

// store writes a new job with everything that it begins with.
func (e *Engine) store(tx *ledger.Tx, id number, job *Job, targets, tasks []named) error {
	job.ID = id.String()
	c := &change{tx: tx, id: id, now: job.CreatedAt, changed: true}
	c.job.Counts = map[State]int{Pending: len(tasks)}
	c.job.fill(job)
	if err := c.event(Event{Type: EventJobCreated, State: Pending}); err != nil {
		return err
	}
	job.FirstEvent = c.seq - 1
	if err := c.audit(audit.JobSubmit, job.CreatedBy, submitted(job)); err != nil {
		return err
	}

	stored := *job
	stored.Counts = nil
	if err := put(tx, nsJobs, id.key(), stored); err != nil {
		return err
	}
	for i, t := range targets {
		if err := tx.Put(nsTargets, id.under(t.name), t.value); err != nil {
			return err
		}
		if err := tx.Put(nsTasks, id.under(t.name), tasks[i].value); err != nil {
			return err
		}
	}
	if job.RequestID != "" {
		if err := tx.Put(nsRequests, []byte(job.RequestID), id.key()); err != nil {
			return err
		}
	}
	if err := tx.Put(nsActive, id.key(), nil); err != nil {
		return err
	}
	return c.close()
}

// submitted is what the audit says about a new job. It outlives the job, so it
// has the spec in it as far as that fits.
func submitted(job *Job) string {
	if job.Rollout != nil {
		policy, err := json.Marshal(job.Rollout)
		if err == nil {
			return fmt.Sprintf("%s (%s) on %d devices, rollout %s: %s", job.Operation, job.Access, job.Devices, policy, job.Spec)
		}
	}
	return fmt.Sprintf("%s (%s) on %d devices: %s", job.Operation, job.Access, job.Devices, job.Spec)
}

// named is a value that is stored under the job and a name.
type named struct {
	name  string
	value []byte
}

// encodeTargets makes what is stored of each target outside of the transaction,
// which everybody else waits for.
func encodeTargets(list []Target) (targets, tasks []named, err error) {
	targets = make([]named, 0, len(list))
	tasks = make([]named, 0, len(list))
	// In order of key the ledger appends; out of order it would move what it has.
	inOrder := slices.SortedFunc(slices.Values(list), func(a, b Target) int { return strings.Compare(a.Device, b.Device) })
	for _, t := range inOrder {
		t.Unit = t.unit()
		target, err := json.Marshal(t)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Invalid, "encode target "+t.Device, err)
		}
		task, err := json.Marshal(taskRecord{Task: Task{Device: t.Device, Unit: t.Unit, Site: t.Site, Wave: t.Wave, State: Pending}})
		if err != nil {
			return nil, nil, fault.Wrap(fault.Internal, "encode task "+t.Device, err)
		}
		targets = append(targets, named{t.Device, target})
		tasks = append(tasks, named{t.Device, task})
	}
	return targets, tasks, nil
}

// unit is the name of the unit that the device is worked on in: its own when the
// request names none.
func (t Target) unit() string {
	if t.Unit == "" {
		return t.Device
	}
	return t.Unit
}

// validate refuses what could not be stored or run.
func (r Request) validate() error {
	switch {
	case r.Operation == "":
		return fault.New(fault.Invalid, "the request names no operation")
	case r.Access != accessRead && r.Access != accessChange:
		return fault.New(fault.Invalid, "access %q is neither read nor change", r.Access)
	case len(r.RequestID) > maxRequestID:
		return fault.New(fault.Invalid, "the request id is longer than %d bytes", maxRequestID)
	case len(r.Spec) > 0 && !json.Valid(r.Spec):
		return fault.New(fault.Invalid, "the spec is not JSON")
	case len(r.Targets) == 0:
		return fault.New(fault.Invalid, "the request names no device")
	}
	seen := make(map[string]struct{}, len(r.Targets))
	waves := make(map[string]int)
	for _, t := range r.Targets {
		if !validName(t.Device) || !validName(t.unit()) {
			return fault.New(fault.Invalid, "device %q or unit %q: a name has 1 to %d bytes and no NUL", t.Device, t.Unit, maxName)
		}
		if _, twice := seen[t.Device]; twice {
			return fault.New(fault.Invalid, "device %q is named twice", t.Device)
		}
		seen[t.Device] = struct{}{}
		if wave, ok := waves[t.unit()]; t.Wave < 0 || ok && wave != t.Wave {
			return fault.New(fault.Invalid, "unit %q: its devices are in waves %d and %d", t.unit(), wave, t.Wave)
		}
		waves[t.unit()] = t.Wave
		if r.Coordinated && t.Wave != 0 {
			return fault.New(fault.Invalid, "device %q is in wave %d of a job whose units run together", t.Device, t.Wave)
		}
		if len(t.Snapshot) > 0 && !json.Valid(t.Snapshot) {
			return fault.New(fault.Invalid, "the snapshot of device %q is not JSON", t.Device)
		}
	}
	return nil
}

func validName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsRune(s, 0)
}
