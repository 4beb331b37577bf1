package artifact

import (
	"bytes"
	"context"
	"errors"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Retention says how long a file outlives the job that made it; zero is at once.
// What an operator added, and what belongs to a job that is kept, always stays. A
// file whose entry was lost counts as a job's that is gone, made when it was found,
// and has RecoveredAge whatever Age is.
type Retention struct {
	Age time.Duration // since it was made
	// Bytes is what all files may take together before those of removed jobs go,
	// oldest first, whatever their age; 0 is no bound.
	Bytes int64
}

// RecoveredAge is how long a recovered file is kept at least, unless Bytes is reached:
// who restores a backup must have the time to look at what it does not know.
const RecoveredAge = 7 * 24 * time.Hour

// Pruned is what a Prune removed, and what is there after it.
type Pruned struct {
	Entries int
	Files   int   // whose last entry went
	Bytes   int64 // of these files
	Left    int64 // bytes of all files that are kept
}

// Prune removes what is not to be kept. Kept tells whether a job is still there.
// Each entry goes by itself, so that nobody waits for long, and in an order that
// the next Open sets right when a crash cuts it short.
func (s *Store) Prune(ctx context.Context, keep Retention, kept func(job string) (bool, error)) (done Pruned, err error) {
	loose, total, err := s.loose(ctx, kept)
	if err != nil {
		return done, err
	}
	done.Left = total
	now := s.now()
	for _, e := range loose {
		age := keep.Age
		if e.Recovered {
			age = max(age, RecoveredAge)
		}
		if now.Sub(e.CreatedAt) < age && (keep.Bytes == 0 || done.Left <= keep.Bytes) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return done, fault.Wrap(fault.KindOf(err), "remove old artifacts", context.Cause(ctx))
		}
		last, err := s.removeEntry(ctx, e)
		if err != nil {
			return done, err
		}
		done.Entries++
		if last {
			done.Files++
			done.Bytes += e.Size
			done.Left -= e.Size
		}
	}
	return done, nil
}

// entry is an entry with its number in the ledger.
type entry struct {
	Artifact
	number []byte
}

// loose gives the entries of jobs that are gone, oldest first, and what all files
// take. It reads in batches, so that no snapshot is held for long.
func (s *Store) loose(ctx context.Context, kept func(string) (bool, error)) (list []entry, total int64, err error) {
	const batch = 1000
	jobs := map[string]bool{"": true}
	files := map[string]struct{}{}
	for from := []byte{}; from != nil; {
		var all []entry
		err := s.db.View(func(tx *ledger.Tx) (bad error) {
			next := []byte(nil)
			err := tx.Scan(entries, from, nil, func(k, raw []byte) bool {
				if len(all) == batch {
					next = bytes.Clone(k)
					return false
				}
				var a Artifact
				a, bad = decode(raw)
				all = append(all, entry{a, bytes.Clone(k)})
				return bad == nil
			})
			from = next
			return errors.Join(err, bad)
		})
		if err == nil && ctx.Err() != nil {
			err = fault.Wrap(fault.KindOf(ctx.Err()), "find old artifacts", context.Cause(ctx))
		}
		if err != nil {
			return nil, 0, err
		}
		for _, e := range all {
			if _, twice := files[e.SHA256]; !twice {
				files[e.SHA256] = struct{}{}
				total += e.Size
			}
			there, asked := jobs[e.Job]
			if !asked {
				if there, err = kept(e.Job); err != nil {
					return nil, 0, err
				}
				jobs[e.Job] = there
			}
			if !there || e.Recovered {
				list = append(list, e)
			}
		}
	}
	return list, total, nil
}

// removeEntry takes one entry out, and its file if it was the last one.
func (s *Store) removeEntry(ctx context.Context, e entry) (last bool, err error) {
	s.moving.Lock()
	defer s.moving.Unlock()
	act := "remove artifact " + e.SHA256
	var same [][]byte
	if err := s.db.View(func(tx *ledger.Tx) error {
		same, err = numbers(tx, byDigest, digestKey(e.SHA256, nil))
		return err
	}); err != nil {
		return false, err
	}
	there := func(n []byte) bool { return bytes.Equal(n, e.number) }
	switch {
	case len(same) == 0 || len(same) == 1 && !there(same[0]):
		return false, nil // somebody removed it meanwhile
	case len(same) > 1:
		return false, s.db.Update(ctx, func(tx *ledger.Tx) error { return drop(tx, e.number, e.Artifact) })
	}
	return true, s.removeFile(ctx, act, e.SHA256, "")
}
