// Package capture is the operation that captures packets on devices with the
// tcpdump that is there, and what belongs to it: the life of that tcpdump on the
// device, checks of interfaces and filters before anything starts, and filters
// made from questions.
//
// The device is authoritative: it says which interfaces there are and what a
// filter compiles to, from which address it sees us, and what its tcpdump can. A
// process there is known by its PID and the moment it began, which the device's
// side records before the process is tcpdump; see Keep.
//
// Live captures (live.go) hand pcap to one reader as it comes and keep nothing.
// When the reader goes, the capture ends; when anything else goes, the device ends
// it by itself.
//
// Analyses (analyze*.go) read such captures of many devices in fleetd, and keep what
// they find and no packet.
package capture
