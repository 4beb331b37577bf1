package xff

import (
	"net/netip"
	"time"
)

// Row is a header that names the address as reports give it. Keys are stable.
type Row struct {
	Time    *time.Time `json:"time"`
	SrcIP   netip.Addr `json:"src_ip"`
	SrcPort uint16     `json:"src_port"`
	DstIP   netip.Addr `json:"dst_ip"`
	DstPort uint16     `json:"dst_port"`
	Header  string     `json:"header"`
	File    string     `json:"file"` // where it was captured
	Packet  uint64     `json:"packet"`
}

// Row gives the header's row.
func (h *Hit) Row(file string) Row {
	row := Row{SrcIP: h.Source.Addr(), SrcPort: h.Source.Port(), DstIP: h.Destination.Addr(), DstPort: h.Destination.Port(),
		Header: h.Header, File: file, Packet: h.Packet}
	if h.HasTime {
		row.Time = h.Time.Moment()
	}
	return row
}
