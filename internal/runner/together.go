package runner

import "context"

func (e *env) Ready(ctx context.Context) error { return e.journal.Ready(ctx) }

func (e *env) Stop(ctx context.Context, why string) error { return e.journal.Stop(ctx, line(why)) }

func (e *env) Stopped() <-chan struct{} { return e.journal.Stopped() }
