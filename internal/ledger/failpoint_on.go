//go:build failpoint

package ledger

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// failpoints kills the process with SIGKILL, as nobody can prepare for, at a point
// that the environment names: FLEETD_FAILPOINT="commit done:17" is the 17th time
// that the process comes past "commit done". Everything that jobs acknowledge or
// journal is one commit, so the points around it are before and after each of them.
// The tag is for tests; no release has it.
func failpoints() func(point string) {
	name, nth, ok := strings.Cut(os.Getenv("FLEETD_FAILPOINT"), ":")
	left, err := strconv.ParseInt(nth, 10, 64)
	if !ok || err != nil {
		return nil
	}
	var passed atomic.Int64
	return func(point string) {
		if point == name && passed.Add(1) == left {
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				_ = self.Kill()
			}
			select {} // until the kernel has ended it
		}
	}
}
