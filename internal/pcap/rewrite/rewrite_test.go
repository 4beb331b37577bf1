package rewrite_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/pcaptest"
	"capfleet/internal/pcap/rewrite"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// packets is a corpus with right checksums: every form of header that is looked
// into, and ICMP errors that quote.
func packets(t *testing.T) [][]byte {
	t.Helper()
	w, err := rewrite.New(rewrite.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	repaired := func(data []byte) []byte {
		p := pcap.Packet{Link: pcap.LinkEthernet, Data: data, Length: uint32(len(data))}
		w.Packet(&p)
		return slices.Clone(p.Data)
	}
	tcp := pcaptest.TCP(1000, 2000, 0x18, []byte{1, 1, 1, 1}, []byte("hello!")...)
	udp := pcaptest.UDP([]byte("odd")...)
	udp[7] = 1 // it has a checksum, which is wrong
	udp4 := repaired(pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, udp...)...))
	tcp6 := repaired(pcaptest.Ethernet(0x86dd, pcaptest.IPv6(6, tcp...)...))
	icmp := append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, udp4[14:]...)
	icmp6 := append([]byte{1, 4, 0, 0, 0, 0, 0, 0}, tcp6[14:]...)
	all := [][]byte{udp4, tcp6,
		repaired(pcaptest.Ethernet(0x0800, pcaptest.IPv4(1, 0, nil, icmp...)...)),
		repaired(pcaptest.Ethernet(0x86dd, pcaptest.IPv6(58, icmp6...)...)),
		repaired(pcaptest.Ethernet(0x0800, pcaptest.IPv4(6, 0, []byte{7, 7, 4, 0, 0, 0, 0, 0}, tcp...)...)),
	}
	for _, p := range pcaptest.Packets() {
		if p.Link == 1 {
			all = append(all, repaired(p.Data))
		}
	}
	// What cannot be made anew: checksums of fragments, and behind a routing header.
	bad := strings.Fields(wrong(t, save(t, "corpus.pcap", all)))
	if len(bad) != 2 {
		t.Fatalf("packets %v of the corpus are wrong", bad)
	}
	for _, n := range slices.Backward(bad) {
		i, err := strconv.Atoi(n)
		if err != nil {
			t.Fatal(err)
		}
		all = slices.Delete(all, i-1, i)
	}
	return all
}

func save(t *testing.T, name string, all [][]byte) string {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 0, pcap.Microseconds)
	for i, data := range all {
		err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Time: pcap.Timestamp{Sec: int64(i)}, Data: data, Length: uint32(len(data))}))
	}
	name = filepath.Join(t.TempDir(), name)
	if err := errors.Join(err, w.Flush(), os.WriteFile(name, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return name
}

func load(t *testing.T, name string) (all [][]byte) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := pcap.NewReader(f, pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		var p pcap.Packet
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, slices.Clone(p.Data))
	}
}

func rewritten(t *testing.T, rules rewrite.Rules, all [][]byte) (out [][]byte, result rewrite.Result) {
	t.Helper()
	w, err := rewrite.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range all {
		p := pcap.Packet{Link: pcap.LinkEthernet, Data: data, Length: uint32(len(data))}
		w.Packet(&p)
		if int(p.Length) != len(p.Data) {
			t.Fatalf("%d bytes on the wire, %d captured", p.Length, len(p.Data))
		}
		out = append(out, slices.Clone(p.Data))
	}
	return out, w.Result()
}

