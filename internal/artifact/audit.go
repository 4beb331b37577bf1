package artifact

import (
	"context"
	"fmt"

	"capfleet/internal/audit"
	"capfleet/internal/ledger"
)

// RemoveFor removes a file as Remove does, for somebody who asked for it; the
// audit remembers who.
func (s *Store) RemoveFor(ctx context.Context, sha256, by string) error {
	return s.remove(ctx, sha256, by)
}

// added remembers who added a file. What a job made is in the job's own records.
func (s *Store) added(tx *ledger.Tx, a Artifact, how audit.Result) error {
	if a.CreatedBy == "" {
		return nil
	}
	return audit.Add(tx, s.entry(a, audit.ArtifactAdd, a.CreatedBy, how))
}

// removed remembers who removed a file. What fleetd clears away by itself nobody
// asked for.
func (s *Store) removed(tx *ledger.Tx, a Artifact, by string) error {
	if by == "" {
		return nil
	}
	return audit.Add(tx, s.entry(a, audit.ArtifactRemove, by, audit.Done))
}

func (s *Store) entry(a Artifact, action audit.Action, by string, how audit.Result) audit.Entry {
	return audit.Entry{Time: s.now(), By: by, Action: action, Result: how, Job: a.Job, Device: a.Device, Artifact: a.SHA256,
		Detail: fmt.Sprintf("%s, %d bytes", a.Name, a.Size)}
}
