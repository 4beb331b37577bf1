package artifact

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Find gives the entries of the files whose digest begins with prefix, by digest
// and then oldest first. The prefix is 1 to 64 lower-case hexadecimal digits. At
// most limit entries are given; 0 is all.
func (s *Store) Find(ctx context.Context, prefix string, limit int) ([]Artifact, error) {
	// Keys are whole bytes: an odd digit at the end is compared by itself.
	from, err := hex.DecodeString(prefix + strings.Repeat("0", len(prefix)%2))
	if err != nil || prefix == "" || len(prefix) > 64 || strings.ToLower(prefix) != prefix {
		return nil, fault.New(fault.Invalid, "%q is not the beginning of a SHA-256 digest: up to 64 lower-case hexadecimal digits are expected", fault.Clip(prefix, 80))
	}
	out := []Artifact{}
	err = s.db.View(func(tx *ledger.Tx) error {
		var all [][]byte
		err := tx.Scan(byDigest, from, end(from[:len(prefix)/2]), func(k, _ []byte) bool {
			if len(k) != 32+keyDigits {
				return true
			}
			if !strings.HasPrefix(hex.EncodeToString(k[:32]), prefix) {
				return false // the odd digit: those after it are larger
			}
			all = append(all, bytes.Clone(k[32:]))
			return (limit == 0 || len(all) < limit) && ctx.Err() == nil
		})
		for _, n := range all {
			if err != nil {
				break
			}
			var a Artifact
			a, err = read(tx, n)
			out = append(out, a)
		}
		return err
	})
	if err == nil && ctx.Err() != nil {
		err = fault.Wrap(fault.KindOf(ctx.Err()), "find artifact", context.Cause(ctx))
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}
