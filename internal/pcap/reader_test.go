package pcap_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/pcaptest"
)

// packet is what the tests look at of a packet.
type packet struct {
	At        string
	Interface int
	Link      pcap.LinkType
	Length    uint32
	Data      string
}

// readAll reads to the end or to the error.
func readAll(src io.Reader) (*pcap.Reader, []packet, error) {
	r, err := pcap.NewReader(src, pcap.ReaderOptions{})
	if err != nil {
		return r, nil, err
	}
	var got []packet
	var p pcap.Packet
	for {
		if err := r.Next(&p); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return r, got, err
		}
		at := ""
		if p.HasTime {
			at = p.Time.Time().Format("2006-01-02T15:04:05.999999999")
		}
		got = append(got, packet{at, p.Interface, p.Link, p.Length, string(p.Data)})
	}
}

func TestClassicVariants(t *testing.T) {
	t.Parallel()
	const at = 1700000000 // 2023-11-14T22:13:20
	for name, c := range map[string]struct {
		file pcaptest.Classic
		rec  [4]uint32
		want packet
	}{
		"micro":              {pcaptest.Classic{Link: 1}, [4]uint32{at, 7, 3, 9}, packet{"2023-11-14T22:13:20.000007", 0, 1, 9, "abc"}},
		"nano":               {pcaptest.Classic{Nano: true, Link: 1}, [4]uint32{at, 7, 3, 9}, packet{"2023-11-14T22:13:20.000000007", 0, 1, 9, "abc"}},
		"patched":            {pcaptest.Classic{Patched: true, Link: 1}, [4]uint32{at, 7, 3, 9}, packet{"2023-11-14T22:13:20.000007", 0, 1, 9, "abc"}},
		"after 2038":         {pcaptest.Classic{Link: 1}, [4]uint32{1 << 31, 0, 3, 3}, packet{"2038-01-19T03:14:08", 0, 1, 3, "abc"}},
		"micro carried over": {pcaptest.Classic{Link: 1}, [4]uint32{at, 2_000_001, 3, 3}, packet{"2023-11-14T22:13:22.000001", 0, 1, 3, "abc"}},
		"nano carried over":  {pcaptest.Classic{Nano: true, Link: 1}, [4]uint32{at, 1_000_000_001, 3, 3}, packet{"2023-11-14T22:13:21.000000001", 0, 1, 3, "abc"}},
		"2.2 lengths":        {pcaptest.Classic{Major: 2, Minor: 2, Link: 1}, [4]uint32{at, 0, 9, 3}, packet{"2023-11-14T22:13:20", 0, 1, 9, "abc"}},
		"2.3 one way":        {pcaptest.Classic{Major: 2, Minor: 3, Link: 1}, [4]uint32{at, 0, 9, 3}, packet{"2023-11-14T22:13:20", 0, 1, 9, "abc"}},
		"2.3 other way":      {pcaptest.Classic{Major: 2, Minor: 3, Link: 1}, [4]uint32{at, 0, 3, 9}, packet{"2023-11-14T22:13:20", 0, 1, 9, "abc"}},
		"543.0 lengths":      {pcaptest.Classic{Major: 543, Link: 1}, [4]uint32{at, 0, 9, 3}, packet{"2023-11-14T22:13:20", 0, 1, 9, "abc"}},
		"beyond snap length": {pcaptest.Classic{SnapLen: 1, Link: 1}, [4]uint32{at, 0, 3, 9}, packet{"2023-11-14T22:13:20", 0, 1, 9, "abc"}},
		"raw of BSD":         {pcaptest.Classic{Link: 12}, [4]uint32{at, 0, 3, 3}, packet{"2023-11-14T22:13:20", 0, pcap.LinkRaw, 3, "abc"}},
		"with FCS length":    {pcaptest.Classic{Link: 0x24000001}, [4]uint32{at, 0, 3, 3}, packet{"2023-11-14T22:13:20", 0, 1, 3, "abc"}},
		"longer than length": {pcaptest.Classic{Link: 1}, [4]uint32{at, 0, 3, 2}, packet{"2023-11-14T22:13:20", 0, 1, 2, "abc"}},
	} {
		for _, big := range []bool{false, true} {
			c.file.Big = big
			file := append(c.file.Header(), c.file.Record(c.rec[0], c.rec[1], c.rec[2], c.rec[3], []byte("abc"))...)
			r, got, err := readAll(bytes.NewReader(file))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff([]packet{c.want}, got); diff != "" {
				t.Errorf("%s, big-endian %v (-want +got):\n%s", name, big, diff)
			}
			if c.file.Link == 0x24000001 && r.Interfaces()[0].FCSLength != 4 {
				t.Errorf("FCS length %d, want 4", r.Interfaces()[0].FCSLength)
			}
		}
	}
}

