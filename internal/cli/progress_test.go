package cli

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mattn/go-runewidth"

	"capfleet/internal/api"
)

func events() []api.Event {
	return []api.Event{
		{Seq: 1, Time: testTime, Type: "job_created", Job: "12", State: "pending"},
		{Seq: 2, Time: testTime, Type: "task_state", Job: "12", Device: "a", State: "running", Attempt: 1},
		{Seq: 3, Time: testTime, Type: "task_step", Job: "12", Device: "a", Step: "read", Attempt: 1},
		{Time: testTime, Type: "progress", Job: "12", Device: "a", Step: "upload", Done: 50, Total: 200, Unit: "bytes"},
		{Seq: 4, Time: testTime, Type: "task_state", Job: "12", Device: "b", State: "waiting", Attempt: 2, Reason: "dial: refused\x1b[2J"},
		{Seq: 5, Time: testTime, Type: "task_state", Job: "12", Device: "a", State: "succeeded", Attempt: 1},
		{Seq: 6, Time: testTime, Type: "task_state", Job: "12", Device: "b", State: "failed", Attempt: 2, Reason: "dial: refused"},
		{Seq: 7, Time: testTime, Type: "job_finished", Job: "12", State: "partial"},
	}
}

func TestOneLineForEachEventInAPipe(t *testing.T) {
	fl := &fakeFleet{outcome: filesystemOutcome(t), events: events()}
	got := session{fleet: fl}.run(t.Context(), t, "report", "filesystem")
	want := `2024-05-01T10:11:12Z job 12: created
2024-05-01T10:11:12Z job 12 a: running
2024-05-01T10:11:12Z job 12 a: step read
2024-05-01T10:11:12Z job 12 b: waiting, attempt 2: dial: refused\x1b[2J
2024-05-01T10:11:12Z job 12 a: succeeded
2024-05-01T10:11:12Z job 12 b: failed, attempt 2: dial: refused
2024-05-01T10:11:12Z job 12: partial
`
	lines, _, _ := strings.Cut(got.errOut, "job 12: 1 of 3")
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	quiet := session{fleet: &fakeFleet{outcome: filesystemOutcome(t), events: events()}}.run(t.Context(), t, "report", "filesystem", "--quiet")
	if !strings.HasPrefix(quiet.errOut, "job 12: 1 of 3 devices failed:\n") {
		t.Errorf("--quiet says %q", quiet.errOut)
	}
}

func TestLiveLineFitsAndCounts(t *testing.T) {
	counted := newTally(api.Job{ID: "12", Devices: 4})
	for _, ev := range events()[:5] {
		counted.add(ev)
	}
	if got, want := counted.line(1500*time.Millisecond, 100), `job 12 [....................] 0/4, 1 running, 1 waiting, 1.5s  b waits: dial: refused\x1b[2J`; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, ev := range events()[5:] {
		counted.add(ev)
	}
	if got, want := counted.line(time.Minute, 60), `job 12 [##########..........] 2/4, 1 failed, 1m 0s  b waits…`; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for width := range 90 {
		if got := runewidth.StringWidth(counted.line(time.Second, width)); got > max(width, 1) {
			t.Errorf("at width %d the line has %d columns", width, got)
		}
	}
}

// lockedBuffer is a terminal that remembers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestLiveLineIsOnlyForLongWorkAndGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var terminal lockedBuffer
		l := startLiveJob(&terminal, api.Job{ID: "12", Devices: 2}, func() int { return 80 }, time.Now)
		time.Sleep(liveAfter - liveInterval) // the bubble's clock, not ours
		synctest.Wait()
		if got := terminal.String(); got != "" {
			t.Errorf("flickers: %q", got)
		}
		for _, ev := range events()[:3] {
			l.Event(ev)
		}
		time.Sleep(2 * liveInterval)
		synctest.Wait()
		if got := terminal.String(); !strings.Contains(got, "0/2, 1 running") {
			t.Errorf("shows %q", got)
		}
		l.Close()
		l.Close()
		if got := terminal.String(); !strings.HasSuffix(got, clearLine) {
			t.Errorf("leaves %q behind", got)
		}
	})
}
