package ledger

import (
	"fmt"
	"path/filepath"

	"capfleet/internal/fault"
)

// Room is an error, fault.Storage, while the file system of the ledger has less
// than the reserve free. Ask before work is accepted that will have results to be
// kept: what is running already may then use the reserve. It costs one system
// call and asks anew each time, so that it ends by itself.
//
// A bound on what is free was preferred to a file that is deleted in need: that
// helps once, must be made anew while the disk is nearly full, and does nothing
// that refusing work a little earlier does not.
func (db *DB) Room() error {
	return db.room("accept new work", filepath.Dir(db.path), 0)
}

// room asks for so many bytes above the reserve.
func (db *DB) room(act, dir string, bytes uint64) error {
	if db.reserve == 0 && bytes == 0 {
		return nil
	}
	free, known, err := db.free(dir)
	if err != nil {
		return storage(act, err)
	}
	if !known || free >= db.reserve+bytes {
		return nil
	}
	return &fault.Error{Kind: fault.Storage, Act: act,
		Err:  fmt.Errorf("the file system of %s has %d MiB free, and %d MiB are wanted", dir, free>>20, (db.reserve+bytes)>>20),
		Next: "free some space there; what is stored already is safe, and work that is running goes on"}
}
