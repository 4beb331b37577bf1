// Package hotread reads from connections that are busy at less cost.
//
// Go parks a goroutine whose read would block and lets a thread wait for all of them,
// which is right for hundreds of idle connections. A stream of a gigabyte, though,
// stops for a moment at every other packet, and each such moment then is three changes
// of threads: the poller's, the runtime's monitor's, and that to the reader and back. So
// a read that finds nothing where much has just come waits a few milliseconds by itself
// first, in one system call. Profiles of live captures showed half of fleetctl's time in
// those changes.
//
// Nothing is decided here about what is read: the connection is authoritative, and so
// are its deadlines and its end, which take effect as late as that wait.
package hotread
