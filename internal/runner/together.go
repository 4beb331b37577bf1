package runner

import (
	"context"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/operation"
)

var _ operation.Leaver = (*env)(nil)

func (e *env) Ready(ctx context.Context) error { return e.journal.Ready(ctx) }

func (e *env) Stop(ctx context.Context, why string) error { return e.journal.Stop(ctx, line(why)) }

func (e *env) Stopped() <-chan struct{} { return e.journal.Stopped() }

// Leave implements operation.Leaver.
func (e *env) Leave(ctx context.Context, why string) error {
	l, ok := e.journal.(jobs.Leaver)
	if !ok {
		return fault.New(fault.Unsupported, "this runner's units cannot leave a coordinated job")
	}
	return l.Leave(ctx, line(why))
}
