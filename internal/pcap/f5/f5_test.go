package f5_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/f5"
	"capfleet/internal/pcap/layers"
	"capfleet/internal/pcap/pcaptest"
)

const sample = "testdata/trailers.pcap"

func each(t *testing.T, name string, fn func(*pcap.Packet)) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcap.NewReader(bytes.NewReader(b), pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		var p pcap.Packet
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		fn(&p)
	}
}

func find(data []byte) (*f5.Trailer, bool) {
	var f layers.Frame
	layers.Decode(pcap.LinkEthernet, data, uint32(len(data)), &f)
	return f5.Find(&f, uint32(len(data)))
}

func save(t *testing.T, frames ...[]byte) string {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 0, pcap.Microseconds)
	for i, data := range frames {
		err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Time: pcap.Timestamp{Sec: int64(i)}, Data: data, Length: uint32(len(data))}))
	}
	name := filepath.Join(t.TempDir(), "f5.pcap")
	if err := errors.Join(err, w.Flush(), os.WriteFile(name, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return name
}

// fields gives a line for each frame with a trailer, as tshark's fields below.
func ours(data []byte) string {
	t, ok := find(data)
	if !ok {
		return strings.Repeat("\t", len(tsharkFields)-1)
	}
	var l f5.Low
	var m f5.Medium
	columns := make([]string, len(tsharkFields))
	if t.Low != nil {
		l = *t.Low
		columns[0], columns[1], columns[2], columns[3], columns[4] = fmt.Sprint(l.Slot), fmt.Sprint(l.TMM), l.VirtualServer, l.Port, l.Trunk
	}
	if t.Medium != nil {
		m = *t.Medium
		if m.Flow != 0 || !t.Legacy {
			columns[5], columns[6] = fmt.Sprintf("0x%016x", m.Flow), fmt.Sprintf("0x%016x", m.Peer)
		}
		columns[7], columns[8] = fmt.Sprint(m.HAUnit), m.Cause
		columns[7] = fmt.Sprintf("0x%02x", m.HAUnit)
	}
	if t.High != nil {
		columns[9], columns[10], columns[11], columns[12] = fmt.Sprint(t.High.Protocol), fmt.Sprint(t.High.VLAN), fmt.Sprint(t.High.Remote.Port()), fmt.Sprint(t.High.Local.Port())
		if t.High.Remote.Addr().Is4() {
			columns[13] = t.High.Remote.Addr().String()
		}
	}
	return strings.Join(columns, "\t")
}

var tsharkFields = []string{"f5ethtrailer.slot", "f5ethtrailer.tmm", "f5ethtrailer.vip", "f5ethtrailer.phys_port", "f5ethtrailer.trunk", "f5ethtrailer.flowid", "f5ethtrailer.peerid",
	"f5ethtrailer.haunit", "f5ethtrailer.rstcausetxt", "f5ethtrailer.peeripproto", "f5ethtrailer.peervlan", "f5ethtrailer.peerremoteport", "f5ethtrailer.peerlocalport", "f5ethtrailer.peerremoteaddr"}

func tshark(t *testing.T, file string, fields []string) []string {
	t.Helper()
	args := []string{"-r", file, "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.CommandContext(t.Context(), "tshark", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

func compare(t *testing.T, file string) {
	t.Helper()
	var got []string
	each(t, file, func(p *pcap.Packet) { got = append(got, ours(p.Data)) })
	if diff := cmp.Diff(tshark(t, file, tsharkFields), got); diff != "" {
		t.Errorf("(-tshark +ours):\n%s", diff)
	}
}

func TestSampleAsTshark(t *testing.T) {
	t.Parallel()
	compare(t, sample)
}

// part gives a part of a new trailer, trailer the whole.
func part(provider, kind, version uint16, body ...byte) []byte {
	var b []byte
	for _, v := range []uint16{provider, kind, uint16(8 + len(body)), version} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, body...)
}

func trailer(parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	b := binary.BigEndian.AppendUint32(nil, 0xf5deb0f5)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(body)))
	return append(binary.BigEndian.AppendUint16(b, 1), body...)
}

func name(s string) []byte { return append([]byte{byte(len(s))}, s...) }

