package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"capfleet/internal/ledger"
)

// The ledger and the files are two things, and a restore puts an older ledger beside
// newer files. What then is on the disk alone is evidence that a job has gathered and
// that nobody can fetch or would ever remove; what is in the ledger alone was removed
// after the backup.

// recoveredType is the media type of a recovered file. What it was is lost, and it
// may hold keys; see Artifact.Secret.
const recoveredType = "application/octet-stream; secret=yes"

// reconcile compares the files with the entries and weighs the files.
func (s *Store) reconcile() error {
	found := map[string]int64{} // sizes by digest
	strange, total := 0, int64(0)
	err := filepath.WalkDir(s.objects(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		total += info.Size()
		if name := d.Name(); d.Type().IsRegular() && checkDigest(name) == nil && path == s.object(name) {
			found[name] = info.Size()
		} else {
			strange++
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.used.Store(total)
	if strange > 0 {
		s.log.Warn("files among the artifacts are none and are left alone", "dir", s.objects(), "files", strange)
	}
	missing, example := 0, ""
	err = s.db.View(func(tx *ledger.Tx) error {
		last := ""
		return tx.Scan(byDigest, nil, nil, func(k, _ []byte) bool {
			if len(k) <= keyDigits {
				return true
			}
			sha := fmt.Sprintf("%x", k[:len(k)-keyDigits])
			if sha == last {
				return true
			}
			last = sha
			if _, there := found[sha]; there {
				delete(found, sha)
				return true
			}
			if missing++; missing == 1 {
				example = sha
			}
			return true
		})
	})
	if err != nil {
		return err
	}
	if missing > 0 {
		s.log.Warn("artifacts are listed whose files are gone; bring the files back, or remove them with fleetctl artifact rm",
			"dir", s.objects(), "artifacts", missing, "one", example)
	}
	s.adopt(found)
	return nil
}

// adopt gives files without an entry one each, in one transaction. Where the disk is
// too full for it the next Open does it: fleetd must be able to start on a full disk.
func (s *Store) adopt(found map[string]int64) {
	if len(found) == 0 {
		return
	}
	var bytes int64
	err := s.db.Update(context.Background(), func(tx *ledger.Tx) error {
		bytes = 0
		for _, sha := range slices.Sorted(maps.Keys(found)) {
			size := found[sha]
			bytes += size
			n, err := tx.Sequence(entries)
			if err != nil {
				return err
			}
			if err := put(tx, number(n), Artifact{SHA256: sha, Name: "recovered-" + sha[:12], MediaType: recoveredType, Size: size,
				CreatedAt: s.now().UTC(), Recovered: true}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.log.Error("artifacts were found that the ledger does not know, and it cannot take them in; the next start tries again",
			"dir", s.objects(), "files", len(found), "err", err)
		return
	}
	s.log.Warn("artifacts were found that the ledger did not know; they are listed as recovered-DIGEST and go by retention",
		"dir", s.objects(), "files", len(found), "bytes", bytes)
}