// wrong asks tshark for the numbers of the packets whose checksums it finds wrong.
func wrong(t *testing.T, file string) string {
	t.Helper()
	args := []string{"-r", file}
	for _, protocol := range []string{"ip", "tcp", "udp"} {
		args = append(args, "-o", protocol+".check_checksum:TRUE")
	}
	args = append(args, "-Y", "ip.checksum.status==0||tcp.checksum.status==0||udp.checksum.status==0||icmp.checksum.status==0||icmpv6.checksum.status==0", "-T", "fields", "-e", "frame.number")
	out, err := exec.CommandContext(t.Context(), "tshark", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

var corpusRules = map[string]rewrite.Rules{
	"nothing": {},
	"addresses": {Addresses: []rewrite.AddressRule{{From: prefix("10.0.0.0/24"), To: prefix("10.9.0.0/24")}, {From: prefix("2001:db8::/32"), To: prefix("fd00:1::/32")},
		{From: prefix("0.0.0.0/0"), To: prefix("0.0.0.0/0")}}},
	"source":      {Addresses: []rewrite.AddressRule{{Side: rewrite.Source, From: prefix("0.0.0.0/8"), To: prefix("44.0.0.0/8")}, {Side: rewrite.Source, From: prefix("::/1"), To: prefix("8000::/1")}}},
	"ports":       {Ports: []rewrite.PortRule{{From: 40000, To: 7}, {From: 4000, To: 5353}, {Side: rewrite.Destination, From: 443, To: 8443}, {Side: rewrite.Source, From: 4739, To: 1}}},
	"strip":       {StripVLAN: true},
	"set":         {SetVLAN: ptr(uint16(77))},
	"macs":        {MACs: []rewrite.MACRule{{Side: rewrite.Source, To: [6]byte{2, 9, 9, 9, 9, 9}}, {Side: rewrite.Destination, To: [6]byte{2, 8, 8, 8, 8, 8}}}},
	"all at once": {SetVLAN: ptr(uint16(1)), Addresses: []rewrite.AddressRule{{From: prefix("0.0.0.0/1"), To: prefix("128.0.0.0/1")}, {From: prefix("128.0.0.0/1"), To: prefix("0.0.0.0/1")}}, Ports: []rewrite.PortRule{{From: 4739, To: 54}, {From: 443, To: 1}}},
}

func ptr[T any](v T) *T { return &v }

// After any rules tshark finds no wrong checksum, and a second look finds nothing to
// repair.
func TestChecksumsAreRight(t *testing.T) {
	t.Parallel()
	all := packets(t)
	for name, rules := range corpusRules {
		out, _ := rewritten(t, rules, all)
		if bad := wrong(t, save(t, "out.pcap", out)); bad != "" {
			t.Errorf("%s: wrong after it:\n%s", name, bad)
		}
		if _, again := rewritten(t, rewrite.Rules{}, out); again.Repaired != 0 || again.Changed != 0 {
			t.Errorf("%s: a second look finds %+v", name, again)
		}
	}
	spoilt := slices.Clone(all[0])
	spoilt[len(spoilt)-1] ^= 1
	if bad := wrong(t, save(t, "bad.pcap", [][]byte{spoilt})); bad == "" {
		t.Fatal("tshark finds nothing wrong with a packet that is")
	}
	if out, r := rewritten(t, rewrite.Rules{}, [][]byte{spoilt}); r.Repaired != 1 || wrong(t, save(t, "good.pcap", out)) != "" {
		t.Errorf("not repaired: %+v", r)
	}
}

// tcprewrite makes the same of the packets that both know.
func TestAsTcprewrite(t *testing.T) {
	t.Parallel()
	all := slices.DeleteFunc(packets(t), func(b []byte) bool {
		kind := binary.BigEndian.Uint16(b[12:])
		icmp := kind == 0x0800 && b[23] == 1 || kind == 0x86dd && b[20] == 58
		return icmp // it leaves quoted packets as they were
	})
	in := save(t, "in.pcap", all)
	for name, c := range map[string]struct {
		rules rewrite.Rules
		args  []string
		only  func([]byte) bool
	}{
		"pnat": {rewrite.Rules{Addresses: []rewrite.AddressRule{{From: prefix("0.0.0.0/1"), To: prefix("128.0.0.0/1")}, {From: prefix("128.0.0.0/1"), To: prefix("0.0.0.0/1")}}},
			[]string{"--pnat=0.0.0.0/1:128.0.0.0/1,128.0.0.0/1:0.0.0.0/1"}, ipv4},
		"srcipmap": {rewrite.Rules{Addresses: []rewrite.AddressRule{{Side: rewrite.Source, From: prefix("0.0.0.0/1"), To: prefix("128.0.0.0/1")}, {Side: rewrite.Source, From: prefix("128.0.0.0/1"), To: prefix("0.0.0.0/1")}}},
			[]string{"--srcipmap=0.0.0.0/1:128.0.0.0/1,128.0.0.0/1:0.0.0.0/1", "--fixcsum"}, ipv4},
		"macs":  {corpusRules["macs"], []string{"--enet-smac=02:09:09:09:09:09", "--enet-dmac=02:08:08:08:08:08"}, ipv4},
		"ports": {rewrite.Rules{Ports: []rewrite.PortRule{{From: 40000, To: 7}, {From: 4000, To: 5353}, {From: 443, To: 8080}}}, []string{"--portmap=40000:7,4000:5353,443:8080", "--fixcsum"}, ipv4},
		"strip": {rewrite.Rules{StripVLAN: true}, []string{"--enet-vlan=del"}, func(b []byte) bool { return binary.BigEndian.Uint16(b[12:]) == 0x8100 }},
	} {
		theirs := filepath.Join(t.TempDir(), "theirs.pcap")
		cmd := exec.CommandContext(t.Context(), "tcprewrite", append([]string{"--infile=" + in, "--outfile=" + theirs}, c.args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		want := load(t, theirs)
		got, _ := rewritten(t, c.rules, all)
		compared := 0
		for i := range got {
			if c.only != nil && !c.only(all[i]) {
				continue
			}
			compared++
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("%s, packet %d:\nfrom %x\nours %x\nits  %x", name, i+1, all[i], got[i], want[i])
			}
		}
		if compared == 0 {
			t.Errorf("%s: nothing was compared", name)
		}
	}
}

// ipv4: whole IPv4 packets without tags. Of the others it leaves some, gives IPv6 a
// multicast MAC address whatever it is told, and counts padding as part of a packet.
func ipv4(b []byte) bool {
	return binary.BigEndian.Uint16(b[12:]) == 0x0800 && binary.BigEndian.Uint16(b[20:])&0x3fff == 0 && int(binary.BigEndian.Uint16(b[16:])) == len(b)-14
}

// Cut anywhere, a packet whose checksums were right keeps them right: what was
// captured of the rewritten packet is the beginning of the rewritten whole.
func TestCutPackets(t *testing.T) {
	t.Parallel()
	all := packets(t)
	rules := corpusRules["all at once"]
	rules.SetVLAN = nil
	out, _ := rewritten(t, rules, all)
	w, err := rewrite.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range all {
		for cut := range data {
			p := pcap.Packet{Link: pcap.LinkEthernet, Data: data[:cut], Length: uint32(len(data))}
			w.Packet(&p)
			// A header that is not whole is not looked into, and so not changed.
			if !bytes.Equal(p.Data, out[i][:cut]) && !bytes.Equal(p.Data, data[:cut]) && !partly(p.Data, out[i], data) {
				t.Fatalf("packet %d cut at %d:\nfrom %x\ngot  %x\nwant %x", i+1, cut, data[:cut], p.Data, out[i][:cut])
			}
		}
	}
}

// partly: the outer packet is as in the rewritten whole and the quoted one, of which
// the header was cut, as it was.
func partly(got, now, before []byte) bool {
	for i := range got {
		if got[i] != now[i] && got[i] != before[i] && i != 24 && i != 25 && (i < 36 || i > 57) {
			return false
		}
	}
	return true
}

// Mapping there and back gives the packet that was.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	all := packets(t)
	rapid.Check(t, func(rt *rapid.T) {
		bits := rapid.IntRange(1, 32).Draw(rt, "bits")
		a := netip.PrefixFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(rt, "a"))), bits).Masked()
		b := netip.PrefixFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(rt, "b"))), bits).Masked()
		swap := rewrite.Rules{Addresses: []rewrite.AddressRule{{From: a, To: b}, {From: b, To: a}}}
		there, _ := rewritten(t, swap, all)
		back, _ := rewritten(t, swap, there)
		for i := range all {
			if !bytes.Equal(back[i], all[i]) {
				rt.Fatalf("%v and %v, packet %d:\nwas %x\nis  %x", a, b, i+1, all[i], back[i])
			}
		}
	})
}

