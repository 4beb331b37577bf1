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
func TestKilledAtEachCommit(t *testing.T) {
	for _, point := range []string{"commit begins", "commit done"} {
		for n := 1; ; n++ {
			dir := tempDir(t)
			child := childtest.Command(t, "story", dir)
			child.Env = append(child.Env, fmt.Sprintf("FLEETD_FAILPOINT=%s:%d", point, n))
			out, err := child.CombinedOutput()
			killed := child.ProcessState.ExitCode() == -1
			if !killed && err != nil {
				t.Fatalf("%s %d: %v\n%s", point, n, err, out)
			}
			if killed {
				again := childtest.Command(t, "story", dir)
				if out, err := again.CombinedOutput(); err != nil {
					t.Fatalf("after %s %d: %v\n%s", point, n, err, out)
				}
			}
			complete(t, dir, fmt.Sprintf("%s %d", point, n))
			if !killed {
				if n < 20 {
					t.Errorf("the story has only %d commits", n)
				}
				t.Logf("%s: %d commits", point, n-1)
				break
			}
		}
	}
}

// TestRolloutKilledAtEachCommit does the same to a rollout.
func TestRolloutKilledAtEachCommit(t *testing.T) {
	for _, point := range []string{"commit begins", "commit done"} {
		for n := 1; ; n++ {
			dir := tempDir(t)
			child := childtest.Command(t, "night", dir)
			child.Env = append(child.Env, fmt.Sprintf("FLEETD_FAILPOINT=%s:%d", point, n))
			out, err := child.CombinedOutput()
			killed := child.ProcessState.ExitCode() == -1
			if !killed && err != nil {
				t.Fatalf("%s %d: %v\n%s", point, n, err, out)
			}
			if killed {
				if out, err := childtest.Command(t, "night", dir).CombinedOutput(); err != nil {
					t.Fatalf("after %s %d: %v\n%s", point, n, err, out)
				}
			}
			for _, problem := range leftByNight(t, dir) {
				t.Errorf("%s %d: %s", point, n, problem)
			}
			if !killed {
				if n < 15 { // fewer than there are changes: commits are grouped
					t.Errorf("the night has only %d commits", n)
				}
				t.Logf("%s: %d commits", point, n-1)
				break
			}
		}
	}
}

func leftByNight(t *testing.T, dir string) []string {
	t.Helper()
	db, opts, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	h := &harness{t: t, db: db, opts: opts}
	h.reopen()
	acts, err := os.ReadFile(filepath.Join(dir, "world"))
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := h.Tasks(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	return nightIsOver(string(acts), tasks)
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
	db, opts, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	h := &harness{t: t, db: db, opts: opts}
	h.reopen()
	acts, err := os.ReadFile(filepath.Join(dir, "world"))
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range names(2) {
		if n := strings.Count(string(acts), unit+"\n"); n != 1 {
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
