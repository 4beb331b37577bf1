package info

import (
	"fmt"
	"time"

	"capfleet/internal/pcap"
)

// summary works the figures out.
func (t *tally) summary(r *pcap.Reader) *Summary {
	blocks := r.Blocks()
	s := &Summary{
		Format: r.Format(), Compressed: r.Compressed(), Encapsulation: t.encapsulation(r),
		Packets: t.count, DataBytes: t.wire, CapturedBytes: t.captured,
		PacketsWithoutTime: t.untimed, CutPackets: t.cut, PacketComments: t.comments,
		NameResolutionBlocks: blocks.NameResolution, SecretsBlocks: blocks.Secrets,
		CustomBlocks: blocks.Custom, OtherBlocks: blocks.Other,
		Interfaces: t.interfaces(r), Sections: sections(r), Oddities: []Oddity{},
	}
	if t.count > 0 {
		s.SmallestPacket, s.LargestPacket = &t.smallest, &t.largest
		s.AveragePacketBytes = ratio(t.wire, float64(t.count))
	}
	if t.cut > 0 {
		s.SmallestCut, s.LargestCut = &t.smallestCut, &t.largestCut
	}
	t.rates(s)
	for _, o := range t.oddities {
		if o.Packets > 0 {
			s.Oddities = append(s.Oddities, o)
		}
	}
	return s
}

// rates works out what depends on times. Rates need the time of every packet.
func (t *tally) rates(s *Summary) {
	if t.disorder || t.untimed == 0 {
		ordered := !t.disorder
		s.StrictOrder = &ordered
	}
	if !t.timed {
		return
	}
	duration := t.last.Since(t.first)
	s.First, s.Last, s.Duration = moment(t.first), moment(t.last), &duration
	if duration > 0 && t.untimed == 0 {
		s.BytesPerSecond = ratio(t.wire, duration)
		s.BitsPerSecond = ratio(t.wire*8, duration)
		s.PacketsPerSecond = ratio(t.count, duration)
	}
}

// moment gives a timestamp as a time; nil for years that RFC 3339 cannot write.
func moment(t pcap.Timestamp) *time.Time {
	at := t.Time()
	if year := at.Year(); t.Sec < -1<<40 || t.Sec > 1<<40 || year < 0 || year > 9999 {
		return nil
	}
	return &at
}

func ratio(n uint64, by float64) *float64 {
	r := float64(n) / by
	return &r
}

// encapsulation is the link type of the packets; without any, of the interfaces.
func (t *tally) encapsulation(r *pcap.Reader) string {
	link, mixed := t.link, t.mixed
	if t.count == 0 {
		for i, in := range r.Interfaces() {
			mixed = mixed || i > 0 && in.Link != link
			link = in.Link
		}
		if len(r.Interfaces()) == 0 {
			return ""
		}
	}
	if mixed {
		return "mixed"
	}
	return link.String()
}

func (t *tally) interfaces(r *pcap.Reader) []Interface {
	out := []Interface{}
	for n, in := range r.Interfaces() {
		i := Interface{
			Name: in.Name, Description: in.Description, Filter: in.Filter, OS: in.OS, Hardware: in.Hardware,
			Encapsulation: in.Link.String(), LinkType: uint32(in.Link), SnapLength: in.SnapLen,
			TicksPerSecond: in.TicksPerSecond, OffsetSeconds: in.OffsetSeconds, Statistics: in.Statistics,
			Comments: orEmpty(in.Comments),
		}
		if n < len(t.perInterface) {
			i.Packets = t.perInterface[n]
		}
		if in.HasReceived {
			i.Received = &in.Received
		}
		if in.HasDropped {
			i.Dropped = &in.Dropped
		}
		out = append(out, i)
	}
	return out
}

func sections(r *pcap.Reader) []Section {
	out := []Section{}
	for _, s := range r.Sections() {
		out = append(out, Section{
			BigEndian: s.BigEndian, Version: fmt.Sprintf("%d.%d", s.Major, s.Minor),
			Hardware: s.Hardware, OS: s.OS, Application: s.Application, Comments: orEmpty(s.Comments),
		})
	}
	return out
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
