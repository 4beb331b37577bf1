//go:build !linux && !darwin

package ledger

// freeSpace does not know: a disk is full here when a write fails.
func freeSpace(string) (bytes uint64, known bool, err error) { return 0, false, nil }
