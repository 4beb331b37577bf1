package jobs

// State is a task's state, or a job's, which is computed from its tasks'.
type State string

// Task states. Paused and Partial exist for jobs only.
const (
	Pending   State = "pending"
	Waiting   State = "waiting" // window, wave, approval or retry time: Reason and Until say which
	Running   State = "running"
	Succeeded State = "succeeded"
	Unchanged State = "unchanged" // nothing was needed
	Failed    State = "failed"
	Attention State = "attention" // a person must look: the device's state is not proven
	Skipped   State = "skipped"   // the budget stopped the rollout first
	Canceled  State = "canceled"

	Paused  State = "paused"
	Partial State = "partial"
)
