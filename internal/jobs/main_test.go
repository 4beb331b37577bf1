package jobs_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// childEnv names the part that a copy of the test binary plays as a process of
// its own.
const childEnv = "JOBS_TEST_CHILD"

func TestMain(m *testing.M) {
	parts := map[string]func(dir string) error{
		"kill":  runUntilKilled,
		"full":  runOnFullDisk,
		"story": tellStory,
	}
	if part, ok := parts[os.Getenv(childEnv)]; ok {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(2) // the test died; nobody else would end this process
		}()
		if err := part(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// started makes a copy of the test binary that plays a part, and ends when this
// process does.
func started(t *testing.T, part, dir string) *exec.Cmd {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], dir)
	child.Env = append(os.Environ(), childEnv+"="+part)
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	return child
}
