// Package pcap reads captures: pcap and pcapng, plain or gzip, from files that
// are whole, still growing, cut or damaged, and from streams.
//
// It knows nothing of fleets and imports nothing of ours, so that it can stand
// alone. The file is authoritative and is never believed about sizes: whatever
// it says, memory stays bounded by Options, and what cannot be read is an *Error
// with the offset and the reason, after everything before it was given.
//
// A Reader gives packets one after the other without copying: the bytes of a
// packet belong to the reader's window and are valid until the next call. There
// is no allocation per packet. Package layers looks into the bytes, package info
// sums them up.
//
// docs/formats/pcap.md describes the formats and names their sources.
package pcap
