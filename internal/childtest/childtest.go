// Package childtest lets a test run a part of itself in a process of its own, to
// be killed or to run out of something. The part is a function of the test
// package; the process is a copy of the test binary, so nothing has to be built.
package childtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// environment names the part that this process is to play.
const environment = "CAPFLEET_TEST_CHILD"

// Main plays a part and ends the process where this is a child, and returns
// otherwise. It is the first thing that TestMain does. A part gets the one
// argument that Command was given; its error is printed and ends the child with 1.
func Main(parts map[string]func(arg string) error) {
	name, child := os.LookupEnv(environment)
	if !child {
		return
	}
	part, ok := parts[name]
	if !ok || len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "no part %q\n", name)
		os.Exit(3)
	}
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

// Command is a child that plays a part, not yet started. It is killed when the
// test ends and ends by itself when the test's process does, however that dies.
func Command(t *testing.T, part, arg string) *exec.Cmd {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], arg) //nolint:gosec // the binary that runs now
	child.Env = append(os.Environ(), environment+"="+part)
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	return child
}
