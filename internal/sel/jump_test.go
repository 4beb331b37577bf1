package sel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/bmc"
	"capfleet/internal/bmc/bmctest"
	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// TestBehindAJumpHost: a BMC's web server is read through OpenSSH's forwarding, and
// not at all where that does not lead to it.
func TestBehindAJumpHost(t *testing.T) {
	t.Parallel()
	record := make([]byte, bmc.RecordSize)
	record[0] = 1
	bastion := sshdtest.Start(t, sshdtest.Options{})
	board := bmctest.StartSupermicro(t, &bmctest.Supermicro{Log: [][]byte{record}})
	target := bmctest.Of(board.Server)
	password := filepath.Join(t.TempDir(), "bmc")
	if err := os.WriteFile(password, []byte(bmctest.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	dialer := sshconn.NewDialer(sshconn.Options{HopIdle: -1})
	defer func() { _ = dialer.Close() }()
	watcher := NewWatcher(Options{Secrets: &secret.Resolver{}, Through: dialer})
	dev := func(change func(*device.BMC)) *device.Device {
		b := &device.BMC{Host: target.Host, Port: target.Port, Protocol: "supermicro_web", TLSPins: target.TLS.Pins, KnownBMCs: "/none",
			Credentials: device.Credentials{Username: bmctest.Username, Password: secret.Ref{File: password}}, Jump: []device.Hop{bastion.Hop("bastion")}}
		change(b)
		return &device.Device{Name: "probe", BMC: b, KnownHosts: sshdtest.KnownHosts(t, bastion)}
	}
	records, err := watcher.Records(t.Context(), dev(func(*device.BMC) {}))
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records: %v", len(records), err)
	}
	if bastion.Peak() != 1 {
		t.Errorf("%d connections to the jump host", bastion.Peak())
	}
	for name, c := range map[string]struct {
		change func(*device.BMC)
		kind   fault.Kind
		says   string
	}{
		"UDP":              {func(b *device.BMC) { b.Protocol = "ipmi_lan" }, fault.Unsupported, "redfish or supermicro_web"},
		"nobody behind it": {func(b *device.BMC) { b.Port = 1 }, fault.Unreachable, "bastion"},
		"no jump host":     {func(b *device.BMC) { b.Jump[0].Port = 1 }, fault.Unreachable, "bastion"},
		"another key":      {func(b *device.BMC) { b.TLSPins = []string{strings.Repeat("AB", 32)} }, fault.HostKey, "pinned"},
	} {
		_, err := watcher.Records(t.Context(), dev(c.change))
		if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: kind %s: %v", name, fault.KindOf(err), err)
		}
	}
}
