package info_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/info"
	"capfleet/internal/pcap/pcaptest"
)

// Columns of capinfos -T.
const (
	colEncapsulation = iota + 2
	_
	_
	colCutMin
	colCutMax
	colPackets
	colFileSize
	colDataSize
	colDuration
	colFirst
	colLast
	colByteRate
	colBitRate
	colAverage
	colPacketRate
	colSHA256
	_
	_
	colOrder
	colHardware
	colOS
	colApplication
	colComment
)

// captures gives files of every type that the readers know. Custom blocks are
// left out: capinfos takes each for a packet without a time, and then gives no
// times at all.
func captures() map[string][]byte {
	packets := pcaptest.Packets()
	frames := slices.DeleteFunc(slices.Clone(packets), func(p pcaptest.Packet) bool { return p.Link != 1 })
	files := map[string][]byte{}
	classic := func(name string, c pcaptest.Classic, scale uint32) {
		b := c.Header()
		for i, p := range frames {
			// Out of order now and then, and cut now and then.
			at, size := uint32(i*7%len(frames)), uint32(len(p.Data))
			captured := size
			if i%5 == 3 {
				captured = 20 + at
			}
			b = append(b, c.Record(1700000000+at, at*scale+1, captured, size, p.Data[:captured])...)
		}
		files[name] = b
	}
	for _, big := range []bool{false, true} {
		order := map[bool]string{false: "little-endian", true: "big-endian"}[big]
		classic("micro "+order, pcaptest.Classic{Big: big, SnapLen: 65535, Link: 1}, 1000)
		classic("nano "+order, pcaptest.Classic{Big: big, Nano: true, SnapLen: 262144, Link: 1}, 1000001)
		classic("patched "+order, pcaptest.Classic{Big: big, Patched: true, SnapLen: 65535, Link: 1}, 1000)

		n := pcaptest.NG{Big: big}
		two := slices.Concat(
			n.Section(pcaptest.Text(1, "a comment"), pcaptest.Text(2, "some cpu"), pcaptest.Text(3, "some system"), pcaptest.Text(4, "some tool")),
			n.Interface(1, 262144, pcaptest.Text(2, "eth0"), pcaptest.Option{Code: 9, Value: []byte{9}}),
			n.Interface(101, 65535, pcaptest.Text(2, "tun0"), pcaptest.Option{Code: 9, Value: []byte{0x80 | 20}}, n.Offset(1700000000)),
			n.Enhanced(0, 1700000001_123456789, 100, frames[0].Data, pcaptest.Text(1, "look")),
			n.Enhanced(1, 3<<20|1<<19, uint32(len(frames[1].Data)-14), frames[1].Data[14:]),
			n.Obsolete(0, 1700000005_000000001, uint32(len(frames[2].Data)), frames[2].Data),
			n.Block(4, []byte{0, 0, 0, 0}),
			n.Block(0x7777, make([]byte, 700000)),
			n.Statistics(0, 10, 2), n.Statistics(1, 4, 0),
		)
		files["pcapng "+order] = two
		files["pcapng simple "+order] = slices.Concat(n.Section(), n.Interface(1, 60), n.Simple(60, make([]byte, 60)), n.Simple(90, make([]byte, 60)))
		other := pcaptest.NG{Big: !big}
		files["pcapng sections "+order] = slices.Concat(two, other.Section(), other.Interface(1, 0),
			other.Enhanced(0, 1600000000_000000, uint32(len(frames[3].Data)), frames[3].Data))
	}
	files["no packets"] = pcaptest.Classic{SnapLen: 65535, Link: 1}.Header()
	for _, link := range []uint32{0, 1, 101, 108, 113, 228, 229, 276} {
		c := pcaptest.Classic{SnapLen: 65535, Link: link}
		b := c.Header()
		for i, p := range packets {
			if p.Link == link {
				b = append(b, c.Record(1, uint32(i), uint32(len(p.Data)), uint32(len(p.Data)), p.Data)...)
			}
		}
		files[fmt.Sprint("link type ", link)] = b
	}
	files["gzip"] = pcaptest.Gzip(files["micro little-endian"])
	files["gzip pcapng"] = pcaptest.Gzip(files["pcapng big-endian"])
	return files
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	// capinfos ends with 1 for a cut file, after it has printed the figures.
	if err != nil && !strings.Contains(stderr.String(), "cut short") {
		t.Fatalf("%s %q: %v\n%s", name, args, err, &stderr)
	}
	return string(out)
}

