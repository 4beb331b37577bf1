package pcap_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/pcaptest"
)

// record is a packet with bytes of its own.
type record struct {
	At        pcap.Timestamp
	Link      pcap.LinkType
	Interface int
	Length    uint32
	Data      string
	Comments  []string
}

func everything(t interface{ Fatal(...any) }, r *pcap.Reader) (all []record) {
	for {
		var p pcap.Packet
		err := r.Next(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		rec := record{At: p.Time, Link: p.Link, Interface: p.Interface, Length: p.Length, Data: string(p.Data)}
		for c := range p.Options.Comments() {
			rec.Comments = append(rec.Comments, c)
		}
		all = append(all, rec)
	}
}

// What is written is read again, by both writers, whatever it is.
func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(t, "packets")
		var want []record
		var classic, ng bytes.Buffer
		unit := rapid.SampledFrom([]pcap.Resolution{pcap.Nanoseconds, pcap.Microseconds}).Draw(t, "unit")
		w, err := pcap.NewWriter(&classic, pcap.LinkEthernet, 0, unit)
		if err != nil {
			t.Fatal(err)
		}
		g, err := pcap.NewNGWriter(&ng, pcap.Section{Application: "test", Comments: []string{"one", "two"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b"} {
			if _, err := g.AddInterface(pcap.Interface{Link: pcap.LinkEthernet, Name: name, Filter: "tcp", FCSLength: -1}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
			p := pcap.Packet{Number: uint64(i), Link: pcap.LinkEthernet, HasTime: true, Interface: i % 2, Data: data,
				Length: uint32(len(data)) + rapid.Uint32Range(0, 9).Draw(t, "cut"),
				Time:   pcap.Timestamp{Sec: int64(rapid.Uint32().Draw(t, "sec")), Nanos: rapid.Uint32Range(0, 999_999).Draw(t, "micros") * 1000}}
			if err := errors.Join(w.Write(&p), g.Write(&p)); err != nil {
				t.Fatal(err)
			}
			want = append(want, record{At: p.Time, Link: p.Link, Interface: p.Interface, Length: p.Length, Data: string(data)})
		}
		if err := errors.Join(w.Flush(), g.Flush()); err != nil {
			t.Fatal(err)
		}
		r, err := pcap.NewReader(&ng, pcap.ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, everything(t, r)); diff != "" {
			t.Fatalf("pcapng (-want +got):\n%s", diff)
		}
		if s, i := r.Sections()[0], r.Interfaces(); s.Application != "test" || len(s.Comments) != 2 || n > 0 && (len(i) != 2 || i[1].Name != "b" || i[1].Filter != "tcp" || i[1].FCSLength != -1) {
			t.Fatalf("%+v %+v", s, i)
		}
		if r, err = pcap.NewReader(&classic, pcap.ReaderOptions{}); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			want[i].Interface = 0
		}
		if diff := cmp.Diff(want, everything(t, r)); diff != "" {
			t.Fatalf("pcap (-want +got):\n%s", diff)
		}
	})
}

