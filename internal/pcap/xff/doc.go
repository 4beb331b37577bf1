// Package xff finds the packets in which a proxy names a client: the headers with
// which HTTP proxies and load balancers pass a client's address on.
//
// A header counts where a line begins with its name, in any letter case, and the
// address that is looked for is one of its values: compared as an address and not as
// text, so that 10.1.1.1 is not found in 10.1.1.10 and every spelling of an IPv6
// address is. Requests are not parsed beyond that, so that captures that begin
// anywhere are searched too.
//
// Lines that are split over segments are put together in the order of the sequence
// numbers. A Search is a pcap.Sifter: whole lines are read on all processors, and
// those that a segment leaves open go from packet to packet.
package xff
