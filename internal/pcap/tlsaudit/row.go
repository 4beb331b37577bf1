package tlsaudit

import (
	"net/netip"
	"time"

	"capfleet/internal/pcap/tlshello"
)

// Row is a session as reports give it. Keys are stable; null is what is not known.
type Row struct {
	Time       *time.Time `json:"time"`
	ClientIP   netip.Addr `json:"client_ip"`
	ClientPort uint16     `json:"client_port"`
	ServerIP   netip.Addr `json:"server_ip"`
	ServerPort uint16     `json:"server_port"`
	Offered    *string    `json:"offered"`
	Negotiated *string    `json:"negotiated"`
	SNI        *string    `json:"sni"`
	Truncated  bool       `json:"truncated"`
	File       string     `json:"file"` // where the session was captured
	Packet     uint64     `json:"packet"`
	Gap        bool       `json:"gap"`
	Retried    bool       `json:"retried"`
	Alert      *string    `json:"alert"`
	AlertBy    *string    `json:"alert_by"` // client or server
	Weak       *bool      `json:"weak"`
}

// Weak judges a session: whether it has a version or an older one. Known is false
// where the capture does not tell.
func (s *Session) Weak(version tlshello.Version) (weak, known bool) {
	v, known := s.Version()
	return known && !v.NewerThan(version), known
}

// Row gives the session's row; weak is the newest version that is weak.
func (s *Session) Row(file string, weak tlshello.Version) Row {
	row := Row{
		ClientIP: s.Client.Addr(), ClientPort: s.Client.Port(), ServerIP: s.Server.Addr(), ServerPort: s.Server.Port(),
		Truncated: s.Truncated, File: file, Packet: s.Packet, Gap: s.Gap, Retried: s.Retried,
	}
	if s.HasTime {
		row.Time = s.Time.Moment()
	}
	if s.HasOffered {
		row.Offered = new(s.Offered.String())
	}
	if s.HasNegotiated {
		row.Negotiated = new(s.Negotiated.String())
	}
	if s.ServerName != "" {
		row.SNI = new(s.ServerName)
	}
	if s.HasAlert {
		row.Alert, row.AlertBy = new(AlertName(s.Alert)), new("client")
		if s.AlertFromServer {
			row.AlertBy = new("server")
		}
	}
	if weak, known := s.Weak(weak); known {
		row.Weak = &weak
	}
	return row
}
