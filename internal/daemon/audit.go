package daemon

import (
	"context"
	"fmt"

	"capfleet/internal/api"
	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

func (s service) Audit(ctx context.Context, q api.AuditQuery) (api.AuditList, error) {
	list, next, err := audit.List(ctx, s.d.ledger, audit.Query{Before: q.Before, Limit: q.Limit, By: q.By,
		Action: audit.Action(q.Action), Job: q.Job, Device: q.Device})
	if err != nil {
		return api.AuditList{}, err
	}
	l := api.AuditList{Rows: make([]api.AuditEntry, 0, len(list)), Next: next}
	for _, e := range list {
		l.Rows = append(l.Rows, api.AuditEntry{ID: e.Seq, Time: e.Time, By: e.By, Action: string(e.Action), Result: string(e.Result),
			Job: e.Job, Device: e.Device, Artifact: e.Artifact, Detail: e.Detail})
	}
	return l, nil
}

// remember writes entries about a change that is not in the ledger.
func (d *Daemon) remember(ctx context.Context, entries ...audit.Entry) error {
	now := d.now()
	return d.ledger.Update(ctx, func(tx *ledger.Tx) error {
		for _, e := range entries {
			e.Time = now
			if err := audit.Add(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// auditedPin pins host keys and remembers who asked: before, so that no key is
// trusted that nobody can be named for, and after, key by key. What was written
// when an error came is remembered too.
func (d *Daemon) auditedPin(ctx context.Context, by string, req api.PinRequest, pin func() (api.PinResult, error)) (api.PinResult, error) {
	base := audit.Entry{By: by, Action: audit.HostKeyPin}
	begun := base
	begun.Result, begun.Detail = audit.Begun, fmt.Sprintf("%d keys, replace %t", len(req.Keys), req.Replace)
	if err := d.remember(ctx, begun); err != nil {
		return api.PinResult{}, err
	}
	res, err := pin()
	var entries []audit.Entry
	for _, key := range res.Added {
		e := base
		e.Device, e.Detail = key.Device, key.Host+" "+key.Type+" "+key.SHA256
		entries = append(entries, e)
	}
	switch {
	case err != nil:
		e := base
		e.Result, e.Detail = audit.Failed, err.Error()
		entries = append(entries, e)
	case len(entries) == 0:
		e := base
		e.Detail = "all of them were pinned already"
		entries = append(entries, e)
	}
	// What happened is remembered even when the one who asked has gone away.
	if aerr := d.remember(context.WithoutCancel(ctx), entries...); aerr != nil && err == nil {
		err = fault.Wrap(fault.Storage, "remember who pinned the host keys (they are pinned)", aerr)
	}
	if err != nil {
		return api.PinResult{}, err
	}
	return res, nil
}
