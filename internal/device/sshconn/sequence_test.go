package sshconn_test

import (
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
)

// A device that allows one session is enough for one thing after the other: the
// place of what has ended is waited for, and not reported as taken.
func TestOneSessionIsEnoughInSequence(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{Config: []string{"MaxSessions 1"}})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	for i := range 8 {
		if _, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}}); err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
		f, err := conn.Files(t.Context())
		if err != nil {
			t.Fatalf("files %d: %v", i, err)
		}
		if err := f.Close(); err != nil {
			t.Fatalf("files %d: %v", i, err)
		}
	}
}
