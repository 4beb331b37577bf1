package layers_test

import (
	"testing"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
	"capfleet/internal/pcap/pcaptest"
)

// Whatever a packet holds, what is said of it lies within it.
func FuzzDecode(f *testing.F) {
	for _, p := range pcaptest.Packets() {
		f.Add(p.Link, uint32(len(p.Data)), p.Data)
	}
	f.Fuzz(func(t *testing.T, link, wire uint32, data []byte) {
		var frame layers.Frame
		layers.Decode(pcap.LinkType(link), data, wire, &frame)
		check(t, &frame)
		// Cutting the packet tells less and never something else.
		whole := frame
		for cut := range data {
			layers.Decode(pcap.LinkType(link), data[:cut], max(wire, uint32(len(data))), &frame)
			check(t, &frame)
			if frame.HasTransport && (!whole.HasTransport || frame.Payload != whole.Payload || frame.PayloadLength != whole.PayloadLength || frame.SrcPort != whole.SrcPort) {
				t.Fatalf("cut at %d: %+v, whole %+v", cut, frame, whole)
			}
			if added := frame.Oddity &^ whole.Oddity; added != 0 && whole.Oddity&layers.UndefinedType == 0 && added != layers.UndefinedType {
				t.Fatalf("cut at %d: oddities %b, whole %b", cut, frame.Oddity, whole.Oddity)
			}
		}
	})
}

func check(t *testing.T, f *layers.Frame) {
	t.Helper()
	if f.End > len(f.Data) || f.Network < 0 || f.Network > len(f.Data) || f.Transport > f.End {
		t.Fatalf("%+v", f)
	}
	if f.Version != 0 && (!f.Source().IsValid() || !f.Destination().IsValid()) {
		t.Fatalf("no addresses: %+v", f)
	}
	if f.HasTransport && len(f.PayloadBytes()) > f.PayloadLength {
		t.Fatalf("payload of %d bytes: %+v", len(f.PayloadBytes()), f)
	}
}

func TestDecodeAllocatesNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	var f layers.Frame
	for _, p := range pcaptest.Packets() {
		if n := testing.AllocsPerRun(10, func() { layers.Decode(pcap.LinkType(p.Link), p.Data, uint32(len(p.Data)), &f) }); n != 0 {
			t.Errorf("%s: %.0f allocations", p.Name, n)
		}
	}
}

func TestOddities(t *testing.T) {
	t.Parallel()
	ip := pcaptest.IPv4(17, 0, nil, pcaptest.UDP()...)
	change := func(b []byte, at int, to byte) []byte {
		b = append([]byte(nil), b...)
		b[at] = to
		return b
	}
	eth := pcaptest.Ethernet
	for name, c := range map[string]struct {
		data []byte
		want layers.Oddity
	}{
		"runt":                 {make([]byte, 13), layers.Runt},
		"tag cut off":          {eth(0x8100, 1, 2), layers.Runt},
		"multicast source":     {change(eth(0x0800, ip...), 6, 3), layers.GroupSource},
		"undefined type":       {eth(0x05dd, 1, 2, 3), layers.UndefinedType},
		"description of F5":    {eth(0x05ff, []byte("F5-Pseudo-pkt\x00CMD: x\x00\x00")...), 0},
		"length beyond frame":  {eth(200, 1, 2, 3), layers.BadLength},
		"802.3":                {eth(3, 0x42, 0x42, 3), 0},
		"arp reserved":         {eth(0x0806, pcaptest.ARP(0)...), layers.UnknownARP},
		"arp last known":       {eth(0x0806, pcaptest.ARP(25)...), 0},
		"arp unknown":          {eth(0x0806, pcaptest.ARP(26)...), layers.UnknownARP},
		"arp wrong length":     {eth(0x0806, change(pcaptest.ARP(1), 4, 8)...), layers.BadARP},
		"arp too short":        {eth(0x0806, pcaptest.ARP(1)[:20]...), layers.BadARP},
		"version 6 as 4":       {eth(0x0800, change(ip, 0, 0x65)...), layers.WrongVersion},
		"ip header of 16":      {eth(0x0800, change(ip, 0, 0x44)...), layers.BadIPHeader},
		"ip length below":      {eth(0x0800, change(ip, 3, 19)...), layers.BadIPHeader},
		"ip length beyond":     {eth(0x0800, change(ip, 3, 99)...), layers.BadIPLength},
		"ip too short":         {eth(0x0800, ip[:19]...), layers.BadIPHeader},
		"offloaded ip":         {eth(0x0800, change(ip, 3, 0)...), 0},
		"udp length":           {eth(0x0800, pcaptest.IPv4(17, 0, nil, change(pcaptest.UDP(), 5, 9)...)...), layers.BadTransport},
		"tcp header of 16":     {eth(0x0800, pcaptest.IPv4(6, 0, nil, change(pcaptest.TCP(1, 1, 2, nil), 12, 0x40)...)...), layers.BadTransport},
		"tcp header beyond":    {eth(0x0800, pcaptest.IPv4(6, 0, nil, change(pcaptest.TCP(1, 1, 2, nil), 12, 0x60)...)...), layers.BadTransport},
		"extension beyond end": {eth(0x86dd, pcaptest.IPv6(0, 6, 9, 0, 0, 0, 0, 0, 0)...), layers.BadIPHeader},
	} {
		var f layers.Frame
		layers.Decode(pcap.LinkEthernet, c.data, uint32(len(c.data)), &f)
		if f.Oddity != c.want || f.Cut {
			t.Errorf("%s: oddities %b, want %b; cut %v", name, f.Oddity, c.want, f.Cut)
		}
		// The same, had more been on the wire than was captured: no oddity of size.
		layers.Decode(pcap.LinkEthernet, c.data, 1500, &f)
		if f.Oddity&(layers.Runt|layers.BadLength|layers.BadIPLength) != 0 {
			t.Errorf("%s, cut: oddities %b", name, f.Oddity)
		}
	}
}
