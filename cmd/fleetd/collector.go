package main

import (
	"os"
	"runtime/debug"
)

// What lives in fleetd's heap is small beside what passes through it: sessions of
// many devices at once, each with buffers for a few tens of milliseconds. At the
// default the collector then runs dozens of times a second, which costs a sixth of
// the processor time of a report. It may let garbage grow to four times what lives
// as long as the whole stays under the limit, from where on it works harder.
const (
	collectAt   = 400       // percent of what lives
	memoryLimit = 384 << 20 // bytes
)

// tuneCollector sets the above, each unless the environment says otherwise (GOGC,
// GOMEMLIMIT).
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
