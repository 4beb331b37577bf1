package f5

import (
	"cmp"
	"fmt"
	"slices"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// Summary is what a capture of a BIG-IP shows of the box.
type Summary struct {
	FileInfo *FileInfo `json:"file_info"`
	// Packets are traffic; Trailers of them have a trailer, Legacy of those one of TMOS
	// before 14.
	Packets  uint64 `json:"packets"`
	Trailers uint64 `json:"trailers"`
	Legacy   uint64 `json:"legacy_trailers"`
	// Cut packets were captured in part, so that their trailer is not there.
	Cut uint64 `json:"cut_packets"`
	// TrailerBytes are part of the captured bytes and were never on the wire.
	TrailerBytes uint64 `json:"trailer_bytes"`
	// Noise is the highest noise level seen, 0 to 3.
	Noise int `json:"noise"`
	// Secrets is set where a trailer holds TLS secrets: the file is key material.
	Secrets        bool    `json:"tls_secrets"`
	TMMs           []Share `json:"tmms"`
	VirtualServers []Share `json:"virtual_servers"`
	Ports          []Share `json:"ports"`
	ResetCauses    []Share `json:"reset_causes"`
}

// Share is how many packets something had, of those with a trailer.
type Share struct {
	Name    string  `json:"name"` // a TMM is slot/tmm: the slot from 1, the TMM from 0
	Packets uint64  `json:"packets"`
	Percent float64 `json:"percent"`
}

// Counter sums a capture up. It is not safe for concurrent use.
type Counter struct {
	summary                     Summary
	tmms, servers, ports, cause map[string]uint64
	frame                       layers.Frame
	// Trailer is called for each trailer, where it is set, with the frame it is of.
	Trailer func(p *pcap.Packet, f *layers.Frame, t *Trailer) error
}

// maxNames bounds what is counted by name.
const maxNames = 1 << 16

// NewCounter gives an empty one.
func NewCounter() *Counter {
	return &Counter{tmms: map[string]uint64{}, servers: map[string]uint64{}, ports: map[string]uint64{}, cause: map[string]uint64{}}
}

// Packet counts a packet. Its error is that of Trailer.
func (c *Counter) Packet(p *pcap.Packet) error {
	if p.Link == pcap.LinkEthernet {
		if info, ok := ReadFileInfo(p.Data); ok {
			if c.summary.FileInfo == nil {
				c.summary.FileInfo = &info
			}
			return nil
		}
	}
	c.summary.Packets++
	if uint64(p.Length) > uint64(len(p.Data)) {
		c.summary.Cut++
		return nil
	}
	layers.Decode(p.Link, p.Data, p.Length, &c.frame)
	t, ok := Find(&c.frame, p.Length)
	if !ok {
		return nil
	}
	c.count(t)
	if c.Trailer != nil {
		return c.Trailer(p, &c.frame, t)
	}
	return nil
}

func (c *Counter) count(t *Trailer) {
	s := &c.summary
	s.Trailers++
	s.TrailerBytes += uint64(t.Size) //nolint:gosec // within the frame
	if t.Legacy {
		s.Legacy++
	}
	s.Secrets = s.Secrets || len(t.TLS) > 0
	s.Noise = max(s.Noise, t.Noise)
	if t.Low != nil {
		tally(c.tmms, fmt.Sprintf("%d/%d", t.Low.Slot, t.Low.TMM))
		tally(c.servers, t.Low.VirtualServer)
		tally(c.ports, t.Low.Port)
	}
	if t.Medium != nil {
		tally(c.cause, t.Medium.Cause)
	}
}

func tally(counts map[string]uint64, name string) {
	if _, known := counts[name]; name != "" && (known || len(counts) < maxNames) {
		counts[name]++
	}
}

// Summary gives what was counted so far.
func (c *Counter) Summary() Summary {
	s := c.summary
	s.TMMs, s.VirtualServers = shares(c.tmms, s.Trailers), shares(c.servers, s.Trailers)
	s.Ports, s.ResetCauses = shares(c.ports, s.Trailers), shares(c.cause, s.Trailers)
	return s
}

// shares sorts by packets, then by name.
func shares(counts map[string]uint64, of uint64) []Share {
	out := make([]Share, 0, len(counts))
	for name, n := range counts {
		out = append(out, Share{Name: name, Packets: n, Percent: 100 * float64(n) / float64(of)})
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Name, b.Name))
	})
	return out
}
