package pcap_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/pcaptest"
)

// small makes windows so small that packets lie over their borders all the time.
var small = pcap.ReaderOptions{Window: 32 << 10}

// seen is a packet as an analysis saw it.
type seen struct {
	number uint64
	offset int64
	time   pcap.Timestamp
	length uint32
	hash   uint32
}

// witness notes every packet, however it comes.
type witness struct {
	all    []seen
	sifted atomic.Int64
	taken  int
	taking func(w *pcap.Window) // before a window is taken
}

func (n *witness) Packet(p *pcap.Packet) {
	n.all = append(n.all, seen{p.Number, p.Offset, p.Time, p.Length, crc32.ChecksumIEEE(p.Data)})
}

func (n *witness) Sift(w *pcap.Window, _ any) any {
	var sizes []int
	for _, run := range w.Runs() {
		for _, at := range run {
			frame, _ := w.Frame(at)
			sizes = append(sizes, len(frame))
		}
	}
	n.sifted.Add(1)
	return sizes
}

func (n *witness) Take(w *pcap.Window, sifted any) {
	if n.taking != nil {
		n.taking(w)
	}
	n.taken++
	index := 0
	var p pcap.Packet
	for _, run := range w.Runs() {
		for _, at := range run {
			w.Packet(index, at, &p)
			if n.taking == nil {
				frame, wire := w.Frame(at)
				if sifted.([]int)[index] != len(p.Data) || !bytes.Equal(frame, p.Data) || p.Length != wire || p.Time != w.Time(at) {
					panic("the window contradicts its packet")
				}
			}
			n.Packet(&p)
			index++
		}
	}
}

// plain is the same analysis for one packet after the other.
type plain struct{ *witness }

func (p plain) Packet(packet *pcap.Packet) { p.witness.Packet(packet) }

// large gives a capture of at least size bytes, with packets of all sizes, some of
// which hold what looks like records.
func large(c pcaptest.Classic, size int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // the same bytes each time are wanted
	b := c.Header()
	noise := make([]byte, 3000)
	for sec := uint32(1_700_000_000); len(b) < size; sec++ {
		for i := 0; i < len(noise); i += 8 {
			binary.LittleEndian.PutUint64(noise[i:], random.Uint64())
		}
		n := uint32(random.IntN(1500))
		if random.IntN(50) == 0 {
			n = 0
		}
		data := noise[:n]
		if random.IntN(3) == 0 {
			data = nil
			for len(data) < int(n) {
				data = append(data, c.Record(sec, 5, 20, 20, noise[:20])...)
			}
			n = uint32(len(data)) //nolint:gosec // a packet
		}
		first, second := n, n+random.Uint32N(100)
		if c.Major == 2 && c.Minor < 3 {
			first, second = second, first
		}
		b = append(b, c.Record(sec, random.Uint32N(1_000_000), first, second, data)...)
	}
	return b
}

func settled(t testing.TB, content []byte, old bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large.pcap")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if old {
		hourAgo := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// scanBoth scans a file in windows and one packet after the other, which must agree
// also about the error.
func scanBoth(t *testing.T, path string, least int) (*witness, error) {
	t.Helper()
	return scanWindows(t, path, small, least)
}

func scanWindows(t *testing.T, path string, opts pcap.ReaderOptions, least int) (*witness, error) {
	t.Helper()
	scan := func(a pcap.Analysis, hide bool) (*pcap.Reader, error) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		var src io.Reader = f
		if hide {
			src = struct{ io.Reader }{f}
		}
		return pcap.Scan(context.Background(), src, opts, a)
	}
	windows, single := &witness{}, &witness{}
	r, err := scan(windows, false)
	r1, err1 := scan(plain{single}, true)
	if !slices.Equal(windows.all, single.all) {
		t.Errorf("in windows there are %d packets, else %d, or they differ", len(windows.all), len(single.all))
	}
	if (err == nil) != (err1 == nil) || err != nil && err.Error() != err1.Error() {
		t.Errorf("in windows: %v; else: %v", err, err1)
	}
	if r.Packets() != r1.Packets() || r.Offset() != r1.Offset() {
		t.Errorf("in windows it ends behind %d packets at %d, else %d at %d", r.Packets(), r.Offset(), r1.Packets(), r1.Offset())
	}
	if windows.taken < least {
		t.Errorf("%d windows were taken, want %d at least", windows.taken, least)
	}
	return windows, err
}

func TestWindowsAgreeWithOneWalk(t *testing.T) {
	t.Parallel()
	const size = 600 << 10
	for name, c := range map[string]pcaptest.Classic{
		"little-endian": {SnapLen: 65535, Link: 1},
		"big-endian":    {Big: true, SnapLen: 65535, Link: 1},
		"nano":          {Nano: true, SnapLen: 65535, Link: 1},
		"patched":       {Patched: true, SnapLen: 65535, Link: 1},
		"swapped":       {Major: 2, Minor: 2, SnapLen: 65535, Link: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := scanBoth(t, settled(t, large(c, size, 1), name != "nano"), 10)
			if err != nil {
				t.Error(err)
			}
			if len(got.all) < 300 {
				t.Errorf("%d packets", len(got.all))
			}
		})
	}
	t.Run("packets of nothing", func(t *testing.T) {
		t.Parallel()
		c := pcaptest.Classic{SnapLen: 65535, Link: 1}
		b := c.Header()
		for i := range uint32(600 << 6) {
			b = append(b, c.Record(1_700_000_000, i, 0, 60, nil)...)
		}
		if _, err := scanBoth(t, settled(t, b, true), 10); err != nil {
			t.Error(err)
		}
	})
	t.Run("packets longer than a window", func(t *testing.T) {
		t.Parallel()
		c := pcaptest.Classic{SnapLen: 262144, Link: 1}
		b := c.Header()
		for i := range uint32(12) {
			b = append(b, c.Record(1_700_000_000, i, i*20_000, i*20_000, make([]byte, i*20_000))...)
		}
		if _, err := scanBoth(t, settled(t, b, true), 3); err != nil {
			t.Error(err)
		}
	})
	t.Run("times far apart", func(t *testing.T) {
		t.Parallel()
		c := pcaptest.Classic{SnapLen: 65535, Link: 1}
		b := c.Header()
		for i := uint32(0); len(b) < size; i++ {
			b = append(b, c.Record(i*100_000_000, i, 1000, 1000, make([]byte, 1000))...)
		}
		if _, err := scanBoth(t, settled(t, b, true), 10); err != nil {
			t.Error(err)
		}
	})
}

