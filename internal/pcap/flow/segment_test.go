package flow_test

import (
	"bytes"
	"io"
	"net/netip"
	"testing"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/flow"
	"capfleet/internal/pcap/layers"
	"capfleet/internal/pcap/pcaptest"
)

// agree holds a glance against package layers.
func agree(t *testing.T, link pcap.LinkType, data []byte, wire uint32) {
	t.Helper()
	var f layers.Frame
	layers.Decode(link, data, wire, &f)
	var s flow.Segment
	ok := flow.Peek(link, data, wire, &s)
	if want := f.HasTransport && f.Protocol == layers.ProtoTCP; ok != want {
		t.Fatalf("link type %d, %x of %d: TCP %v, want %v", link, data, wire, ok, want)
	}
	if !ok {
		return
	}
	if s.Flags != f.Flags || s.Wire != f.PayloadLength || string(s.Payload) != string(f.PayloadBytes()) || s.Seq() != f.Seq || s.Ack() != f.Ack {
		t.Fatalf("link type %d, %x of %d: %+v, want %+v", link, data, wire, s, f)
	}
	var key flow.Key
	up := s.Key(&key)
	src, dst := key.Low(), key.High()
	if !up {
		src, dst = dst, src
	}
	if src != netip.AddrPortFrom(f.Source(), f.SrcPort) || dst != netip.AddrPortFrom(f.Destination(), f.DstPort) {
		t.Fatalf("link type %d, %x: from %v to %v, want %v:%d to %v:%d", link, data, src, dst, f.Source(), f.SrcPort, f.Destination(), f.DstPort)
	}
}

// Every form of packet, cut at every length, with every byte of its headers changed.
func TestPeekAgreesWithLayers(t *testing.T) {
	t.Parallel()
	for _, p := range append(pcaptest.Packets(), tagged()...) {
		link, whole := pcap.LinkType(p.Link), uint32(len(p.Data))
		for cut := range len(p.Data) + 1 {
			agree(t, link, p.Data[:cut], whole)
			agree(t, link, p.Data[:cut], uint32(cut))
		}
		for i := range p.Data {
			for _, b := range []byte{0, 1, 4, 6, 0x11, 0x40, 0x45, 0x4f, 0x50, 0x60, 0x81, 0x88, 0xff} {
				changed := append([]byte(nil), p.Data...)
				changed[i] = b
				agree(t, link, changed, whole)
				agree(t, link, changed[:len(changed)-3], whole)
			}
		}
	}
}

// tagged gives TCP behind tags, which the common packets have not all.
func tagged() []pcaptest.Packet {
	tcp := pcaptest.TCP(1, 2, 0x18, []byte{1, 1, 1, 1}, []byte("hello")...)
	ip4, ip6 := pcaptest.IPv4(6, 0x4000, nil, tcp...), pcaptest.IPv6(6, tcp...)
	return []pcaptest.Packet{
		{Name: "ipv4", Link: 1, Data: pcaptest.Ethernet(0x0800, ip4...)},
		{Name: "vlan", Link: 1, Data: pcaptest.Ethernet(0x8100, pcaptest.VLAN(5, 0x0800, ip4...)...)},
		{Name: "three tags", Link: 1, Data: pcaptest.Ethernet(0x88a8, pcaptest.VLAN(5, 0x8100, pcaptest.VLAN(6, 0x9100, pcaptest.VLAN(7, 0x86dd, ip6...)...)...)...)},
		{Name: "padded", Link: 1, Data: append(pcaptest.Ethernet(0x0800, ip4...), 1, 2, 3, 4)},
	}
}

func TestBothDirectionsAreOneConnection(t *testing.T) {
	t.Parallel()
	one := &pcaptest.Talk{Client: 9, Server: 2, ClientPort: 40000, ServerPort: 443}
	one.Open()
	var keys []flow.Key
	var hashes []uint32
	_, err := pcap.Scan(t.Context(), reader(one.File()), pcap.ReaderOptions{}, analysis(func(p *pcap.Packet) {
		var s flow.Segment
		if !flow.Peek(p.Link, p.Data, p.Length, &s) {
			t.Error("no TCP")
			return
		}
		var key flow.Key
		s.Key(&key)
		keys, hashes = append(keys, key), append(hashes, s.Hash)
	}))
	if err != nil || len(keys) != 3 || keys[0] != keys[1] || hashes[0] != hashes[1] {
		t.Errorf("%v %v %v", keys, hashes, err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := flow.NewWatch()
	var one, other bool
	w.Set(7, &one, true)
	w.Set(7, &one, true)
	w.Set(7, &other, true)
	w.Set(7, &one, false)
	if !w.Has(7) || w.Has(8) || one || !other {
		t.Error("the other one is not in")
	}
	w.Set(7, &other, false)
	if w.Has(7) {
		t.Error("still in")
	}
}

func FuzzPeek(f *testing.F) {
	for _, p := range append(pcaptest.Packets(), tagged()...) {
		f.Add(p.Link, p.Data, uint32(len(p.Data)))
	}
	f.Fuzz(func(t *testing.T, link uint32, data []byte, wire uint32) {
		agree(t, pcap.LinkType(link), data, wire%(1<<20))
	})
}

type analysis func(p *pcap.Packet)

func (a analysis) Packet(p *pcap.Packet) { a(p) }

func reader(b []byte) io.Reader { return bytes.NewReader(b) }