func TestRulesThatCannotBe(t *testing.T) {
	t.Parallel()
	for want, rules := range map[string]rewrite.Rules{
		"different IP versions": {Addresses: []rewrite.AddressRule{{From: prefix("10.0.0.0/8"), To: prefix("fd00::/8")}}},
		"different length":      {Addresses: []rewrite.AddressRule{{From: prefix("10.0.0.0/8"), To: prefix("11.0.0.0/9")}}},
		"no prefix":             {Addresses: []rewrite.AddressRule{{From: prefix("10.0.0.0/8")}}},
		"VLAN 4095":             {SetVLAN: ptr(uint16(4095))},
		"at once":               {SetVLAN: ptr(uint16(1)), StripVLAN: true},
		"say source":            {MACs: []rewrite.MACRule{{To: [6]byte{1}}}},
	} {
		if _, err := rewrite.New(rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestParseRules(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "10.0.0.1", "10.0.0.1=x", "x=10.0.0.1", "10.0.0.0/8=10.0.0.0/9", "10.0.0.1=::1", "10.0.0.1/8=11.0.0.0/8", "fe80::1%eth0=::1"} {
		if r, err := rewrite.ParseAddressRule(rewrite.Both, bad); err == nil {
			t.Errorf("%q was read as %v", bad, r)
		}
	}
	for _, bad := range []string{"", "80", "80=", "80=65536", "-1=5", "80=http"} {
		if r, err := rewrite.ParsePortRule(rewrite.Both, bad); err == nil {
			t.Errorf("%q was read as %v", bad, r)
		}
	}
	for _, bad := range []string{"", "02:00:00:00:00:01", "02:00:00:00:00:01=1", "02:00:00:00:00:00:00:01=02:00:00:00:00:01"} {
		if r, err := rewrite.ParseMACRule(rewrite.Both, bad); err == nil {
			t.Errorf("%q was read as %v", bad, r)
		}
	}
	a, err := rewrite.ParseAddressRule(rewrite.Source, "10.1.0.0/16=10.2.0.0/16")
	if err != nil || a.From != prefix("10.1.0.0/16") || a.To != prefix("10.2.0.0/16") || a.Side != rewrite.Source {
		t.Errorf("%v, %v", a, err)
	}
	m, err := rewrite.ParseMACRule(rewrite.Source, "02:00:00:00:00:01")
	if err != nil || m.From != nil || m.To != [6]byte{2, 0, 0, 0, 0, 1} {
		t.Errorf("%v, %v", m, err)
	}
}

// Whatever the packet, nothing outside of it is touched and its length agrees.
func FuzzPacket(f *testing.F) {
	for _, p := range pcaptest.Packets() {
		f.Add(p.Link, uint32(len(p.Data)), p.Data)
	}
	f.Fuzz(func(t *testing.T, link, wire uint32, data []byte) {
		rules := corpusRules["all at once"]
		rules.SetVLAN = nil
		w, err := rewrite.New(rules)
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(data)
		p := pcap.Packet{Link: pcap.LinkType(link), Data: data, Length: wire}
		w.Packet(&p)
		if !bytes.Equal(before, data) || len(p.Data) != len(data) || p.Length != wire {
			t.Fatal(fmt.Sprint("the packet given was changed, or its length: ", len(p.Data), len(data)))
		}
	})
}
