// Package jobs is the engine: it keeps jobs and their tasks in the ledger,
// decides when each unit of work may run, hands it to a Runner, and writes down
// how it ended. It knows no operation and no device.
//
// The ledger is authoritative. What the engine holds in memory is an index of
// unfinished work that it rebuilds from the ledger at start.
package jobs
