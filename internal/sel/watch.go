package sel

import (
	"context"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/device"
)

// Watcher reads event logs for whoever waits for a record in them. It remembers
// nothing of them, and heeds a BMC that refuses the account as a check does. It is
// safe for concurrent use.
type Watcher struct{ logs *logs }

// NewWatcher gives a watcher with the accounts that checks use.
func NewWatcher(opts Options) *Watcher { return &Watcher{newLogs(opts)} }

// Records gives the records that the BMC of a device has now.
func (w *Watcher) Records(ctx context.Context, dev *device.Device) ([]bmc.Entry, error) {
	if dev.BMC == nil {
		return nil, errNoBMC("read the event log of " + dev.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	var log bmc.Log
	err := w.logs.with(ctx, time.Now, dev, "", false, func(reader bmc.Reader) (err error) {
		log, err = reader.Read(ctx)
		return err
	})
	if err != nil {
		return nil, failed("read the event log", dev, err)
	}
	return log.Entries, nil
}
