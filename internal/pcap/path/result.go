package path

import "time"

// Direction is along the path: away from the client or back to it.
type Direction string

// The directions.
const (
	Forward Direction = "forward"
	Reverse Direction = "reverse"
)

// Result is what the captures show.
type Result struct {
	Verdict Verdict     `json:"verdict"`
	Hops    []HopResult `json:"hops"` // in order of the path
	Links   []Link      `json:"links"`
	// Lost lists packets that were lost, the first of them; each Link counts all.
	Lost []LostPacket `json:"lost"`
	// Mappings are translations that were found; those that were given are not in it.
	Mappings []Mapping `json:"mappings"`
	// Conversations are pairs of addresses and ports, over all places.
	Conversations int    `json:"conversations"`
	Ladder        string `json:"ladder,omitempty"`
}

// Status is the kind of a verdict.
type Status string

// The verdicts.
const (
	// Lost: packets that one place saw did not come to the next.
	Lost Status = "lost"
	// Complete: every packet that must have been seen was.
	Complete Status = "complete"
	// Unanswered: requests came to the last place, and nothing came from behind it.
	Unanswered Status = "unanswered"
	// Refused: connections were reset.
	Refused Status = "refused"
	// Inconclusive: packets are missing, and what is known of the captures could explain
	// it.
	Inconclusive Status = "inconclusive"
	// Nothing: no packet of a conversation is in any capture.
	Nothing Status = "nothing"
)

// Verdict is the answer.
type Verdict struct {
	Status    Status    `json:"status"`
	Sentence  string    `json:"sentence"`
	Direction Direction `json:"direction,omitempty"`
	// Last is the last place that saw what was lost, Missing the first that did not.
	Last    string `json:"last_hop,omitempty"`
	Missing string `json:"missing_hop,omitempty"`
	Packets uint64 `json:"lost_packets"`
	// Notes are what one should know about it.
	Notes []string `json:"notes"`
}

// HopResult is one place.
type HopResult struct {
	Name    string     `json:"name"`
	Packets uint64     `json:"packets"`
	First   *time.Time `json:"first_time"` // by its own clock
	LastAt  *time.Time `json:"last_time"`
	// Offset is how far its clock is ahead of the first place's, in seconds; null where
	// nothing tells. OneWay says that only one direction told, so that it contains the
	// time of the way.
	Offset *float64 `json:"offset_seconds"`
	OneWay bool     `json:"offset_one_way"`
	// Drift is how much faster its clock runs than the first place's, in millionths. The
	// offset is that in the middle of the first place's capture.
	Drift float64 `json:"drift_ppm"`
	// Drops is how many packets its capture lost, null where nobody knows.
	Drops *uint64 `json:"drops"`
	Other uint64  `json:"other_packets"` // not IP
	Cut   uint64  `json:"cut_packets"`   // within the headers
	ARP   []ARP   `json:"arp"`
	Error string  `json:"error,omitempty"`
}

// Link is what happened between two places in one direction.
type Link struct {
	From      string    `json:"from"`
	To        string    `json:"to"`
	Direction Direction `json:"direction"`
	Sent      uint64    `json:"sent"` // seen at From
	Seen      uint64    `json:"seen"` // of them at To
	Lost      uint64    `json:"lost"`
	// Outside were not seen, but the capture at To did not run when they must have come.
	Outside uint64 `json:"outside"`
	// Appeared are at To and not at From: made between, or missed by the capture there.
	Appeared uint64 `json:"appeared"`
	// Recut are seen in packets of other sizes.
	Recut      uint64 `json:"recut"`
	Reordered  uint64 `json:"reordered"`
	Duplicated uint64 `json:"duplicated"` // came more often than they were sent
	// Delays in seconds, null where the clocks cannot be compared.
	Delay *Delay `json:"delay_seconds"`
}

// Delay is the time from one place to the next.
type Delay struct {
	Min    float64 `json:"min"`
	Median float64 `json:"p50"`
	P95    float64 `json:"p95"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

// LostPacket is a packet that did not come to the next place.
type LostPacket struct {
	Time        time.Time `json:"time"` // at the place that saw it, by its clock
	Source      string    `json:"source"`
	Destination string    `json:"destination"`
	Protocol    string    `json:"protocol"`
	Flags       string    `json:"flags,omitempty"`
	Bytes       uint32    `json:"bytes"` // carried
	Last        string    `json:"last_hop"`
	Missing     string    `json:"missing_hop"`
	Direction   Direction `json:"direction"`
}
