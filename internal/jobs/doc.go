// Package jobs is the engine: it keeps jobs and their tasks in the ledger,
// decides when each unit of work may run, hands it to a Runner, and writes down
// how it ended. It knows no operation and no device.
//
// The ledger is authoritative. What the engine holds in memory is an index of
// unfinished work that it rebuilds from the ledger at start; keys.go says how
// the ledger is laid out.
//
// # The states of a task
//
//	           submit                   retry by an operator
//	             │    ┌──────────────────────────────────────────────┐
//	             ▼    ▼                                              │
//	           pending ──────────┬─ cancel ───────► canceled ────────┤
//	            ▲   │ │          ├─ rollout stops ► skipped ─────────┤
//	stop, crash │   │ └ held back┐                                   │
//	            │   ▼            ▼                                   │
//	           running ───────► waiting                              │
//	            │   ▲  may pass  │                                   │
//	            │   └────────────┘ its time has come                 │
//	            │                                                    │
//	            ├──► succeeded, unchanged                            │
//	            └──► failed, attention, canceled ────────────────────┘
//
// Transitions (state.go) is that drawing as a table; nothing moves a task
// without it. A job has no state of its own: JobState works it out from the
// counts of its tasks.
//
// # The life of a unit
//
// The scheduler (schedule.go) picks a unit when the limits have room. Its worker
// claims it: one transaction sets its tasks running and gives them a new fence.
// The runner works and reports into the journal, and a last transaction writes
// state, rows and facts together. Both transactions check in the ledger that the
// tasks are still where they were, so that cancel, retry and a worker that lost
// its place cannot meet halfway. Nobody waits for anybody else's fsync: workers
// commit side by side and the ledger groups them.
//
// After a crash the running tasks are set back and run again under a new fence;
// a device's rows are one value under one key, written with the final state, so
// they are there once however often the work was begun.
package jobs