// legacy gives a part of an old trailer of the size that its header says.
func legacy(kind, version byte, body ...byte) []byte {
	return append([]byte{kind, byte(len(body) + 1), version}, body...)
}

// frames has every layout that is known, each behind a packet of its own kind.
func frames() [][]byte {
	short := pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP('x')...)...)
	ip6 := pcaptest.Ethernet(0x86dd, pcaptest.IPv6(17, pcaptest.UDP([]byte("payload")...)...)...)
	arp := pcaptest.Ethernet(0x0806, pcaptest.ARP(1)...)
	padded := append(slices.Clone(short), make([]byte, 60-len(short))...)
	fcs := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(slices.Clone(b), crc32.ChecksumIEEE(b)) }
	low2 := part(1, 1, 2, append([]byte{1, 0, 3}, name("/Common/vip")...)...)
	low4 := part(1, 1, 4, append([]byte{5, 1, 2}, name("\x00\x04/a/b\x01\x031.1\x02\x02tr")...)...)
	medium := func(cause string) []byte {
		b := make([]byte, 31)
		b[7], b[15], b[25], b[30] = 9, 8, 3, 4
		if cause != "" {
			cause = "\x01\x00\x00\x00\x12\x34\x56\x00\x07" + cause
		}
		return part(1, 2, 4, append(b, name(cause)...)...)
	}
	high := make([]byte, 39)
	high[0], high[2], high[13], high[14], high[15], high[18], high[36], high[38] = 17, 99, 0xff, 0xff, 10, 1, 80, 81
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	v16 := func(s string) []byte { return append([]byte(s), make([]byte, 16-len(s))...) }
	oldMedium3 := append(make([]byte, 31), name("\x00\x00\x00\x00\x00\x01\x00\x00\x09timed out")...)
	oldMedium3[7], oldMedium3[25] = 5, 1
	oldMedium0 := make([]byte, 26)
	oldMedium0[7], oldMedium0[21] = 6, 2
	return [][]byte{
		join(short, trailer(low2)),
		join(padded, trailer(low4, medium(""))),
		join(fcs(padded), trailer(low4, medium("No flow"), part(1, 3, 1, high...))),
		join(ip6, trailer(low2, medium("x"), part(77, 1, 1, 2, 3))),
		join(arp, make([]byte, 60-len(arp)), trailer(low2)),
		join(short, legacy(1, 1, append([]byte{1, 0, 1}, name("/Common/old")...)...)),
		join(padded, legacy(1, 1, append([]byte{0, 0, 2}, name("")...)...), legacy(2, 3, oldMedium3...), legacy(3, 0, high...)),
		join(ip6, legacy(1, 0, join([]byte{1, 0, 1}, v16("ten"))...), legacy(2, 0, oldMedium0...)),
		short, padded, ip6, arp,
	}
}

func TestEveryLayoutAsTshark(t *testing.T) {
	t.Parallel()
	compare(t, save(t, frames()...))
}

// Stripped, a frame is as it was on the wire; a capture without trailers stays.
func TestStrip(t *testing.T) {
	t.Parallel()
	short := pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP('x')...)...)
	padded := append(slices.Clone(short), make([]byte, 60-len(short))...)
	all := frames()
	want := map[int][]byte{0: short, 1: padded, 2: padded, 5: short, 6: padded, 8: short, 9: padded}
	for i, data := range all {
		var f layers.Frame
		p := pcap.Packet{Link: pcap.LinkEthernet, Data: data, Length: uint32(len(data))}
		if !f5.Strip(&p, &f) {
			t.Errorf("frame %d was left out", i)
		}
		if w := want[i]; w != nil && !bytes.Equal(w, p.Data) || int(p.Length) != len(p.Data) {
			t.Errorf("frame %d: %x of %d, want %x", i, p.Data, p.Length, w)
		}
		if _, still := find(p.Data); still {
			t.Errorf("frame %d has a trailer still", i)
		}
	}
	left := 0
	each(t, sample, func(p *pcap.Packet) {
		var f layers.Frame
		if f5.Strip(p, &f) {
			left++
		}
	})
	if left != 5 {
		t.Errorf("%d packets are left of 5 and the description", left)
	}
}

