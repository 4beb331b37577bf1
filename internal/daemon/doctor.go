package daemon

import (
	"context"
	"maps"
	"os"
	"reflect"
	"slices"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/device/inventory"
	"capfleet/internal/doctor"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/secret"
)

// Examine implements api.DoctorService.
func (s service) Examine(ctx context.Context, by string) (api.Examination, error) {
	d := s.d
	newest, err := d.newest(ctx)
	if err != nil {
		return api.Examination{}, err
	}
	inv := d.inventory.Load()
	var secrets secret.Resolver
	defer secrets.Close()
	now := d.now()
	found := doctor.Examine(ctx, doctor.Subject{
		Inventory: inv.Path(),
		Reload: func() (bool, error) {
			now, err := inventory.Load(inv.Path(), inventory.Options{Platforms: slices.Sorted(maps.Keys(d.drivers))})
			return err == nil && !reflect.DeepEqual(now.Devices(), inv.Devices()), err
		},
		Devices:  inv.Devices(),
		Warnings: inv.Warnings(),
		Trusts:   d.dialer.Trusts,
		Resolve: func(ctx context.Context, ref secret.Ref) error {
			_, err := secrets.Resolve(ctx, ref)
			return err
		},
		Getenv:       os.Getenv,
		StateDir:     d.opts.StateDir,
		Space:        doctor.HostSpace,
		Overrides:    d.opts.Overrides,
		Newest:       newest,
		Now:          now,
		Synchronized: doctor.HostSynchronized,
	})
	if ctx.Err() != nil {
		return api.Examination{}, fault.Wrap(fault.KindOf(ctx.Err()), "examine", context.Cause(ctx))
	}
	out := api.Examination{Now: now.UTC(), Rows: make([]api.Finding, 0, len(found))}
	worst := doctor.OK
	for _, f := range found {
		out.Rows = append(out.Rows, api.Finding{Area: f.Area, Subject: f.Subject, Severity: string(f.Severity), Message: f.Message, Next: f.Next})
		if f.Severity == doctor.Error || f.Severity == doctor.Warning && worst == doctor.OK {
			worst = f.Severity
		}
	}
	d.log.Info("examined", "findings", len(found), "worst", string(worst), "by", by)
	return out, nil
}

// newest is the latest time in the ledger: when the last job was made.
func (d *Daemon) newest(ctx context.Context) (time.Time, error) {
	list, _, err := d.engine.List(ctx, jobs.ListOptions{Limit: 1})
	if err != nil || len(list) == 0 {
		return time.Time{}, err
	}
	return list[0].CreatedAt, nil
}
