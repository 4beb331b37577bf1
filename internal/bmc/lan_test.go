package bmc_test

import (
	"fmt"
	"testing"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/bmc/bmctest"
)

func openLAN(opts bmc.Options) func(testing.TB, bmc.Target) bmc.Reader {
	return func(t testing.TB, target bmc.Target) bmc.Reader {
		t.Helper()
		reader, err := bmc.New(bmc.IPMILan, target, opts)
		if err != nil {
			t.Fatal(err)
		}
		return reader
	}
}

func serveSim(t testing.TB, log [][]byte) bmc.Target {
	t.Helper()
	sim := bmctest.StartIPMISim(t, log)
	return bmctest.Account(sim.Host, sim.Port)
}

func TestLANContract(t *testing.T) {
	t.Parallel()
	bmctest.Run(t, probeLog(t), bmctest.Subject{Serve: serveSim, Silent: bmctest.SilentUDP, Open: openLAN(bmc.Options{})})
}

// TestLANAgreesWithIPMITool reads the same log with both.
func TestLANAgreesWithIPMITool(t *testing.T) {
	t.Parallel()
	records := probeLog(t)
	records[3][3], records[3][4], records[3][5], records[3][6] = 0x11, 2, 0, 0 // before the clock was set
	sim := bmctest.StartIPMISim(t, records)
	log, err := openLAN(bmc.Options{})(t, bmctest.Account(sim.Host, sim.Port)).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows := sim.SELList(t)
	if len(rows) != len(log.Entries) {
		t.Fatalf("%d records, ipmitool lists %d", len(log.Entries), len(rows))
	}
	for i, e := range log.Entries {
		date, clock := "Pre-Init", "0000000529"
		if e.Time != nil {
			date, clock = e.Time.Format("01/02/06"), e.Time.Format("15:04:05 UTC")
		}
		if got := []string{fmt.Sprintf("%x", e.RecordID), date, clock}; got[0] != rows[i][0] || got[1] != rows[i][1] || got[2] != rows[i][2] {
			t.Errorf("%q, ipmitool says %q", got, rows[i])
		}
		if name := rows[i][4]; name != "" && plain(e.Event) != plain(name) {
			t.Errorf("%q, ipmitool says %q", e.Event, name)
		}
	}
}

// quick gives up soon, for tests in which nobody answers.
var quick = bmc.Options{LANTimeout: 50 * time.Millisecond, Attempts: 3}

// unhurried is for tests in which somebody answers, on a busy machine maybe late.
var unhurried = bmc.Options{LANTimeout: 5 * time.Second, Attempts: 3}
