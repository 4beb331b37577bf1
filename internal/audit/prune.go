package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// pruneBatch is how many entries go in one transaction, so that nobody waits.
const pruneBatch = 500

// Prune removes the entries from before a time and says how many. Entries are in
// the order of their commits, so it reads no further than the first that stays.
func Prune(ctx context.Context, db *ledger.DB, before time.Time) (removed int, err error) {
	for more := true; more; {
		n := 0
		err := db.Update(ctx, func(tx *ledger.Tx) (bad error) {
			var keys [][]byte
			more = false
			if err := tx.Scan(namespace, nil, nil, func(k, v []byte) bool {
				var e Entry
				if bad = json.Unmarshal(v, &e); bad != nil || !e.Time.Before(before) {
					return false
				}
				keys = append(keys, bytes.Clone(k))
				more = len(keys) == pruneBatch
				return !more
			}); err != nil {
				return err
			}
			if bad != nil {
				return fault.Wrap(fault.Storage, "read the audit", bad)
			}
			for _, k := range keys {
				if err := tx.Delete(namespace, k); err != nil {
					return err
				}
			}
			n = len(keys)
			return nil
		})
		if err != nil {
			return removed, fault.Wrap(fault.Storage, "remove old entries of the audit", err)
		}
		removed += n
	}
	return removed, nil
}
