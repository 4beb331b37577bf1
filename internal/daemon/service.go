package daemon

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"capfleet/internal/api"
	"capfleet/internal/artifact"
	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/schedule"
)

// service answers the API. The methods only translate; what decides is in the
// engine, in the inventory and in Start.
type service struct{ d *Daemon }

var _ api.Service = service{}

func (s service) Version(context.Context) (api.Version, error) {
	v := s.d.version
	inv := s.d.inventory.Load()
	v.Inventory, v.Devices = inv.Path(), len(inv.Devices())
	return v, nil
}

// PinHostKeys pins keys for devices of the inventory, each into the known_hosts
// file that the device is checked against. A key for a host that is not the
// device's own address is refused: a slip there would trust somebody else.
func (s service) PinHostKeys(ctx context.Context, by string, req api.PinRequest) (api.PinResult, error) {
	inv := s.d.inventory.Load()
	files := map[string][]device.HostKey{}
	keys, certificates, err := takeCertificates(inv, req.Keys)
	if err != nil {
		return api.PinResult{}, err
	}
	for _, key := range keys {
		dev, err := inv.Device(key.Device)
		if err != nil {
			return api.PinResult{}, err
		}
		if !strings.EqualFold(key.Host, hostName(dev)) {
			return api.PinResult{}, &fault.Error{Kind: fault.Invalid, Act: "pin host key", Device: dev.Name,
				Err: fault.New(fault.Invalid, "the key is for host %q, the device is %s", fault.Clip(key.Host, 64), hostName(dev))}
		}
		files[dev.KnownHosts] = append(files[dev.KnownHosts], device.HostKey(key))
	}
	if len(files)+len(certificates) == 0 {
		return api.PinResult{}, fault.New(fault.Invalid, "no host keys are given")
	}
	out, err := s.d.auditedPin(ctx, by, req, func() (out api.PinResult, err error) {
		if out, err = s.d.pinCertificates(certificates, req.Replace); err != nil {
			return out, err
		}
		for _, path := range slices.Sorted(maps.Keys(files)) {
			added, unchanged, err := sshconn.PinHostKeys(ctx, path, files[path], req.Replace)
			out.Added = append(out.Added, keysOut(added)...)
			out.Unchanged = append(out.Unchanged, keysOut(unchanged)...)
			if err != nil {
				return out, err
			}
		}
		return out, nil
	})
	if err != nil {
		return api.PinResult{}, err
	}
	for _, key := range out.Added {
		s.d.log.Info("host key pinned", "device", key.Device, "type", key.Type, "sha256", key.SHA256, "by", by, "replace", req.Replace)
	}
	return out, nil
}

// hostName is a device's host as known_hosts names it.
func hostName(dev *device.Device) string {
	if dev.Port == 22 || dev.Port == 0 {
		return dev.Host
	}
	return "[" + dev.Host + "]:" + strconv.Itoa(dev.Port)
}

func (s service) Start(ctx context.Context, by string, req api.JobRequest) (api.Job, error) {
	if schedule.Reserved(req.RequestID) {
		return api.Job{}, fault.New(fault.Invalid, "request ids that begin with %q are those of schedules", "schedule:")
	}
	return out(s.d.Start(ctx, by, req))
}

func (s service) Jobs(ctx context.Context, q api.JobQuery) (api.JobList, error) {
	list, next, err := s.d.engine.List(ctx, jobs.ListOptions{Before: q.Before, Limit: q.Limit, Active: q.Active})
	if err != nil {
		return api.JobList{}, err
	}
	l := api.JobList{Rows: make([]api.Job, 0, len(list)), Next: next}
	for _, j := range list {
		l.Rows = append(l.Rows, jobOut(j))
	}
	return l, nil
}

func (s service) Job(ctx context.Context, id string) (api.Job, error) {
	j, _, err := s.d.engine.Job(ctx, id)
	return out(j, err)
}

func (s service) Tasks(ctx context.Context, id string) ([]api.Task, error) {
	tasks, err := s.d.engine.Tasks(ctx, id)
	if err != nil {
		return nil, err
	}
	l := make([]api.Task, 0, len(tasks))
	for _, t := range tasks {
		l = append(l, taskOut(t))
	}
	return l, nil
}

func (s service) Rows(ctx context.Context, id string, fn func(string, []json.RawMessage) error) error {
	return s.d.engine.Rows(ctx, id, fn)
}

func (s service) Journal(ctx context.Context, id, dev string) ([]api.JournalEntry, error) {
	entries, err := s.d.engine.Journal(ctx, id, dev)
	if err != nil {
		return nil, err
	}
	l := make([]api.JournalEntry, 0, len(entries))
	for _, e := range entries {
		l = append(l, api.JournalEntry{Time: e.Time.UTC(), Kind: string(e.Kind), Unit: e.Unit, Step: e.Step,
			Attempt: e.Attempt, Detail: e.Detail, Error: e.Error})
	}
	return l, nil
}

func (s service) Cancel(ctx context.Context, id, by string) (api.Job, error) {
	j, err := s.d.engine.Cancel(ctx, id, by)
	if err == nil {
		s.d.log.Info("job canceled", "job", id, "by", by)
	}
	return out(j, err)
}

func (s service) Retry(ctx context.Context, id, by string) (api.Job, error) {
	if err := s.d.ledger.Room(); err != nil {
		return api.Job{}, err
	}
	j, err := s.d.engine.Retry(ctx, id, by)
	if err == nil {
		s.d.log.Info("job retried", "job", id, "by", by)
	}
	return out(j, err)
}

func (s service) Events(ctx context.Context, job string, after uint64) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		for ev, err := range s.d.engine.Watch(ctx, jobs.WatchOptions{Job: job, After: after}) {
			if !yield(eventOut(ev), err) {
				return
			}
		}
	}
}

func (s service) Over(ctx context.Context, job string, after uint64) (bool, error) {
	return s.d.engine.Over(ctx, job, after)
}

func (s service) Artifacts(ctx context.Context, job string) ([]api.Artifact, error) {
	list, err := s.d.artifacts.List(ctx, job)
	if err != nil {
		return nil, err
	}
	l := make([]api.Artifact, 0, len(list))
	for _, a := range list {
		l = append(l, artifactOut(a))
	}
	return l, nil
}

func (s service) Artifact(ctx context.Context, sha string) (io.ReadCloser, api.Artifact, error) {
	r, a, err := s.d.artifacts.Open(ctx, sha)
	if err != nil {
		return nil, api.Artifact{}, err
	}
	return r, artifactOut(a), nil
}

func artifactOut(a artifact.Artifact) api.Artifact {
	return api.Artifact{SHA256: a.SHA256, Name: a.Name, MediaType: a.MediaType, Size: a.Size, Job: a.Job, Device: a.Device, CreatedBy: a.CreatedBy, CreatedAt: a.CreatedAt.UTC(),
		Secret: a.Secret()}
}

func address(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