// The secrets of the sample are those that tshark writes.
func TestKeyLogAsTshark(t *testing.T) {
	t.Parallel()
	var want []string
	for _, line := range tshark(t, sample, []string{"f5ethtrailer.tls.keylog"}) {
		if line != "" {
			want = append(want, strings.Split(line, ",")...)
		}
	}
	k := f5.NewKeyLog()
	var got []string
	for range 2 { // again gives nothing new
		each(t, sample, func(p *pcap.Packet) {
			if tr, ok := find(p.Data); ok {
				got = append(got, k.Add(fmt.Sprint(p.Number), tr.TLS)...)
			}
		})
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 5 {
		t.Errorf("(-tshark +ours):\n%s", diff)
	}
}

// Random and secret may come on different packets, and a port may be used again.
func TestKeyLogCollects(t *testing.T) {
	t.Parallel()
	random, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	k := f5.NewKeyLog()
	if lines := k.Add("c", []f5.TLS{{Master: []byte{9}}}); len(lines) != 0 {
		t.Errorf("%v without a random", lines)
	}
	if lines := k.Add("c", []f5.TLS{{ClientRandom: random}}); len(lines) != 1 || !strings.HasSuffix(lines[0], " 09") {
		t.Errorf("%v", lines)
	}
	if lines := k.Add("c", []f5.TLS{{ClientRandom: other}}); len(lines) != 0 {
		t.Errorf("%v: the secret of another session", lines)
	}
	if lines := k.Add("c", []f5.TLS{{Early: []byte{7}, ClientHandshake: []byte{8}}}); len(lines) != 2 {
		t.Errorf("%v", lines)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	c := f5.NewCounter()
	each(t, sample, func(p *pcap.Packet) {
		if err := c.Packet(p); err != nil {
			t.Fatal(err)
		}
	})
	s := c.Summary()
	if s.Packets != 5 || s.Trailers != 5 || s.Legacy != 1 || s.Noise != 3 || !s.Secrets || len(s.TMMs) < 2 || s.TMMs[0].Packets < s.TMMs[1].Packets {
		t.Errorf("%+v", s)
	}
	want := &f5.FileInfo{CommandLine: "-nni 0.0:nnnp -s0 --f5 ssl:v -w /var/tmp/a.pcap tcp port 443", Version: s.FileInfo.Version, Host: "ltm3.test.local", Platform: "Z100", Product: "BIG-IP"}
	if diff := cmp.Diff(want, s.FileInfo); diff != "" || !strings.Contains(s.FileInfo.Version, "15.1.2.1") {
		t.Error(diff)
	}
}

// A packet captured in part has no trailer, whatever its bytes are; nor has one whose
// payload looks like one.
func TestNoTrailer(t *testing.T) {
	t.Parallel()
	data := frames()[0]
	var f layers.Frame
	layers.Decode(pcap.LinkEthernet, data, uint32(len(data))+1, &f)
	if _, ok := f5.Find(&f, uint32(len(data))+1); ok {
		t.Error("a trailer in a packet that was cut")
	}
	tr := trailer(part(1, 1, 2, append([]byte{1, 0, 3}, name("v")...)...))
	inside := pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP(tr...)...)...)
	if _, ok := find(inside); ok {
		t.Error("a payload was taken for a trailer")
	}
	if _, ok := find(append(slices.Clone(data), 1)); ok {
		t.Error("a trailer that does not end with the frame")
	}
}

func FuzzFind(f *testing.F) {
	for _, data := range frames() {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, ok := find(data)
		if ok && (tr.Start < 14 || tr.Start+tr.Size != len(data)) {
			t.Fatalf("%+v in %d bytes", tr, len(data))
		}
		if ok {
			f5.NewKeyLog().Add("", tr.TLS)
		}
		f5.ReadFileInfo(data)
		var fr layers.Frame
		p := pcap.Packet{Link: pcap.LinkEthernet, Data: data, Length: uint32(len(data))}
		f5.Strip(&p, &fr)
		if int(p.Length) != len(p.Data) {
			t.Fatalf("%d bytes of %d", len(p.Data), p.Length)
		}
	})
}
