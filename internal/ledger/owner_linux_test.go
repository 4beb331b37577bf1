package ledger_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"capfleet/internal/ledger"
)

// Root restores for the user that fleetd runs as. (As another user the test shows
// only that the file is one's own.)
func TestRestoredFileBelongsToTheStateDirectorysOwner(t *testing.T) {
	from := write(t, filled(t))
	dir := t.TempDir()
	uid := os.Geteuid()
	if uid == 0 {
		uid = 12345
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "ledger.db")
	if _, err := ledger.Restore(t.Context(), path, from, ledger.Options{}, at(0)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != uid || info.Mode().Perm() != 0o600 {
		t.Errorf("the ledger is %d's with mode %v, want %d's and 0600", st.Uid, info.Mode(), uid)
	}
}
