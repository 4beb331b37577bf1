package artifact

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Where entries are in the ledger.
const (
	entries   ledger.Namespace = "artifacts"        // number -> Artifact as JSON, ascending by time
	byJob     ledger.Namespace = "artifacts_by_job" // job, 0, number -> nothing
	byDigest  ledger.Namespace = "artifacts_by_sha" // digest (32 bytes), number -> nothing
	keyDigits                  = 8                  // bytes of a number, big endian
)

// Namespaces are what the ledger must be opened with, beside those of the audit.
func Namespaces() []ledger.Namespace { return []ledger.Namespace{entries, byJob, byDigest} }

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func jobKey(job string, n []byte) []byte { return append(append([]byte(job), 0), n...) }

func digestKey(sha string, n []byte) []byte {
	raw, _ := hex.DecodeString(sha) // checked on the way in
	return append(raw, n...)
}

// end is the first key after all those that begin with prefix.
func end(prefix []byte) []byte {
	out := bytes.Clone(prefix)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out[:i+1]
		}
	}
	return nil
}

// numbers gives the numbers at the end of the keys that begin with prefix.
func numbers(tx *ledger.Tx, ns ledger.Namespace, prefix []byte) ([][]byte, error) {
	var out [][]byte
	err := tx.Scan(ns, prefix, end(prefix), func(k, _ []byte) bool {
		if len(k) == len(prefix)+keyDigits {
			out = append(out, bytes.Clone(k[len(prefix):]))
		}
		return true
	})
	return out, err
}

func read(tx *ledger.Tx, n []byte) (Artifact, error) {
	raw := tx.Get(entries, n)
	if raw == nil {
		return Artifact{}, fault.New(fault.Storage, "artifact entry %x is missing from the ledger", n)
	}
	return decode(raw)
}

func decode(raw []byte) (Artifact, error) {
	var a Artifact
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fault.Wrap(fault.Storage, "read artifact entry", err)
	}
	return a, nil
}

// record adds an entry and gives its number, or the entry that says the same
// already with number 0.
func (s *Store) record(ctx context.Context, a Artifact) (out Artifact, added uint64, err error) {
	err = s.db.Update(ctx, func(tx *ledger.Tx) error {
		same, err := numbers(tx, byDigest, digestKey(a.SHA256, nil))
		if err != nil {
			return err
		}
		for _, n := range same {
			old, err := read(tx, n)
			if err != nil {
				return err
			}
			if old.Recovered { // now it is known what the file is
				if err := drop(tx, n, old); err != nil {
					return err
				}
				continue
			}
			if old.Name == a.Name && old.Job == a.Job && old.Device == a.Device {
				out, added = old, 0
				return nil
			}
		}
		if added, err = tx.Sequence(entries); err != nil {
			return err
		}
		out = a
		if err := put(tx, number(added), a); err != nil {
			return err
		}
		return s.added(tx, a, audit.Done)
	})
	return out, added, err
}

// put writes an entry.
func put(tx *ledger.Tx, n []byte, a Artifact) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return fault.Wrap(fault.Internal, "write artifact entry", err)
	}
	if err := tx.Put(entries, n, raw); err != nil {
		return err
	}
	if err := tx.Put(byJob, jobKey(a.Job, n), nil); err != nil {
		return err
	}
	return tx.Put(byDigest, digestKey(a.SHA256, n), nil)
}

// withdraw takes one entry back.
func (s *Store) withdraw(ctx context.Context, entry uint64, a Artifact) error {
	return s.db.Update(ctx, func(tx *ledger.Tx) error {
		if err := s.added(tx, a, audit.Failed); err != nil {
			return err
		}
		return drop(tx, number(entry), a)
	})
}

func drop(tx *ledger.Tx, n []byte, a Artifact) error {
	if err := tx.Delete(entries, n); err != nil {
		return err
	}
	if err := tx.Delete(byJob, jobKey(a.Job, n)); err != nil {
		return err
	}
	return tx.Delete(byDigest, digestKey(a.SHA256, n))
}

// forget takes all entries of a digest out. By is who asked.
func (s *Store) forget(ctx context.Context, sha, by string) error {
	return s.db.Update(ctx, func(tx *ledger.Tx) error {
		all, err := numbers(tx, byDigest, digestKey(sha, nil))
		if err != nil {
			return err
		}
		for _, n := range all {
			a, err := read(tx, n)
			if err != nil {
				return err
			}
			if err := drop(tx, n, a); err != nil {
				return err
			}
			if err := s.removed(tx, a, by); err != nil {
				return err
			}
		}
		return nil
	})
}

// known reports whether a digest has an entry.
func (s *Store) known(sha string) (bool, error) {
	found := false
	err := s.db.View(func(tx *ledger.Tx) error {
		prefix := digestKey(sha, nil)
		return tx.Scan(byDigest, prefix, end(prefix), func(_, _ []byte) bool {
			found = true
			return false
		})
	})
	return found, err
}

// first gives a digest's oldest entry.
func (s *Store) first(sha string) (Artifact, error) {
	var out Artifact
	err := s.db.View(func(tx *ledger.Tx) error {
		all, err := numbers(tx, byDigest, digestKey(sha, nil))
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return notFound(sha)
		}
		out, err = read(tx, all[0])
		return err
	})
	return out, err
}

// List gives the entries of a job, or of everything with "", oldest first.
func (s *Store) List(ctx context.Context, job string) ([]Artifact, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), "list artifacts", context.Cause(ctx))
	}
	out := []Artifact{}
	err := s.db.View(func(tx *ledger.Tx) error {
		if job == "" {
			var bad error
			err := tx.Scan(entries, nil, nil, func(_, raw []byte) bool {
				a, err := decode(raw)
				out, bad = append(out, a), err
				return err == nil && ctx.Err() == nil
			})
			if err == nil && bad == nil && ctx.Err() != nil {
				bad = fault.Wrap(fault.KindOf(ctx.Err()), "list artifacts", context.Cause(ctx))
			}
			if err == nil {
				err = bad
			}
			return err
		}
		all, err := numbers(tx, byJob, jobKey(job, nil))
		if err != nil {
			return err
		}
		for _, n := range all {
			a, err := read(tx, n)
			if err != nil {
				return fmt.Errorf("job %s: %w", job, err)
			}
			out = append(out, a)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