// Packet options of a big-endian file mean the same in ours.
func TestOptionsTurnWithTheByteOrder(t *testing.T) {
	t.Parallel()
	for _, big := range []bool{false, true} {
		from := pcaptest.NG{Big: big}
		flags := []byte{2, 0, 0, 0}
		if big {
			flags = []byte{0, 0, 0, 2}
		}
		src := bytes.Join([][]byte{from.Section(), from.Interface(1, 0),
			from.Enhanced(0, 5, 3, []byte("abc"), pcaptest.Text(1, "seen"), pcaptest.Option{Code: 2, Value: flags})}, nil)
		r, err := pcap.NewReader(bytes.NewReader(src), pcap.ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var p pcap.Packet
		if err := r.Next(&p); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w, err := pcap.NewNGWriter(&out, pcap.Section{})
		if err != nil {
			t.Fatal(err)
		}
		_, ierr := w.AddInterface(r.Interfaces()[0])
		if err := errors.Join(ierr, w.Write(&p), w.Flush()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(out.Bytes(), []byte{2, 0, 4, 0, 2, 0, 0, 0}) || !bytes.Contains(out.Bytes(), []byte("seen")) {
			t.Errorf("big %v: %x", big, out.Bytes())
		}
	}
}

// Wireshark reads what we write: capinfos counts it, and complains of nothing.
func TestCapinfosReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ng, classic := filepath.Join(dir, "x.pcapng"), filepath.Join(dir, "x.pcap")
	write := func(name string, f func(io.Writer) error) {
		var b bytes.Buffer
		if err := errors.Join(f(&b), os.WriteFile(name, b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	packet := func(i int) *pcap.Packet {
		return &pcap.Packet{Number: uint64(i), Link: pcap.LinkEthernet, HasTime: true, Time: pcap.Timestamp{Sec: 1e9, Nanos: uint32(i)},
			Length: 60, Data: pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP(byte(i))...)...)}
	}
	write(ng, func(w io.Writer) error {
		g, err := pcap.NewNGWriter(w, pcap.Section{OS: "x", Application: "capfleet"})
		if err != nil {
			return err
		}
		id, err := g.AddInterface(pcap.Interface{Link: pcap.LinkEthernet, Name: "lon-probe-01 eth0", SnapLen: 96, FCSLength: 4})
		err = errors.Join(err, g.KeyLog([]byte("CLIENT_RANDOM "+strings.Repeat("ab", 32)+" "+strings.Repeat("cd", 48)+"\n")))
		for i := range 5 {
			err = errors.Join(err, g.Write(packet(i)))
		}
		return errors.Join(err, g.Statistics(id, pcap.Timestamp{Sec: 1e9}, pcap.Interface{Received: 7, HasReceived: true, Dropped: 2, HasDropped: true}), g.Flush())
	})
	write(classic, func(w io.Writer) error {
		c, err := pcap.NewWriter(w, pcap.LinkEthernet, 96, pcap.Nanoseconds)
		for i := range 5 {
			err = errors.Join(err, c.Write(packet(i)))
		}
		return errors.Join(err, c.Flush())
	})
	for _, name := range []string{ng, classic} {
		cmd := exec.CommandContext(t.Context(), "capinfos", "-T", "-r", "-M", "-c", "-l", name)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), "\t5") || name == classic && !strings.Contains(string(out), "\t96\t") {
			t.Errorf("%v: %s%s", err, out, &stderr)
		}
	}
	out, err := exec.CommandContext(t.Context(), "tshark", "-r", ng, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.time_epoch", "-e", "frame.len").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if want := "lon-probe-01 eth0\t1000000000.00000000" + strconv.Itoa(i) + "\t60"; line != want {
			t.Errorf("%q, want %q", line, want)
		}
	}
}

// What a file cannot hold is refused and never written wrongly; after it nothing is.
func TestRefusedPackets(t *testing.T) {
	t.Parallel()
	good := pcap.Packet{Number: 1, Link: pcap.LinkEthernet, HasTime: true, Data: []byte("abc"), Length: 3}
	for name, spoil := range map[string]func(*pcap.Packet){
		"another link type": func(p *pcap.Packet) { p.Link = pcap.LinkRaw },
		"no time":           func(p *pcap.Packet) { p.HasTime = false },
		"before 1970":       func(p *pcap.Packet) { p.Time.Sec = -1 },
		"too late":          func(p *pcap.Packet) { p.Time.Sec = 1 << 60 },
		"too large":         func(p *pcap.Packet) { p.Data = make([]byte, 1<<20) },
		"no interface":      func(p *pcap.Packet) { p.Interface = 1 },
	} {
		p := good
		spoil(&p)
		var out bytes.Buffer
		g, err := pcap.NewNGWriter(&out, pcap.Section{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.AddInterface(pcap.Interface{Link: pcap.LinkEthernet}); err != nil {
			t.Fatal(err)
		}
		if err := g.Write(&p); err == nil {
			t.Errorf("%s was written as pcapng", name)
		} else if again := g.Write(&good); !errors.Is(again, err) || !errors.Is(g.Flush(), err) {
			t.Errorf("%s: went on after %v", name, err)
		}
		if name == "no interface" {
			continue
		}
		c, err := pcap.NewWriter(&out, pcap.LinkEthernet, 0, pcap.Nanoseconds)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write(&p); err == nil {
			t.Errorf("%s was written as pcap", name)
		} else if !errors.Is(c.Flush(), err) {
			t.Errorf("%s: went on after %v", name, err)
		}
	}
	if _, err := pcap.NewWriter(io.Discard, pcap.LinkEthernet, 0, 7); err == nil {
		t.Error("a resolution of 7 ns was taken")
	}
}
