//go:build !failpoint

package ledger

// failpoints are there only in a build with the tag failpoint.
func failpoints() func(point string) { return nil }
