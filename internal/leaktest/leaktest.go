// Package leaktest fails the tests of a package that leave goroutines behind, as
// goleak does, with the patience that a busy machine asks for: goleak by itself
// looks for about a second, and closing a connection may take longer there.
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end after the last test. It is waited
// out only by tests that fail.
const patience = 30 * time.Second

// Main runs the tests and ends the process. It is a TestMain's last line.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := find(time.Now().Add(patience)); err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "goroutines are left after the tests: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

func find(until time.Time) error {
	for {
		options := []goleak.Option{goleak.IgnoreAnyFunction(openChannel)}
		if opening() {
			options = append(options, goleak.IgnoreAnyFunction("capfleet/internal/device/sshconn.await.func1"))
		}
		if err := goleak.Find(options...); err == nil || time.Now().After(until) {
			return err
		}
	}
}

// A channel that is opened in the instant in which its connection ends leaves its
// opener waiting inside x/crypto/ssh, which drops its channels once. sshconn gives
// up on it after a bounded time, and whoever waits in sshconn.await for the opener
// stays with it.
const openChannel = "golang.org/x/crypto/ssh.(*mux).openChannel"

// opening reports whether an opener waits.
func opening() bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), openChannel+"(")
}
