package daemon

import (
	"encoding/json"
	"fmt"
	"testing"

	"capfleet/internal/jobs"
	"capfleet/internal/notify"
)

// TestPCIErrors: of the records of a check those are told that are new, of a PCI bus
// and no end of an error; a record with a time is the same one in each check, one
// without is another in each that finds it new.
func TestPCIErrors(t *testing.T) {
	t.Parallel()
	row := func(kind, severity, at string, fresh bool) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"device":"a","bmc":"192.0.2.1","record_id":7,"time":%s,"severity":%q,"kind":%q,"bus":128,"device_number":2,"function":2,`+
			`"sensor_type":"Critical Interrupt","sensor_number":0,"event":"PCI SERR","raw":"00","new":%t}`, at, severity, kind, fresh))
	}
	const timed = `"2019-06-12T19:01:38Z"`
	told := func(job string, rows ...json.RawMessage) []notify.Message {
		return pciErrors(jobs.Event{Job: job, Device: "a"}, rows)
	}
	for name, silent := range map[string]json.RawMessage{
		"old": row("pci_serr", "critical", timed, false), "ended": row("pci_serr", "ok", timed, true), "no PCI": row("nmi", "critical", timed, true),
	} {
		if got := told("1", silent); len(got) != 0 {
			t.Errorf("%s is told: %+v", name, got)
		}
	}
	for _, test := range []struct {
		at   string
		same bool
	}{{timed, true}, {"null", false}} {
		first, second := told("1", row("pci_serr", "critical", test.at, true)), told("2", row("pci_serr", "critical", test.at, true))
		if len(first) != 1 || len(second) != 1 || (first[0].ID == second[0].ID) != test.same {
			t.Errorf("time %s: %+v %+v", test.at, first, second)
		}
		if len(first) == 1 && first[0].Severity != notify.Critical {
			t.Errorf("severity %s", first[0].Severity)
		}
	}
}
