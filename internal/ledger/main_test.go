package ledger_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv names the part that a copy of the test binary plays as a process of
// its own, to be killed or to run out of space.
const childEnv = "LEDGER_TEST_CHILD"

func TestMain(m *testing.M) {
	parts := map[string]func(path string) error{
		"write": writeAndAcknowledge,
		"full":  writeUntilFull,
	}
	if part, ok := parts[os.Getenv(childEnv)]; ok {
		if err := part(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
