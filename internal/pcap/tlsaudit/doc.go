// Package tlsaudit finds the TLS sessions of a capture and which version each side
// wanted: who would be locked out if an old version were switched off.
//
// What the two hellos say is authoritative (package tlshello reads them); ports mean
// nothing. A hello is looked for at the beginning of each direction of a connection
// whose opening was seen, and besides wherever a segment begins like one, so that
// STARTTLS, proxies and captures that begin in the middle are found too. Streams are
// put together only as far as a hello reaches, over lost order, repetition and
// overlaps; bytes that came first stay. What the capture does not hold is said to be
// missing and never guessed: Truncated where packets were cut, Gap where there are
// none.
//
// An Audit is a pcap.Sifter: nearly all packets are sorted out by their first bytes,
// on all processors; those of connections that are being watched, and those that
// open, close or begin like a hello, come one after the other. Memory is bounded by
// the limits in table.go.
package tlsaudit
