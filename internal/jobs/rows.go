package jobs

import (
	"context"
	"encoding/json"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// DeviceRows gives the rows that one device has in a job, nil when it has none. A
// job that does not exist is fault.NotFound.
func (e *Engine) DeviceRows(ctx context.Context, id, device string) (rows []json.RawMessage, err error) {
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
		rows, _, err = get[[]json.RawMessage](tx, nsRows, n.under(device))
		return err
	})
	return rows, err
}
