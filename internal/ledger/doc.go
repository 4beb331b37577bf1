// Package ledger is the one durable file of fleetd: namespaces of sorted keys
// in bbolt, with one writer, group commit, a schema version and backups. It is
// the only package that knows bbolt, and the file is the truth about every job.
//
// # One writer, many callers
//
// Update hands its function to a single writer goroutine. The writer opens a
// transaction, runs every function that is waiting, commits once, and only then
// answers each caller: a nil error means that the change is on the disk. The
// cost of a commit is its fsync, so 64 callers that share one are more than ten
// times as fast as 64 commits in turn.
//
// Functions that share a commit do not see each other's failure. Each writes
// straight into the shared transaction while an undo log keeps what was there
// before; a function that returns an error or panics is undone, and the others
// go on. An undo log was chosen over buffering the writes of each function
// because reading one's own writes, scans included, is then bbolt's own
// business and only the rare failure pays; and over running a failed batch
// again function by function because each function then runs exactly once, so
// it may fill variables of its caller.
//
// # Readers
//
// View reads a consistent snapshot beside the writer. A long View keeps old
// pages from being reused and can hold up the growth of the file, so no
// transaction is held across the network: read a batch, leave, send it.
//
// # A damaged file
//
// bbolt panics, or the process gets a memory fault, when a page is not what it
// should be. Every access is guarded: the caller gets fault.Storage naming the
// file and what to do, never a panic. Open reads the outermost pages only, since a
// large file would take long; each backup is checked to its last page, and so
// finds damage within a day.
//
// # Size
//
// Pages that are freed are used again, so the file stays near the most that it
// ever held. Where that was much more than it holds now, Open writes it anew.
//
// # Crash points
//
// A build with the tag failpoint can be told to kill itself before or after any
// commit, and at each step of a backup and a compaction.
package ledger