// wholeNG is a file with every block, two sections and both byte orders.
func wholeNG() ([]byte, []packet) {
	var file []byte
	var want []packet
	for i, big := range []bool{false, true} {
		n := pcaptest.NG{Big: big}
		file = slices.Concat(file,
			n.Section(pcaptest.Text(1, "comment")),
			n.Interface(1, 0, pcaptest.Text(2, "eth0"), n.Offset(-10)),
			n.Interface(101, 2, pcaptest.Option{Code: 9, Value: []byte{9}}, pcaptest.Option{Code: 11, Value: []byte("\x00port 80")}),
			n.Interface(1, 0, pcaptest.Option{Code: 9, Value: []byte{0x80 | 32}}),
			n.Interface(1, 0, pcaptest.Option{Code: 9, Value: []byte{18}}),
			n.Enhanced(0, 1700000010_000001, 5, []byte("abc"), pcaptest.Text(1, "one"), pcaptest.Text(1, "two")),
			n.Block(10, []byte("secret")),
			n.Obsolete(1, 1700000000_000000001, 4, []byte("abcd")),
			n.Simple(7, []byte("abcdefg")),
			n.Enhanced(2, 5<<32|1<<31, 0, nil),
			n.Enhanced(3, 9_999999999_999999999, 1, []byte("z")),
			n.Block(4, nil), n.Block(0xbad, []byte{0, 0, 0, 1}), n.Block(0x40000bad, []byte{0, 0, 0, 1}), n.Block(99, make([]byte, 1<<20)),
			n.Statistics(1, 100, 3),
		)
		want = append(want,
			packet{"2023-11-14T22:13:20.000001", i * 4, 1, 5, "abc"},
			packet{"2023-11-14T22:13:20.000000001", i*4 + 1, 101, 4, "abcd"},
			packet{"", i * 4, 1, 7, "abcdefg"},
			packet{"1970-01-01T00:00:05.5", i*4 + 2, 1, 0, ""},
			packet{"1970-01-01T00:00:09.999999999", i*4 + 3, 1, 1, "z"},
		)
	}
	return file, want
}

func TestNextGeneration(t *testing.T) {
	t.Parallel()
	file, want := wholeNG()
	for name, src := range map[string]io.Reader{
		"file":        bytes.NewReader(file),
		"byte a time": iotest.OneByteReader(bytes.NewReader(file)),
		"gzip":        bytes.NewReader(pcaptest.Gzip(file)),
		"two members": bytes.NewReader(append(pcaptest.Gzip(file[:700]), pcaptest.Gzip(file[700:])...)),
	} {
		r, got, err := readAll(src)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(pcap.Blocks{NameResolution: 2, Statistics: 2, Secrets: 2, Custom: 4, Other: 2}, r.Blocks()); diff != "" {
			t.Errorf("%s: blocks (-want +got):\n%s", name, diff)
		}
		in := r.Interfaces()[5]
		if in.Filter != "port 80" || in.TicksPerSecond != 1e9 || in.Section != 1 || !in.HasDropped || in.Dropped != 3 || in.Received != 100 {
			t.Errorf("%s: interface %+v", name, in)
		}
		if s := r.Sections(); len(s) != 2 || !s[1].BigEndian || s[1].Comments[0] != "comment" {
			t.Errorf("%s: sections %+v", name, s)
		}
	}
}

