package sim

import (
	"errors"
	"time"
)

// bmcFaults is what is ordered of a BMC.
type bmcFaults struct {
	down      bool
	refuse    bool // every login, the way that the protocol refuses one
	locked    bool
	garbage   bool
	truncated bool
	entities  bool
	short     bool // a record of 15 bytes
	loop      bool
	slow      time.Duration
}

var errNoBMC = errors.New("it has no BMC in a fleet of this size")

// bmcOrders are the orders that BMCs know.
func bmcOrders() []entry {
	on := func(name, about string, set func(*bmcFaults)) entry {
		return fault(name, "", about, flag(func(f *faults) { set(&f.bmc) })).on(platformOSm)
	}
	do := func(name, about string, act func(*board)) entry {
		return event(name, "", about, func(d *device, _ string) error {
			if d.board == nil {
				return errNoBMC
			}
			act(d.board)
			return nil
		}).on(platformOSm)
	}
	return []entry{
		on("bmc_down", "has a BMC that does not answer", func(f *bmcFaults) { f.down = true }),
		on("bmc_login_200", "has a BMC that refuses the login; by its web interface with status 200", func(f *bmcFaults) { f.refuse = true }),
		on("bmc_lockout", "has a BMC that has locked the account, and writes down every try", func(f *bmcFaults) { f.locked = true }),
		on("bmc_garbage", "has a BMC that answers with HTML, or over UDP with noise, instead of its log", func(f *bmcFaults) { f.garbage = true }),
		on("bmc_truncated", "has a BMC whose answers end in the middle", func(f *bmcFaults) { f.truncated = true }),
		on("bmc_entities", "has a BMC whose XML declares entities that grow without end", func(f *bmcFaults) { f.entities = true }),
		on("bmc_short_record", "has a BMC with a record of 15 bytes", func(f *bmcFaults) { f.short = true }),
		on("bmc_loop", "has a BMC whose next record, or next page, runs in a circle (IPMI, Redfish)", func(f *bmcFaults) { f.loop = true }),
		fault("bmc_slow", "[=DURATION]", "has a BMC that takes that long for every answer (2s)",
			duration(2*time.Second, func(f *faults, d time.Duration) { f.bmc.slow = d })).on(platformOSm),
		do("sel_pci", "puts a PCI error into the event log of its BMC", (*board).injectPCI),
		do("sel_clear", "clears the event log of its BMC; record ids begin anew", (*board).clear),
	}
}
