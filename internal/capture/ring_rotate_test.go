//go:build linux

package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capfleet/internal/capture/capturetest"
	"capfleet/internal/childtest"
)

// oldTcpdump is a folder with a tcpdump from before -W.
func oldTcpdump(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
for a; do
	case $a in
	-h) echo 'tcpdump version 3.7.2
libpcap version 0.7.2
Usage: tcpdump [-adeflnNOpqRStuUvxX] [ -c count ] [ -C file_size ]
		[ -F file ] [ -i interface ] [ -r file ] [ -s snaplen ]
		[ -T type ] [ -w file ] [ -E algo:secret ] [ expression ]' >&2; exit 1 ;;
	-W | -Z | -B | --immediate-mode) echo "tcpdump: invalid option -- $a" >&2; exit 1 ;;
	esac
done
exec /usr/bin/tcpdump "$@" -Z root
`
	// -Z belongs before the expression on other systems; GNU's getopt sorts it.
	childtest.Executable(t, filepath.Join(dir, "tcpdump"), strings.NewReader(script))
	return dir
}

// TestRingOfOldTcpdump: B6 and D4, our own rotation: the next file is begun before
// the last one is ended, the oldest is overwritten, and what is in two is there
// once. B7, no process is left.
func TestRingOfOldTcpdump(t *testing.T) {
	t.Parallel()
	bed := capturetest.New(t, "SetEnv PATH="+oldTcpdump(t)+":/usr/sbin:/usr/bin:/sbin:/bin")
	u := newUnit(t, bed.Device("old"))
	log := filepath.Join(t.TempDir(), "messages")
	appendLog(t, log, "begin\n")
	spec := ringSpec(t, fmt.Sprintf(`{"points":[{"interface":"eth0","filter":"udp port 9"}],"files":3,"megabytes":1,"directory":%q,"min_free_percent":0,
		"until_log":"over","log":%q,"after_seconds":2}`, t.TempDir(), log), u.dev)
	u.meet = newMeeting(1)
	done := u.run(t.Context(), RingOptions{}, spec)
	u.awaitPhase(phaseRunning)
	if !u.state().Rotated {
		t.Fatal("the device's tcpdump is taken for a new one")
	}
	sent := 0
	send := func(n int) {
		if err := bed.SendFrom(t.Context(), 9, sent, n, 1000, 50*time.Microsecond); err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	send(1200) // one file and more
	u.awaitTurn(1)
	bed.WaitRuns(t, "tcpdump", 2)
	send(100) // both are written
	bed.WaitRuns(t, "tcpdump", 1)
	send(100)
	appendLog(t, log, "it is over\n")
	if err := ended(t, done); err != nil {
		t.Fatal(err)
	}
	bed.WaitGone(t, "tcpdump")
	row := u.rows[0]
	if row.DroppedByKernel == nil || *row.DroppedByKernel > 0 {
		t.Logf("the kernel dropped packets: %+v", row)
		return
	}
	numbers := sequence(t, u.kept[row.SHA256])
	for i, v := range numbers {
		if v != uint64(i) {
			t.Fatalf("packet %d is number %d", i, v)
		}
	}
	if len(numbers) != sent {
		t.Errorf("%d packets of %d", len(numbers), sent)
	}
	raw, err := os.ReadFile(u.kept[row.Manifest])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), `"repeated": `) || strings.Contains(string(raw), `"repeated": 0`) {
		t.Errorf("nothing was in two files: %s", raw)
	}
}