func TestCommentsOfPackets(t *testing.T) {
	t.Parallel()
	file, _ := wholeNG()
	r, err := pcap.NewReader(bytes.NewReader(file), pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var p pcap.Packet
	if err := r.Next(&p); err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(p.Options.Comments()); !slices.Equal(got, []string{"one", "two"}) || p.Options.Damaged() {
		t.Errorf("comments %q", got)
	}
}

func files() map[string][]byte {
	ng, _ := wholeNG()
	c := pcaptest.Classic{Link: 1}
	classic := c.Header()
	for i := range uint32(5) {
		classic = append(classic, c.Record(i, 0, i*10, i*10, make([]byte, i*10))...)
	}
	return map[string][]byte{"pcap": classic, "pcapng": ng}
}

// A file that ends anywhere gives the packets before and says where it ends; and
// when it grows, reading goes on as if it had been there.
func TestEveryCutAndGrowth(t *testing.T) {
	t.Parallel()
	for name, whole := range files() {
		_, want, err := readAll(bytes.NewReader(whole))
		if err != nil {
			t.Fatal(err)
		}
		step := 1
		for cut := 0; cut < len(whole); cut += step {
			if cut > 2000 {
				step = 9973 // the long block
			}
			grows := &growing{data: whole, visible: cut}
			r, err := pcap.NewReader(grows, pcap.ReaderOptions{})
			if err != nil {
				var bad *pcap.Error
				if !errors.As(err, &bad) || !errors.Is(err, pcap.ErrTruncated) && !errors.Is(err, pcap.ErrNotCapture) || bad.Offset != 0 {
					t.Fatalf("%s cut at %d: %v", name, cut, err)
				}
				var p pcap.Packet
				if again := r.Next(&p); !errors.Is(again, err) {
					t.Fatalf("%s cut at %d: Next gives %v after %v", name, cut, again, err)
				}
				continue
			}
			var got []string
			grown := false
			var p pcap.Packet
			for {
				err := r.Next(&p)
				if err == nil {
					got = append(got, string(p.Data))
					continue
				}
				if grown {
					if !errors.Is(err, io.EOF) {
						t.Fatalf("%s cut at %d and grown: %v", name, cut, err)
					}
					break
				}
				var bad *pcap.Error
				if errors.As(err, &bad) && (!errors.Is(err, pcap.ErrTruncated) || bad.Offset > int64(cut) || bad.Packets != uint64(len(got))) {
					t.Fatalf("%s cut at %d: %v", name, cut, err)
				}
				if bad == nil && !errors.Is(err, io.EOF) {
					t.Fatalf("%s cut at %d: %v", name, cut, err)
				}
				grown, grows.visible = true, len(whole)
			}
			if len(got) != len(want) {
				t.Fatalf("%s cut at %d: %d packets after it grew, want %d", name, cut, len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i].Data {
					t.Fatalf("%s cut at %d: packet %d differs", name, cut, i+1)
				}
			}
		}
	}
}

// growing is a file of which more becomes visible.
type growing struct {
	data         []byte
	visible, pos int
}

func (g *growing) Read(p []byte) (int, error) {
	n := copy(p, g.data[g.pos:g.visible])
	g.pos += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func TestDamage(t *testing.T) {
	t.Parallel()
	c := pcaptest.Classic{Link: 1}
	n := pcaptest.NG{}
	good := append(c.Header(), c.Record(1, 0, 3, 3, []byte("abc"))...)
	start := slices.Concat(n.Section(), n.Interface(1, 0))
	ng := append(slices.Clone(start), n.Enhanced(0, 1, 3, []byte("abc"))...)
	with := func(b []byte, more ...byte) []byte { return append(slices.Clone(b), more...) }
	for name, c := range map[string]struct {
		file    []byte
		kind    error
		offset  int
		packets int
		says    string
	}{
		"empty":                  {nil, pcap.ErrNotCapture, 0, 0, "empty"},
		"three bytes":            {[]byte{0xd4, 0xc3, 0xb2}, pcap.ErrNotCapture, 0, 0, "3 bytes"},
		"text":                   {[]byte("tcpdump: no suitable device"), pcap.ErrNotCapture, 0, 0, "74 63 70 64"},
		"zstd":                   {[]byte("\x28\xb5\x2f\xfdxxxx"), pcap.ErrNotCapture, 0, 0, "zstd"},
		"gzip in gzip":           {pcaptest.Gzip(pcaptest.Gzip(good)), pcap.ErrNotCapture, 0, 0, "gzip file within"},
		"gzip of nothing":        {pcaptest.Gzip(nil), pcap.ErrNotCapture, 0, 0, "empty"},
		"gzip header only":       {[]byte{0x1f, 0x8b, 8, 0}, pcap.ErrTruncated, 0, 0, "gzip header"},
		"gzip cut":               {pcaptest.Gzip(good)[:40], pcap.ErrTruncated, 43, 1, ""},
		"gzip and garbage":       {append(pcaptest.Gzip(good), "garbage here"...), pcap.ErrDamaged, 43, 1, "gzip"},
		"pcap version":           {pcaptest.Classic{Major: 3, Link: 1}.Header(), pcap.ErrUnsupported, 0, 0, "3.0"},
		"absurd length":          {with(good, c16(9, 0, 0x7fffffff, 1)...), pcap.ErrDamaged, 43, 1, "2147483647"},
		"largest length":         {with(good, c16(9, 0, 0xffffffff, 1)...), pcap.ErrDamaged, 43, 1, "4294967295"},
		"just too long":          {with(good, c16(9, 0, 262145, 1)...), pcap.ErrDamaged, 43, 1, "262145"},
		"no byte order":          {append(n.Section()[:8], make([]byte, 20)...), pcap.ErrDamaged, 0, 0, "byte-order"},
		"block of 8":             {with(ng, 6, 0, 0, 0, 8, 0, 0, 0), pcap.ErrDamaged, len(ng), 1, "8 bytes"},
		"block of 33":            {with(ng, 6, 0, 0, 0, 33, 0, 0, 0), pcap.ErrDamaged, len(ng), 1, "33 bytes"},
		"absurd packet block":    {with(ng, 6, 0, 0, 0, 0xfc, 0xff, 0xff, 0x7f), pcap.ErrTooLarge, len(ng), 1, ""},
		"absurd interface":       {with(ng, 1, 0, 0, 0, 0xfc, 0xff, 0xff, 0x7f), pcap.ErrTooLarge, len(ng), 1, ""},
		"absurd unknown block":   {with(ng, 99, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff), pcap.ErrTruncated, len(ng) + 8, 1, ""},
		"short packet block":     {with(ng, n.Block(6, make([]byte, 16))...), pcap.ErrDamaged, len(ng), 1, "at least 32"},
		"lengths differ":         {with(ng, 99, 0, 0, 0, 12, 0, 0, 0, 16, 0, 0, 0), pcap.ErrDamaged, len(ng), 1, "16"},
		"packet lengths differ":  {with(start, damagedEnd(n.Enhanced(0, 1, 3, []byte("abc")))...), pcap.ErrDamaged, len(start), 0, "ends with"},
		"no such interface":      {with(ng, n.Enhanced(1, 1, 3, []byte("abc"))...), pcap.ErrDamaged, len(ng), 1, "interface 1"},
		"interface of before":    {with(ng, append(n.Section(), n.Enhanced(0, 1, 3, []byte("abc"))...)...), pcap.ErrDamaged, len(ng) + 28, 1, "interface 0"},
		"packet beyond block":    {with(ng, n.Block(6, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 4})...), pcap.ErrDamaged, len(ng), 1, "room for 4"},
		"simple beyond block":    {with(ng, n.Simple(9, []byte("abcd"))...), pcap.ErrDamaged, len(ng), 1, "room for 4"},
		"option beyond block":    {with(ng, n.Block(1, []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 99, 0})...), pcap.ErrDamaged, len(ng), 1, "option"},
		"resolution":             {with(ng, n.Interface(1, 0, pcaptest.Option{Code: 9, Value: []byte{20}})...), pcap.ErrUnsupported, len(ng), 1, "0x14"},
		"resolution of two":      {with(ng, n.Interface(1, 0, pcaptest.Option{Code: 9, Value: []byte{0xc0}})...), pcap.ErrUnsupported, len(ng), 1, "0xc0"},
		"version of the section": {with(ng, versioned(n.Section(), 2)...), pcap.ErrUnsupported, len(ng), 1, "2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, got, err := readAll(bytes.NewReader(c.file))
			var bad *pcap.Error
			if !errors.As(err, &bad) || !errors.Is(err, c.kind) {
				t.Fatalf("error %v, want %v", err, c.kind)
			}
			if bad.Offset != int64(c.offset) || len(got) != c.packets || bad.Packets != uint64(c.packets) {
				t.Errorf("%v: offset %d after %d packets, want %d after %d", err, bad.Offset, len(got), c.offset, c.packets)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

func c16(sec, part, captured, original uint32) []byte {
	return pcaptest.Classic{}.Record(sec, part, captured, original, nil)
}

func damagedEnd(block []byte) []byte {
	block[len(block)-4] ^= 4
	return block
}

func versioned(section []byte, major byte) []byte {
	section[12] = major
	return section
}

func TestFailingSource(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk on fire")
	for name, file := range files() {
		_, _, err := readAll(io.MultiReader(bytes.NewReader(file), iotest.ErrReader(cause)))
		if !errors.Is(err, pcap.ErrRead) || !errors.Is(err, cause) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := readAll(iotest.ErrReader(cause)); !errors.Is(err, cause) {
		t.Errorf("at once: %v", err)
	}
}

// zeros packs to almost nothing, and as pcap it is packets without bytes.
func TestZipBomb(t *testing.T) {
	t.Parallel()
	bomb := pcaptest.Gzip(append(pcaptest.Classic{Link: 1}.Header(), make([]byte, 68<<20)...))
	r, err := pcap.NewReader(bytes.NewReader(bomb), pcap.ReaderOptions{MaxExpansion: 10})
	var p pcap.Packet
	for err == nil {
		err = r.Next(&p)
	}
	if !errors.Is(err, pcap.ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestNoAllocationPerPacket(t *testing.T) { //nolint:paralleltest // counts allocations
	const packets = 2000
	c, n := pcaptest.Classic{Link: 1}, pcaptest.NG{Big: true}
	classic, ng := c.Header(), append(n.Section(), n.Interface(1, 0)...)
	data := make([]byte, 900)
	for range packets + 2 {
		classic = append(classic, c.Record(1, 1, 900, 900, data)...)
		ng = append(ng, n.Enhanced(0, 1, 900, data)...)
	}
	for name, file := range map[string][]byte{"pcap": classic, "pcapng": ng} {
		r, err := pcap.NewReader(bytes.NewReader(file), pcap.ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var p pcap.Packet
		next := func() {
			if err := r.Next(&p); err != nil {
				t.Fatal(err)
			}
		}
		next() // makes the window
		if got := testing.AllocsPerRun(packets, next); got != 0 {
			t.Errorf("%s: %.2f allocations per packet", name, got)
		}
	}
}
