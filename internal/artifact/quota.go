package artifact

import (
	"fmt"
	"os"

	"capfleet/internal/fault"
)

// sizeOf is 0 for a file that is not there.
func sizeOf(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

// reservation is room for a file that is being written. It is given back once the
// file has its place, or none.
type reservation struct {
	store *Store
	size  int64
}

// grow takes room for n more bytes, or refuses them.
func (r *reservation) grow(act string, n int64) error {
	used := r.store.used.Add(n)
	r.size += n
	if quota := r.store.quota; quota > 0 && used > quota {
		return &fault.Error{Kind: fault.Storage, Act: act, Stage: "artifact",
			Err:  fmt.Errorf("all artifacts together would take more than %d bytes (retention.artifact_quota)", quota),
			Next: "remove some with fleetctl artifact rm, or raise the quota"}
	}
	return nil
}

func (r *reservation) release() {
	r.store.used.Add(-r.size)
	r.size = 0
}
