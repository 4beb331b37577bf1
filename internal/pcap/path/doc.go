// Package path follows packets through captures that were taken at several places at
// the same time, and says where they were lost.
//
// The captures are authoritative about what was seen at each place, never about what
// was not: a capture that dropped packets, or had not begun or had ended, proves
// nothing of a packet that it lacks. The caller is authoritative about the order of the
// places, from the client's side to the server's, and may say what address
// translation there is between them; what he does not say is looked for.
//
// Packets of TCP are followed by the bytes of the stream that they carry, since
// offloading cuts a stream differently at each place, with the difference of sequence
// numbers that a firewall may put in. Everything else is followed by addresses, ports,
// length and the beginning of what it carries; the identification of IP only decides
// between equals, as it is often zero. TTL, MAC addresses, tags and checksums may
// differ.
//
// Clocks differ. The smallest times in both directions between two places give the
// offset of their clocks, if the way takes as long there as back.
package path

import (
	"io"
	"net/netip"
	"time"
)

// Hop is one place with what was captured there.
type Hop struct {
	Name string
	// Captures are the files of it, in order of time; several interfaces or files of a
	// ring. They are read to their end and not closed.
	Captures []Capture
	// Maps are translations that are in force from this place on, away from the client:
	// what is From before it is To here.
	Maps []Map
	// Drops is how many packets the capture is known to have lost, where the caller
	// knows; what the files themselves tell is added.
	Drops uint64
	// DropsUnknown says that nothing is known of drops.
	DropsUnknown bool
	// Began and Ended are when the capture ran by this place's clock, where that is
	// known. Otherwise it is known to have run from its first packet to its last.
	Began, Ended *time.Time
	// Clock is how far this place's clock is ahead of one that all are compared with,
	// where that is known, and ClockWithin how much that may be wrong. It stands in
	// between places that have no packet in common.
	Clock       *time.Duration
	ClockWithin time.Duration
}

// Capture is one file of a hop.
type Capture struct {
	Name   string
	Reader io.Reader
}

// Map is a translation of an address.
type Map struct {
	From, To netip.Addr
}

// Options bound and direct the analysis.
type Options struct {
	// Lost is how many lost packets are listed; the others are counted. 0 is 100.
	Lost int
	// Ladder is how many packets of the first conversation with a loss are drawn; 0 is
	// none.
	Ladder int
	// Whole says that every capture ran all the time that any of them has packets of.
	Whole bool
}
