package daemon

import (
	"context"
	"log/slog"
	"reflect"

	"capfleet/internal/device/inventory"
)

// Reload reads the inventory again and puts it into force as a whole. One with a
// mistake is refused, with every mistake and its place in the error, and the old
// one stays. Jobs that exist keep the devices as they were resolved when they
// were made; what starts from now on sees the new ones.
//
// Platform definitions are read at start alone: a mode machine must not change
// under an open session. Overriding templates are read again by themselves.
func (d *Daemon) Reload() error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	inv, err := inventory.Load(d.opts.Inventory, inventory.Options{Platforms: d.platforms})
	d.metrics.InventoryRead(d.now(), err)
	if err != nil {
		return err
	}
	was := d.inventory.Load()
	d.setInventory(inv)
	d.log.Info("inventory reloaded", "inventory", inv.Path(), "devices", len(inv.Devices()), "change", change(was, inv))
	return nil
}

// change counts what differs between two inventories.
func change(was, is *inventory.Inventory) slog.Value {
	var added, removed, changed int
	left := map[string]bool{}
	for _, dev := range was.Devices() {
		left[dev.Name] = true
	}
	for _, dev := range is.Devices() {
		old, err := was.Device(dev.Name)
		switch {
		case err != nil:
			added++
		case !reflect.DeepEqual(old, dev):
			changed++
		}
		delete(left, dev.Name)
	}
	removed = len(left)
	return slog.GroupValue(slog.Int("added", added), slog.Int("removed", removed), slog.Int("changed", changed))
}

// reload answers the requests to read the inventory again, until ctx ends.
func (d *Daemon) reload(ctx context.Context) {
	for {
		d.prepareList(ctx)
		select {
		case <-ctx.Done():
			return
		case <-d.opts.Reload:
			d.notifier.tell("reading the inventory", append([]string{"RELOADING=1"}, monotonic()...)...)
			status := ""
			if err := d.Reload(); err != nil {
				d.log.Error("inventory refused; the old one stays in force", "inventory", d.opts.Inventory, "err", err)
				status = "; the changed inventory was refused, see the log"
			}
			d.notifier.tell(d.serving()+status, "READY=1")
		}
	}
}
