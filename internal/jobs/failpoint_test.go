//go:build failpoint

package jobs_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/childtest"
	"capfleet/internal/jobs"
)

// TestKilledAtEachCommit kills a process before and after each commit of a story in
// turn: everything that is submitted, claimed, journalled, settled or removed is
// one. The next process tells it to the end; no act was done twice, and nothing is
// left of a job that is gone.
func TestKilledAtEachCommit(t *testing.T) { killAtEachCommit(t, "story", 20, complete) }

// TestRolloutKilledAtEachCommit does the same to a rollout. Its commits are grouped, so
// that there are fewer than changes.
func TestRolloutKilledAtEachCommit(t *testing.T) { killAtEachCommit(t, "night", 15, leftByNight) }

// killAtEachCommit kills a child that plays a role, before and after each of its commits
// in turn, has another play it to the end, and looks at what that left. The last time it
// comes through. Fewer commits than atLeast, and the failpoints are not where they were.
func killAtEachCommit(t *testing.T, role string, atLeast int, look func(t *testing.T, dir, when string)) {
	t.Helper()
	for _, point := range []string{"commit begins", "commit done"} {
		for n, killed := 1, true; killed; n++ {
			dir, when := tempDir(t), fmt.Sprintf("%s %d", point, n)
			child := childtest.Command(t, role, dir)
			child.Env = append(child.Env, fmt.Sprintf("FLEETD_FAILPOINT=%s:%d", point, n))
			out, err := child.CombinedOutput()
			if killed = child.ProcessState.ExitCode() == -1; killed {
				out, err = childtest.Command(t, role, dir).CombinedOutput()
			}
			if err != nil {
				t.Fatalf("%s (killed: %t): %v\n%s", when, killed, err, out)
			}
			look(t, dir, when)
			if !killed {
				if n < atLeast {
					t.Errorf("there are only %d commits", n)
				}
				t.Logf("%s: %d commits", point, n-1)
			}
		}
	}
}

// left opens what a child left in a folder, and gives the acts on its devices.
func left(t *testing.T, dir string) (h *harness, acts string) {
	t.Helper()
	db, opts, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	h = &harness{t: t, db: db, opts: opts}
	h.reopen()
	world, err := os.ReadFile(filepath.Join(dir, "world"))
	if err != nil {
		t.Fatal(err)
	}
	return h, string(world)
}

func leftByNight(t *testing.T, dir, when string) {
	t.Helper()
	h, acts := left(t, dir)
	tasks, err := h.Tasks(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range nightIsOver(acts, tasks) {
		t.Errorf("%s: %s", when, problem)
	}
}

// nightIsOver checks what a night that came to its end has left: each unit was out
// and back once, and the canary before all others.
func nightIsOver(acts string, tasks []jobs.Task) (problems []string) {
	lines := strings.Split(strings.TrimSpace(acts), "\n")
	for _, unit := range names(4) {
		for _, what := range []string{"uploaded", "out", "changed", "back"} {
			if n := strings.Count(acts, unit+" "+what+"\n"); n != 1 {
				problems = append(problems, unit+" "+what+" not once")
			}
		}
	}
	back := slices.Index(lines, "d0000 back")
	for i, line := range lines {
		if strings.HasSuffix(line, " out") && i < back && !strings.HasPrefix(line, "d0000") {
			problems = append(problems, line+" before the canary was back")
		}
	}
	for _, task := range tasks {
		if task.State != jobs.Succeeded || task.Held {
			problems = append(problems, task.Device+" is "+string(task.State)+": "+task.Reason)
		}
	}
	return problems
}

// complete checks what a story that was told to the end has left.
func complete(t *testing.T, dir, when string) {
	t.Helper()
	h, acts := left(t, dir)
	for _, unit := range names(2) {
		if n := strings.Count(acts, unit+"\n"); n != 1 {
			t.Errorf("%s: the act on %s was done %d times", when, unit, n)
		}
	}
	list, _, err := h.List(t.Context(), jobs.ListOptions{})
	if err != nil || len(list) != 1 || jobs.JobState(list[0]) != jobs.Succeeded {
		t.Fatalf("%s: jobs %+v, %v", when, list, err)
	}
	if rows := h.rows(list[0].ID); !maps.Equal(rows, map[string]int{"d0000": 2, "d0001": 2}) {
		t.Errorf("%s: rows %v", when, rows)
	}
	if held := slices.Sorted(maps.Keys(h.keys())); !slices.Equal(held, []string{list[0].ID}) {
		t.Errorf("%s: something is there of jobs %v", when, held)
	}
}
