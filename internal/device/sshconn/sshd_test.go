package sshconn_test

import (
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
)

func newDialer(tb testing.TB, opts sshconn.Options) *sshconn.Dialer {
	tb.Helper()
	d := sshconn.NewDialer(opts)
	tb.Cleanup(func() { _ = d.Close() })
	return d
}

func dial(tb testing.TB, d *sshconn.Dialer, dev *device.Device) device.Conn {
	tb.Helper()
	conn, err := d.Dial(tb.Context(), dev)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestExecOnRealSSHD(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(res.Stdout) + "|" + string(res.Stderr); got != "out\n|err\n" || res.Status != 3 {
		t.Errorf("got %q status %d", got, res.Status)
	}
	facts := conn.Facts()
	if !strings.HasPrefix(facts.ServerVersion, "SSH-2.0-OpenSSH") || facts.LocalAddress != "127.0.0.1" || facts.HostKeyType != "ssh-ed25519" {
		t.Errorf("facts: %+v", facts)
	}
}
