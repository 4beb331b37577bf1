package jobs

import (
	"context"
	"encoding/binary"
	"time"

	"capfleet/internal/ledger"
)

// Stats is the queue in numbers. It costs one read for each unfinished job.
type Stats struct {
	Jobs   int           // unfinished
	Paused int           // of them
	Tasks  map[State]int // of unfinished jobs, by state; final ones are left out
	// Oldest is when the oldest unfinished job was made; zero when there is none.
	Oldest time.Time
	// LastEvent is the number of the last stored event; with it as After, Watch gives
	// what happens from now on.
	LastEvent uint64
}

// Stats counts what is unfinished.
func (e *Engine) Stats(ctx context.Context) (Stats, error) {
	s := Stats{Tasks: map[State]int{Pending: 0, Waiting: 0, Running: 0}}
	err := e.view(ctx, func(tx *ledger.Tx) error {
		if err := tx.ScanReverse(nsEvents, nil, nil, func(k, _ []byte) bool {
			s.LastEvent = binary.BigEndian.Uint64(k)
			return false
		}); err != nil {
			return err
		}
		var ids []number
		if err := tx.Scan(nsActive, nil, nil, func(k, _ []byte) bool {
			ids = append(ids, numberOf(k))
			return true
		}); err != nil {
			return err
		}
		for i, id := range ids {
			p, _, err := get[progress](tx, nsProgress, id.key())
			if err != nil {
				return err
			}
			s.Jobs++
			if p.PausedAt != nil {
				s.Paused++
			}
			for state := range s.Tasks {
				s.Tasks[state] += p.Counts[state]
			}
			if i == 0 { // ids ascend
				job, err := readJob(tx, id)
				if err != nil {
					return err
				}
				s.Oldest = job.CreatedAt
			}
		}
		return nil
	})
	return s, err
}
