package jobs_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// childEnv makes the test binary a process that runs jobs until it is killed.
const childEnv = "JOBS_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(2) // the test died; nobody else would end this process
		}()
		if err := runUntilKilled(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// started makes a copy of the test binary that runs jobs, and ends when this
// process does.
func started(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], dir)
	child.Env = append(os.Environ(), childEnv+"=1")
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	return child
}
