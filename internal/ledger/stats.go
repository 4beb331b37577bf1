package ledger

import (
	"time"

	bolt "go.etcd.io/bbolt"
)

// Stats is the file in numbers.
type Stats struct {
	Bytes     int64 // size of the file
	FreeBytes int64 // of it, for reuse; what compaction would give back
	// Commits is how many transactions the file has seen since it was made or
	// compacted.
	Commits   uint64
	WriteTime time.Duration // spent writing and syncing since Open
	Readers   int           // snapshots that are open now
	// Writable is false once a defect of disk or memory made the ledger refuse to
	// write; only a restart helps.
	Writable bool
}

// Stats reads no data.
func (db *DB) Stats() (Stats, error) {
	s := Stats{Writable: db.broken.Load() == nil}
	err := guard(func() error {
		return db.bolt.View(func(tx *bolt.Tx) error {
			s.Bytes, s.Commits = tx.Size(), uint64(max(tx.ID(), 0))
			return nil
		})
	})
	if err != nil {
		return Stats{}, storage("read statistics of ledger "+db.path, err)
	}
	stats := db.bolt.Stats()
	s.FreeBytes = int64(stats.FreePageN+stats.PendingPageN) * int64(db.bolt.Info().PageSize)
	s.WriteTime = stats.TxStats.GetWriteTime()
	s.Readers = stats.OpenTxN
	return s, nil
}