// compare reads a file with ours and with capinfos.
func compare(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s, err := info.Read(context.Background(), f, info.Options{Hash: true})
	if err != nil && !errors.Is(err, pcap.ErrTruncated) {
		t.Fatal(err)
	}
	theirs := strings.Split(strings.TrimSuffix(run(t, "capinfos", "-T", "-M", "-r", file), "\n"), "\t")
	ours := map[int]string{
		colEncapsulation: map[string]string{
			"ethernet": "ether", "mixed": "per-packet", "raw": "rawip", "null": "null", "loop": "loop",
			"linux_sll": "linux-sll", "linux_sll2": "linux-sll2", "ipv4": "rawip4", "ipv6": "rawip6",
		}[s.Encapsulation],
		colPackets: fmt.Sprint(s.Packets), colFileSize: fmt.Sprint(s.FileBytes), colDataSize: fmt.Sprint(s.DataBytes),
		colCutMin: number(s.SmallestCut), colCutMax: number(s.LargestCut), colSHA256: s.SHA256,
	}
	// What capinfos prints where there is no packet at all differs by figure.
	if s.Packets > 0 {
		ours[colOrder] = "Unknown"
		if s.StrictOrder != nil {
			ours[colOrder] = map[bool]string{true: "True", false: "False"}[*s.StrictOrder]
		}
	}
	if len(s.Sections) == 1 {
		ours[colHardware], ours[colOS], ours[colApplication] = s.Sections[0].Hardware, s.Sections[0].OS, s.Sections[0].Application
		if len(s.Sections[0].Comments) > 0 {
			ours[colComment] = s.Sections[0].Comments[0] // it prints no other
		}
	}
	for col, got := range ours {
		want := ""
		if col < len(theirs) {
			want = theirs[col]
		}
		if got != want {
			t.Errorf("column %d: we have %q, capinfos %q", col, got, want)
		}
	}
	if s.Packets == 0 || s.PacketsWithoutTime > 0 {
		return
	}
	for col, at := range map[int]*time.Time{colFirst: s.First, colLast: s.Last} {
		// As many digits as it has, which goes by the packet's interface.
		_, digits, _ := strings.Cut(theirs[col], ".")
		if got := at.Format("2006-01-02 15:04:05." + strings.Repeat("0", len(digits))); got != theirs[col] {
			t.Errorf("column %d: we have %s, capinfos %s", col, got, theirs[col])
		}
	}
	for col, got := range map[int]*float64{
		colDuration: s.Duration, colByteRate: s.BytesPerSecond, colBitRate: s.BitsPerSecond,
		colAverage: s.AveragePacketBytes, colPacketRate: s.PacketsPerSecond,
	} {
		want, err := strconv.ParseFloat(theirs[col], 64)
		switch {
		case err != nil && got == nil:
		case err != nil, got == nil && want != 0, got != nil && math.Abs(*got-want) > 0.00501+want*1e-9: // it prints two decimals
			t.Errorf("column %d: we have %v, capinfos %q", col, number(got), theirs[col])
		}
	}
}

func number[T any](p *T) string {
	if p == nil {
		return "n/a"
	}
	return fmt.Sprint(*p)
}

func TestFiguresAreThoseOfCapinfos(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range captures() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			compare(t, file)
		})
	}
}

// Files as Wireshark's own tools write them.
func TestFiguresOfConvertedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := captures()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string][]byte{"a": files["nano big-endian"], "b": files["link type 113"], "c": files["pcapng little-endian"]} {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"pcap", "nsecpcap", "modpcap", "pcapng"} {
		t.Run(format, func(t *testing.T) {
			run(t, "editcap", "-F", format, path("a"), path(format))
			compare(t, path(format))
		})
	}
	t.Run("cut by editcap", func(t *testing.T) {
		run(t, "editcap", "-s", "40", "--capture-comment", "cut", path("c"), path("cut"))
		compare(t, path("cut"))
	})
	t.Run("several interfaces", func(t *testing.T) {
		run(t, "mergecap", "-F", "pcapng", "-w", path("merged"), path("a"), path("b"), path("c"))
		compare(t, path("merged"))
	})
}

// Of a file that ends in the middle of a packet, the figures are of those before.
func TestFiguresOfCutFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := captures()
	for _, name := range []string{"nano big-endian", "pcapng little-endian", "gzip"} {
		content := all[name]
		for _, part := range []int{2, 3, 4} {
			cut := len(content) * part / 5
			if name == "pcapng little-endian" {
				cut = 300 + 60*part // before its long block
			}
			t.Run(fmt.Sprint(name, " at ", cut), func(t *testing.T) {
				file := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
				if err := os.WriteFile(file, content[:cut], 0o600); err != nil {
					t.Fatal(err)
				}
				compare(t, file)
			})
		}
	}
}
