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
	if d.state().Inoperative || d.peer.state().Inoperative {
		return errors.New("a member of the pair is inoperative")
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
	if !d.state().Standby && d.peer.isUp() && !d.peer.state().Inoperative {
		d.moveRole(d, d.peer, reason)
	}
}

// claimRole makes a device active that finds its peer down when it boots, or that
// has the role back by itself.
func (d *device) claimRole(reason string) {
	if d.peer == nil {
		return
	}
	d.fleet.pairs.Lock()
	defer d.fleet.pairs.Unlock()
	st := d.state()
	if !st.Standby || st.Inoperative {
		return
	}
	if d.ordered.Load().change.autoFailback {
		reason = "auto failback"
	} else if d.peer.isUp() && !d.peer.state().Inoperative {
		return
	}
	d.moveRole(d.peer, d, reason)
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

// The roles that prompts show.
const (
	roleActive      = "Active"
	roleStandby     = "Standby"
	roleInoperative = "INOPERATIVE"
)

// operative tells whether the device has loaded its configuration: not for a
// while after a boot, and never with a licence that is too old.
func (d *device) operative() bool {
	st := d.state()
	return !st.Inoperative && (st.Boots == 0 || time.Since(st.BootTime) >= d.ordered.Load().change.settleTime)
}

// failoverState is what prompts show.
func (d *device) failoverState() string {
	switch {
	case d.platform == platformBigIP && !d.operative():
		return roleInoperative
	case d.ordered.Load().change.bothActive || !d.state().Standby:
		return roleActive
	default:
		return roleStandby
	}
}

// syncState is the state of configuration sync that prompts show. What is ordered
// of one member shows on both.
func (d *device) syncState() string {
	if s := d.ordered.Load().syncState; s != "" {
		return s
	}
	switch {
	case !d.operative():
		return ""
	case d.peer == nil:
		return "Standalone"
	case d.peer.ordered.Load().syncState != "":
		return d.peer.ordered.Load().syncState
	case !d.peer.isUp() || !d.peer.operative():
		return "Disconnected"
	case running(d).Version != running(d.peer).Version || running(d).Build != running(d.peer).Build:
		return "Changes Pending" // different releases do not sync
	default:
		return "In Sync"
	}
}
