package jobs

import (
	"bytes"
	"context"
	"encoding/json"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
	"capfleet/internal/rows"
)

// DeviceRows gives the rows that one device has in a job, nil when it has none. A
// job that does not exist is fault.NotFound.
func (e *Engine) DeviceRows(ctx context.Context, id, device string) (list []json.RawMessage, err error) {
	n, err := parseID(id)
	if err != nil {
		return nil, err
	}
	if !validName(device) {
		return nil, fault.New(fault.NotFound, "job %s has no task for device %q", id, device)
	}
	err = e.view(ctx, func(tx *ledger.Tx) error {
		if tx.Get(nsJobs, n.key()) == nil {
			return noJob(id)
		}
		if kept := tx.Get(nsRows, n.under(device)); kept != nil {
			list, err = rowsOf(kept)
		}
		return err
	})
	return list, err
}

// rowsOf reads the value that holds a device's rows. It copies, so nothing of the
// transaction is kept.
func rowsOf(kept []byte) ([]json.RawMessage, error) {
	list, err := rows.Split(bytes.Clone(kept))
	if err != nil {
		return nil, &fault.Error{Kind: fault.Storage, Act: "decode from ledger " + string(nsRows), Err: err}
	}
	return list, nil
}
