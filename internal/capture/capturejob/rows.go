package capturejob

import (
	"time"

	"capfleet/internal/pcap/info"
	"capfleet/internal/pcap/tlsaudit"
	"capfleet/internal/pcap/xff"
)

// LiveRow is what a live capture was, once it has ended.
type LiveRow struct {
	Device    string `json:"device"`
	Interface string `json:"interface"`
	// Filter is what tcpdump was given: the operator's, without our own sessions.
	Filter string `json:"filter"`
	// EndedBy says what ended it: packets, bytes, duration, reader, stop, device.
	EndedBy string `json:"ended_by"`
	// Packets and Bytes are what the reader was given, Bytes with all headers.
	Packets int64 `json:"packets"`
	Bytes   int64 `json:"bytes"`
	// Captured, Received, DroppedByKernel and DroppedByInterface are tcpdump's own
	// counts; null where it does not say.
	Captured           *int64     `json:"captured_packets"`
	Received           *int64     `json:"received_packets"`
	DroppedByKernel    *int64     `json:"dropped_by_kernel"`
	DroppedByInterface *int64     `json:"dropped_by_interface"`
	FirstTime          *time.Time `json:"first_time"`
	LastTime           *time.Time `json:"last_time"`
	// Delayed is set where the device's tcpdump has no -U.
	Delayed bool `json:"delayed"`
	// Keys is set where the capture holds keys of TLS sessions.
	Keys bool `json:"key_material"`
}

// RingRow is what there is of one interface of one device.
type RingRow struct {
	Device    string `json:"device"`
	Interface string `json:"interface"`
	Filter    string `json:"filter"`
	// File is the artifact: the files of the ring in order of time, as one pcapng.
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	// Packets are those in the file.
	Packets   uint64     `json:"packets"`
	FirstTime *time.Time `json:"first_time"`
	LastTime  *time.Time `json:"last_time"`
	// What tcpdump counted over the whole run, of which the ring keeps the end; null
	// where it does not say.
	Captured           *int64 `json:"captured_packets"`
	Received           *int64 `json:"received_packets"`
	DroppedByKernel    *int64 `json:"dropped_by_kernel"`
	DroppedByInterface *int64 `json:"dropped_by_interface"`

	BeganAt   time.Time `json:"began_at"`
	StoppedAt time.Time `json:"stopped_at"`
	// RunningFrom and RunningTo are between them: when every packet was captured that
	// was not dropped.
	RunningFrom time.Time `json:"running_from"`
	RunningTo   time.Time `json:"running_to"`
	// StoppedBy says what stopped all rings, EndedBy what ended this one before (floor,
	// limit, died); empty for nothing.
	StoppedBy string `json:"stopped_by"`
	EndedBy   string `json:"ended_by,omitempty"`
	// Evidence is the digest of what was beside the capture, where that was asked for;
	// ClockOffset how far the device's clock is ahead of fleetd's, which may be wrong by
	// ClockWithin, and Interfaces what the interface did not take or send meanwhile.
	Evidence    string    `json:"evidence,omitempty"`
	ClockOffset *float64  `json:"clock_offset_seconds,omitempty"`
	ClockWithin *float64  `json:"clock_offset_within_seconds,omitempty"`
	Interfaces  *Counters `json:"interface_counters,omitempty"`
	// Manifest is the SHA-256 of the device's manifest.
	Manifest string `json:"manifest"`
}

// Counters are what an interface counts: packets that it did not take or could not
// send.
type Counters struct {
	ReceiveDropped uint64 `json:"rx_dropped"`
	ReceiveErrors  uint64 `json:"rx_errors"`
	SendDropped    uint64 `json:"tx_dropped"`
	SendErrors     uint64 `json:"tx_errors"`
}

// TLSRow is a session that an analysis found on a device.
type TLSRow struct {
	Device    string `json:"device"`
	Interface string `json:"interface"`
	tlsaudit.Row
}

// XFFRow is a header that an analysis found on a device.
type XFFRow struct {
	Device    string `json:"device"`
	Interface string `json:"interface"`
	xff.Row
}

// InfoRow sums up what passed an interface, over one connection to the device.
type InfoRow struct {
	Device    string `json:"device"`
	Interface string `json:"interface"`
	File      string `json:"file"`
	*info.Summary
	OddPackets uint64 `json:"odd_packets"` // over all oddities
}
