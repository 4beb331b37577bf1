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
	Skipped   State = "skipped"   // the rollout stopped first, or its window is over
	Canceled  State = "canceled"

	Paused  State = "paused"
	Partial State = "partial"
)

// Final reports whether a task in this state is left alone by the engine. Only
// an operator's retry takes it up again.
func (s State) Final() bool {
	switch s {
	case Succeeded, Unchanged, Failed, Attention, Skipped, Canceled:
		return true
	default:
		return false
	}
}

// retried reports whether an operator's retry takes a task in this state up
// again: everything that did not end well. Attention is among them, since the
// operator who asks has looked, and the runner observes the device first anyhow.
func (s State) retried() bool {
	return s == Failed || s == Attention || s == Skipped || s == Canceled
}

// Mover is who may move a task from one state to another.
type Mover string

// The movers.
const (
	Submission Mover = "submission" // makes the task
	Scheduler  Mover = "scheduler"  // the engine's own decisions
	Worker     Mover = "runner"     // the result of the runner that holds the task's fence
	Operator   Mover = "operator"   // cancel and retry
	Recovery   Mover = "recovery"   // at start, for what a dead process left
)

// Transition is one arrow of the drawing in the package comment. From is empty
// where a task begins.
type Transition struct {
	From, To State
	By       Mover
	When     string
}

// Transitions is the whole table of what may happen to a task.
func Transitions() []Transition {
	return []Transition{
		{"", Pending, Submission, "the job is made"},

		{Pending, Running, Scheduler, "its unit is handed out"},
		{Pending, Waiting, Scheduler, "a rule of its rollout holds it back"},
		{Waiting, Running, Scheduler, "its time has come and its unit is handed out"},
		{Pending, Skipped, Scheduler, "its rollout stopped first, or its window is over"},
		{Waiting, Skipped, Scheduler, "its rollout stopped first, or its window is over"},
		{Running, Waiting, Scheduler, "the attempt failed in a way that may pass, and attempts are left"},
		{Running, Waiting, Scheduler, "its preparation is over, and its turn has not come"},
		{Running, Pending, Scheduler, "fleetd stops; the attempt does not count"},

		{Running, Succeeded, Worker, "the work was done"},
		{Running, Unchanged, Worker, "the device was as wanted already"},
		{Running, Failed, Worker, "the attempt failed for good"},
		{Running, Attention, Worker, "the device does not show whether the work was done"},
		{Running, Canceled, Worker, "the work ended because it was asked to"},

		{Pending, Canceled, Operator, "the job is canceled before the task began"},
		{Waiting, Canceled, Operator, "the job is canceled while the task waits"},
		{Failed, Pending, Operator, "the job is retried"},
		{Attention, Pending, Operator, "the job is retried"},
		{Skipped, Pending, Operator, "the job is retried"},
		{Canceled, Pending, Operator, "the job is retried"},

		{Running, Pending, Recovery, "fleetd died while it ran"},
		{Running, Canceled, Recovery, "fleetd died while it ran, and the job is canceled"},
	}
}

// allowed looks a move up in the table.
func allowed(from, to State, by Mover) bool {
	for _, t := range Transitions() {
		if t.From == from && t.To == to && t.By == by {
			return true
		}
	}
	return false
}

// JobState works a job's state out of the counts of its tasks. While tasks are
// left: paused when somebody paused it, also while what ran before still runs;
// otherwise pending until the first begins, waiting when all that are left wait,
// and running between. Then attention and canceled if any task is; otherwise
// succeeded when all succeeded or needed nothing, failed when none did, and
// partial between.
func JobState(job Job) State {
	total := 0
	for _, n := range job.Counts {
		total += n
	}
	count := func(states ...State) (n int) {
		for _, s := range states {
			n += job.Counts[s]
		}
		return n
	}
	done := count(Succeeded, Unchanged)
	switch {
	case job.PausedAt != nil && count(Pending, Waiting, Running) > 0:
		return Paused
	case count(Pending) == total:
		return Pending
	case count(Running, Pending) > 0:
		return Running
	case count(Waiting) > 0:
		return Waiting
	case count(Attention) > 0:
		return Attention
	case count(Canceled) > 0:
		return Canceled
	case done == total:
		return Succeeded
	case done == 0:
		return Failed
	default:
		return Partial
	}
}
