package operation

import "context"

// Together is how the units of a coordinated job (Prepared.Coordinated) begin and
// stop as one. A step prepares what it needs, asks Ready, begins, and ends what it
// began when Stopped is closed. In a job that is not coordinated Ready gives the
// go at once and Stopped is nil, so a step can be written for both.
type Together interface {
	// Ready waits until the units of the job are all prepared. Nil is the go; after
	// an error the step undoes what it prepared and returns it.
	Ready(ctx context.Context) error
	// Stop asks all units to stop: a trigger fired, the time is over.
	Stop(ctx context.Context, why string) error
	// Stopped is closed once one of the units asked all to stop or has ended.
	Stopped() <-chan struct{}
}

// Leaver is an Env whose unit can leave the others of a coordinated job.
type Leaver interface {
	// Leave says that the unit takes no part in what the units do together, any
	// more or at all: the others neither wait for it nor stop when it ends.
	Leave(ctx context.Context, why string) error
}
