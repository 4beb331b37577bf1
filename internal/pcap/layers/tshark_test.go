package layers_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
	"capfleet/internal/pcap/pcaptest"
)

// fields are what tshark is asked for, and how we have it.
var fields = []struct {
	name string
	ours func(f *layers.Frame) string
}{
	{"ip.src", func(f *layers.Frame) string { return address(f, 4, f.Source()) }},
	{"ip.dst", func(f *layers.Frame) string { return address(f, 4, f.Destination()) }},
	{"ipv6.src", func(f *layers.Frame) string { return address(f, 6, f.Source()) }},
	{"ipv6.dst", func(f *layers.Frame) string { return address(f, 6, f.Destination()) }},
	{"ip.ttl", func(f *layers.Frame) string { return when(f.Version == 4, f.TTL) }},
	{"ipv6.hlim", func(f *layers.Frame) string { return when(f.Version == 6, f.TTL) }},
	{"ip.frag_offset", func(f *layers.Frame) string { return when(f.Version == 4, f.FragmentOffset/8) }}, // it has units of 8 bytes
	{"ip.flags.mf", func(f *layers.Frame) string { return when(f.Version == 4, bit(f.MoreFragments)) }},
	{"ip.flags.df", func(f *layers.Frame) string { return when(f.Version == 4, bit(f.DontFragment)) }},
	{"ipv6.fraghdr.ident", func(f *layers.Frame) string { return when(f.Version == 6 && f.ID != 0, fmt.Sprintf("0x%08x", f.ID)) }},
	{"ieee8021ad.id", func(f *layers.Frame) string { return tags(f, true) }},
	{"vlan.id", func(f *layers.Frame) string { return tags(f, false) }},
	{"arp.opcode", func(f *layers.Frame) string { return when(f.ARP.Present, f.ARP.Operation) }},
	{"arp.src.proto_ipv4", func(f *layers.Frame) string { return when(f.ARP.Present, f.ARP.SenderAddr) }},
	{"tcp.srcport", func(f *layers.Frame) string { return when(is(f, layers.ProtoTCP), f.SrcPort) }},
	{"tcp.dstport", func(f *layers.Frame) string { return when(is(f, layers.ProtoTCP), f.DstPort) }},
	{"tcp.seq_raw", func(f *layers.Frame) string { return when(is(f, layers.ProtoTCP), f.Seq) }},
	{"tcp.ack_raw", func(f *layers.Frame) string { return when(is(f, layers.ProtoTCP), f.Ack) }},
	{"tcp.flags", func(f *layers.Frame) string { return when(is(f, layers.ProtoTCP), fmt.Sprintf("0x%04x", f.Flags)) }},
	{"tcp.len", func(f *layers.Frame) string { return when(is(f, layers.ProtoTCP), f.PayloadLength) }},
	{"tcp.payload", func(f *layers.Frame) string { return when(is(f, layers.ProtoTCP), fmt.Sprintf("%x", f.PayloadBytes())) }},
	{"udp.srcport", func(f *layers.Frame) string { return when(is(f, layers.ProtoUDP), f.SrcPort) }},
	{"udp.dstport", func(f *layers.Frame) string { return when(is(f, layers.ProtoUDP), f.DstPort) }},
}

// tags gives the identifiers of the service tags, of which there is one at most
// and outermost, or of the others: tshark has fields of different names for them.
func tags(f *layers.Frame, service bool) string {
	all := f.VLAN[:min(f.Tags, layers.MaxTags)]
	outer := 0
	if f.Ethernet && f.Data[12] == layers.EtherQinQ>>8 {
		outer = 1
	}
	if service {
		all = all[:outer]
	} else {
		all = all[outer:]
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ","), "[]")
}

func is(f *layers.Frame, protocol uint8) bool { return f.HasTransport && f.Protocol == protocol }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func when(there bool, v any) string {
	if !there {
		return ""
	}
	return fmt.Sprint(v)
}

func address(f *layers.Frame, version uint8, a netip.Addr) string {
	return when(f.Version == version, a)
}

func TestDecodeAgreesWithTshark(t *testing.T) {
	t.Parallel()
	n := pcaptest.NG{}
	file := n.Section()
	packets := pcaptest.Packets()
	for _, p := range packets {
		file = append(file, n.Interface(uint16(p.Link), 0)...)
	}
	for i, p := range packets {
		file = append(file, n.Enhanced(uint32(i), uint64(i), uint32(len(p.Data)), p.Data)...)
	}
	path := filepath.Join(t.TempDir(), "packets.pcapng")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-n", "-r", path, "-T", "fields", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"}
	for _, f := range fields {
		args = append(args, "-e", f.name)
	}
	var stderr bytes.Buffer
	cmd := exec.Command("tshark", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, &stderr)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(packets) {
		t.Fatalf("tshark gave %d lines for %d packets", len(lines), len(packets))
	}
	var f layers.Frame
	for i, p := range packets {
		layers.Decode(pcap.LinkType(p.Link), p.Data, uint32(len(p.Data)), &f)
		for col, want := range strings.Split(lines[i], "\t") {
			if got := fields[col].ours(&f); got != want {
				t.Errorf("%s: %s: we have %q, tshark %q", p.Name, fields[col].name, got, want)
			}
		}
		if f.Cut {
			t.Errorf("%s: taken for cut", p.Name)
		}
		want := layers.Oddity(0)
		if p.Name == "arp unknown" {
			want = layers.UnknownARP
		}
		if f.Oddity != want {
			t.Errorf("%s: oddities %b, want %b", p.Name, f.Oddity, want)
		}
	}
}
