//go:build !unix

package daemon

import "os"

// tryLock leaves it to the ledger's own lock where there is no flock.
func tryLock(*os.File) error { return nil }
