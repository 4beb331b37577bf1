//go:build !linux

package daemon

// monotonic has nothing to give where there is no systemd.
func monotonic() []string { return nil }