// Damage anywhere ends both walks at the same place with the same error.
func TestWindowsOfDamagedFiles(t *testing.T) {
	t.Parallel()
	c := pcaptest.Classic{SnapLen: 65535, Link: 1}
	whole := large(c, 600<<10, 4)
	for name, change := range map[string]func(b []byte) []byte{
		"cut": func(b []byte) []byte { return b[:len(b)-700] },
		"length in the second window": func(b []byte) []byte {
			at := recordAt(b, 300<<10)
			binary.LittleEndian.PutUint32(b[at+8:], 1<<30)
			return b
		},
		"longer than the rest": func(b []byte) []byte {
			at := recordAt(b, len(b)-3000)
			binary.LittleEndian.PutUint32(b[at+8:], 200_000)
			return b
		},
		"zeros": func(b []byte) []byte {
			at := recordAt(b, 400<<10)
			clear(b[at:])
			return b[:at+(len(b)-at)/16*16+7]
		},
		"noise": func(b []byte) []byte {
			random := rand.New(rand.NewPCG(9, 9)) //nolint:gosec // the same bytes each time are wanted
			for i := recordAt(b, 200<<10); i < len(b); i++ {
				b[i] = byte(random.Uint32())
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := scanBoth(t, settled(t, change(slices.Clone(whole)), true), 1); err == nil {
				t.Error("no error")
			}
		})
	}
}

// recordAt gives where the first record behind a place begins.
func recordAt(b []byte, place int) int {
	at := 24
	for at < place {
		at += 16 + int(binary.LittleEndian.Uint32(b[at+8:]))
	}
	return at
}

// A file that shrinks while it is mapped gives what was there and an error, and no
// crash.
func TestFileShrinksWhileItIsRead(t *testing.T) {
	t.Parallel()
	whole := large(pcaptest.Classic{SnapLen: 65535, Link: 1}, 900<<10, 5)
	for _, keep := range []int64{100_000, 300<<10 + 77} {
		for _, when := range []int{0, 1} {
			path := settled(t, whole, true)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			n := &witness{}
			n.taking = func(*pcap.Window) {
				if n.taken == when {
					if err := os.Truncate(path, keep); err != nil {
						t.Error(err)
					}
				}
			}
			_, err = pcap.Scan(context.Background(), f, small, n)
			_ = f.Close()
			if !errors.Is(err, pcap.ErrTruncated) {
				t.Errorf("cut to %d: error %v", keep, err)
			}
			for i, p := range n.all {
				if p.number != uint64(i+1) {
					t.Fatalf("cut to %d: packet %d has the number %d", keep, i+1, p.number)
				}
			}
		}
	}
}

// What is appended while the file is read is read too, and a context ends it all.
func TestScanOfGrowingFileAndContext(t *testing.T) {
	t.Parallel()
	c := pcaptest.Classic{SnapLen: 65535, Link: 1}
	path := settled(t, large(c, 600<<10, 6), true)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	n := &witness{}
	n.taking = func(*pcap.Window) {
		if n.taken == 0 {
			w, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = w.Write(c.Record(1_700_000_000, 1, 3, 3, []byte("new")))
			_ = w.Close()
		}
	}
	r, err := pcap.Scan(context.Background(), f, small, n)
	if err != nil || len(n.all) == 0 || n.all[len(n.all)-1].length != 3 || r.Packets() != uint64(len(n.all)) {
		t.Errorf("%d packets, error %v", len(n.all), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	stopped := &witness{taking: func(*pcap.Window) { cancel() }}
	if _, err := pcap.Scan(ctx, f, small, stopped); !errors.Is(err, context.Canceled) || stopped.taken != 1 {
		t.Errorf("after %d windows: %v", stopped.taken, err)
	}
}

// Whatever a file holds, windows of a few records agree with one walk.
func FuzzWindows(f *testing.F) {
	for _, c := range []pcaptest.Classic{{SnapLen: 65535, Link: 1}, {Big: true, Nano: true, Link: 101}, {Patched: true, Link: 113}} {
		f.Add(large(c, 4000, 3), uint16(100))
		f.Add(large(c, 4000, 3)[:3000], uint16(700))
	}
	f.Fuzz(func(t *testing.T, b []byte, window uint16) {
		if len(b) < 24 || len(b) > 1<<16 {
			return
		}
		_, _ = scanWindows(t, settled(t, b, window%2 == 0), pcap.ReaderOptions{Window: int64(max(window, 40))}, 0) // it compares by itself
	})
}
