package linux_test

import (
	"regexp"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/device/drivertest"
	"capfleet/internal/device/linux"
	"capfleet/internal/leaktest"
	"capfleet/internal/sim"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	d, err := linux.New("")
	if err != nil {
		t.Fatal(err)
	}
	target := drivertest.Simulate(t, sim.Options{}).Target(t, d, "lon-cap-01")
	target.Good = device.Command{Line: "df -P"}
	target.Want = regexp.MustCompile(`\AFilesystem +(?s:.*) /\n(?s:.*)\n\z`)
	target.Other = device.Command{Line: "cat /etc/os-release"}
	target.Refused = device.Command{Line: "ls /no/such/folder"}
	drivertest.Run(t, target)

	// What a command says of its failure can be told from what it printed.
	out, err := target.Open(t).Run(t.Context(), target.Refused)
	if out.Stderr == "" || out.Text != out.Stderr {
		t.Errorf("standard error %q of %q, %v", out.Stderr, out.Text, err)
	}
}
