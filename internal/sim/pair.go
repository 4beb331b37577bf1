package sim

import (
	"errors"
	"time"
)

// The members of an HA pair share one active role. Fleet.pairs is held while it
// moves, so that a pair never has two owners or none on purpose.

// swapRoles moves the active role to the other member of the pair.
func (d *device) swapRoles(reason string) error {
	if d.peer == nil {
		return errors.New("it has no peer to fail over to")
	}
	d.fleet.pairs.Lock()
	defer d.fleet.pairs.Unlock()
	if !d.isUp() || !d.peer.isUp() {
		return errors.New("a member of the pair is down")
	}
	if d.state().Standby {
		d.moveRole(d.peer, d, reason)
	} else {
		d.moveRole(d, d.peer, reason)
	}
	return nil
}

// yieldRole lets the peer take over from a device that goes down.
func (d *device) yieldRole(reason string) {
	if d.peer == nil {
		return
	}
	d.fleet.pairs.Lock()
	defer d.fleet.pairs.Unlock()
	if !d.state().Standby && d.peer.isUp() {
		d.moveRole(d, d.peer, reason)
	}
}

// claimRole makes a device active that finds its peer down when it boots.
func (d *device) claimRole(reason string) {
	if d.peer == nil {
		return
	}
	d.fleet.pairs.Lock()
	defer d.fleet.pairs.Unlock()
	if d.state().Standby && !d.peer.isUp() {
		d.moveRole(d.peer, d, reason)
	}
}

// moveRole is called with the pair's lock held.
func (d *device) moveRole(from, to *device, reason string) {
	now := time.Now().UTC()
	d.fleet.store.change(func() {
		from.st.Standby, from.st.FailoverSince = true, now
		to.st.Standby, to.st.FailoverSince = false, now
	})
	from.note(eventFailover, "role=standby reason=%q", reason)
	to.note(eventFailover, "role=active reason=%q", reason)
}

// failoverState is what prompts show.
func (d *device) failoverState() string {
	if d.state().Standby {
		return "Standby"
	}
	return "Active"
}

// syncState is the state of configuration sync that prompts show.
func (d *device) syncState() string {
	if s := d.ordered.Load().syncState; s != "" {
		return s
	}
	switch {
	case d.peer == nil:
		return "Standalone"
	case !d.peer.isUp():
		return "Disconnected"
	default:
		return "In Sync"
	}
}
