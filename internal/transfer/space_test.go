package transfer

import (
	"testing"

	"capfleet/internal/device"
)

// TestParseDF: D5, df is asked for its POSIX form, and what wraps a long name all
// the same is read right.
func TestParseDF(t *testing.T) {
	t.Parallel()
	const k = 1024
	for name, c := range map[string]struct {
		out  string
		want device.Space
		ok   bool
	}{
		"GNU": {"Filesystem     1024-blocks     Used Available Capacity Mounted on\n/dev/sda1         82045336 13160032  68868920      17% /\n",
			device.Space{Total: 82045336 * k, Available: 68868920 * k}, true},
		"busybox": {"Filesystem           1024-blocks    Used Available Capacity Mounted on\ntmpfs                   102400     12    102388   0% /tmp\n",
			device.Space{Total: 102400 * k, Available: 102388 * k}, true},
		"a long name": {"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/mapper/vg--db--sda-dat.share.1 30965984 9264692 20128304 32% /shared\n",
			device.Space{Total: 30965984 * k, Available: 20128304 * k}, true},
		"spaces in names": {"Filesystem 1024-blocks Used Available Capacity Mounted on\n//nas/my share 1000 400 600 40% /mnt/my share 5% /x\n",
			device.Space{Total: 1000 * k, Available: 600 * k}, true},
		"overfull":     {"h\n/dev/sda1 100 110 -10 110% /\n", device.Space{Total: 100 * k}, true},
		"no share":     {"h\nproc 0 0 0 - /proc\n", device.Space{}, true},
		"an error":     {"df: /x: No such file or directory\n", device.Space{}, false},
		"nothing":      {"", device.Space{}, false},
		"wrapped":      {"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/mapper/vg--db--sda-dat.share.1\n 30965984 9264692 20128304 32% /shared\n", device.Space{Total: 30965984 * k, Available: 20128304 * k}, true},
		"out of range": {"h\n/dev/sda1 99999999999999999999 1 1 1% /\n", device.Space{}, false},
	} {
		if got, ok := parseDF(c.out); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v %v", name, got, ok)
		}
	}
}

func FuzzParseDF(f *testing.F) {
	f.Add("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 50 50 50% /\n")
	f.Fuzz(func(t *testing.T, out string) {
		if s, ok := parseDF(out); ok && (s.Available < 0 || s.Total < 0) {
			t.Errorf("%+v", s)
		}
	})
}
