//go:build linux

package capture

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"capfleet/internal/childtest"
	"capfleet/internal/device"
)

// printer puts a tcpdump that prints its arguments first into the PATH, and gives
// the environment and the folder in which everything runs.
func printer(tb testing.TB) (env []string, dir string) {
	tb.Helper()
	dir = tb.TempDir()
	bin := tb.TempDir()
	script := "#!/bin/sh\nfor a; do printf '%s\\0' \"$a\"; done\n"
	childtest.Executable(tb, filepath.Join(bin, "tcpdump"), strings.NewReader(script))
	return []string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + dir, "SSH_CONNECTION=192.0.2.1 40000 192.0.2.2 22"}, dir
}

// FuzzNothingReachesAShell gives filters and interfaces to a real sh, through all
// that lies between: whatever passes the checks arrives at tcpdump as it was, and
// nothing else happens.
func FuzzNothingReachesAShell(f *testing.F) {
	for _, s := range []string{
		"tcp port 443", "(tcp[13] & 4!=0) or (tcp port 80 or 443)", "$(touch canary)", "`touch canary`", "; touch canary", "| touch canary",
		"' ; touch canary; '", `" && touch canary "`, "&& touch canary", "> canary", "a\\", "'", `'"'"'`, "~root", "*", "a  b", "!!", "%s%n", "é", "=x",
	} {
		f.Add("eth0", s)
		f.Add(s, "tcp")
	}
	env, dir := printer(f)
	conn := localConn{env: env, dir: dir, login: true}
	var run atomic.Int64
	f.Fuzz(func(t *testing.T, iface, filter string) {
		if checkInterface(iface) != nil || checkFilter(filter) != nil {
			return
		}
		composed, ok := exclude(filter, netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("192.0.2.2:22"))
		if !ok {
			t.Fatal("our own session is not left out")
		}
		l := &live{spec: &LiveSpec{Interface: iface, Filter: filter}}
		k := Keep{ID: fmt.Sprintf("fuzz-%d-%d", os.Getpid(), run.Add(1)), Args: l.args(composed), Limit: time.Minute, Lease: time.Minute}
		got := newLines()
		if _, err := k.Live(t.Context(), conn, got, nil); err != nil {
			t.Fatal(err)
		}
		if want := strings.Join(k.Args[1:], "\x00") + "\x00"; got.String() != want {
			t.Errorf("tcpdump gets %q, want %q", got.String(), want)
		}
		// The look beforehand: the same two, in other places.
		res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"sh", "-c", probeText, "capfleet", iface, filter}})
		answers := string(res.Stdout)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(answers, iface) || !strings.Contains(strings.ReplaceAll(answers, "\x00", ""), filter) {
			t.Errorf("the look beforehand does not hold %q and %q: %q", iface, filter, answers)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Fatalf("something else was run: %v, %v", left, err)
		}
	})
}

// FuzzReadProbe reads what a hostile device may print.
func FuzzReadProbe(f *testing.F) {
	f.Add("connection 192.0.2.1 1 192.0.2.2 22\nfound yes\nhelp Usage: tcpdump [-aU]\nlist 1.eth0 [Up]\nlist @status 0\nopen @status 0\n")
	f.Add("connection ::1 99999 x\nfound\nfilter @status x\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := readProbe(text)
		if !ok && p.tcpdump {
			t.Error("tcpdump is there without having been looked for")
		}
		_, _ = p.flushes(), p.version()
		if slices.Contains(p.interfaces(), "") {
			t.Error("an interface without a name")
		}
		_ = countOf(text, "captured")
	})
}

// An "or" in the filter does not take the exclusion back, and a "vlan" does not
// shift it.
func TestExclude(t *testing.T) {
	t.Parallel()
	peer, own := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("198.51.100.1:2222")
	const not = "not (host 192.0.2.1 and host 198.51.100.1 and tcp port 2222)"
	for filter, want := range map[string]string{
		"":               not,
		" tcp or udp ":   not + " and (tcp or udp)",
		"vlan 5 or tcp":  not + " and (vlan 5 or tcp) and " + not,
		"host 192.0.2.1": not + " and (host 192.0.2.1)",
	} {
		got, ok := exclude(filter, peer, own)
		if !ok || got != want {
			t.Errorf("%q: %q, %v", filter, got, ok)
		}
		if out, err := exec.CommandContext(t.Context(), "tcpdump", "-d", "-i", "lo", got).CombinedOutput(); err != nil {
			t.Errorf("tcpdump does not take %q: %v\n%s", got, err, out)
		}
	}
	if got, ok := exclude("tcp", netip.AddrPort{}, own); ok || got != "tcp" {
		t.Errorf("without an address: %q, %v", got, ok)
	}
	if _, ok := exclude("tcp", peer, netip.MustParseAddrPort("[2001:db8::1]:22")); ok {
		t.Error("two families in one exclusion")
	}
}
