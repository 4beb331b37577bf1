package jobs

import (
	"crypto/sha256"
	"maps"
	"sync"

	"capfleet/internal/fault"
)

// Two jobs may work on the same thing at once: a schedule's and a person's. What
// one of them stores was worked out from what it loaded, so the second to end must
// not take the place of the first's unseen: it is done again, from what the first
// has left.

// loaded is what an attempt has loaded, by key.
type loaded struct {
	mu   sync.Mutex
	sums map[string][sha256.Size]byte
}

// note remembers a value; the first one counts.
func (l *loaded) note(key string, value []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.sums[key]; again {
		return
	}
	if l.sums == nil {
		l.sums = make(map[string][sha256.Size]byte)
	}
	l.sums[key] = sha256.Sum256(value)
}

// changed reports whether a key has another value now than what was loaded.
func (l *loaded) changed(key string, value []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, ok := l.sums[key]
	return ok && sum != sha256.Sum256(value)
}

// overtaken makes failures, which may pass by themselves, of endings that would
// store over what another job has stored since this one loaded it.
func (c *change) overtaken(cl *claim, endings map[string]ending) map[string]ending {
	cloned := false
	for device, end := range endings {
		for key := range end.Stores {
			if !cl.loaded.changed(key, c.tx.Get(nsStores, storeKey(cl.operation, key))) {
				continue
			}
			if !cloned {
				endings, cloned = maps.Clone(endings), true
			}
			endings[device] = ending{TaskResult: TaskResult{State: Failed, Artifacts: end.Artifacts, Warnings: end.Warnings, Failure: &Failure{
				Device: device, Stage: "store", Kind: fault.Busy, Message: "another job has done the same meanwhile; it is done again from what that left",
			}}}
			break
		}
	}
	return endings
}
