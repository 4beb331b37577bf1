package merge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/merge"
	"capfleet/internal/pcap/pcaptest"
)

// event is a packet by its time in microseconds and its payload.
type event struct {
	At   int64
	Name string
}

func capture(t interface{ Fatal(...any) }, events []event) []byte {
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 0, pcap.Nanoseconds)
	for _, e := range events {
		data := frame(e.Name)
		err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Data: data, Length: uint32(len(data)),
			Time: pcap.Timestamp{Sec: 1e9}.Add(time.Duration(e.At) * time.Microsecond)}))
	}
	if err := errors.Join(err, w.Flush()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func frame(name string) []byte {
	return pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP([]byte(name)...)...)...)
}

// merged gives what Merge wrote, each with the name of its interface before it.
func merged(t interface{ Fatal(...any) }, sources ...merge.Source) ([]event, merge.Result, error) {
	var b bytes.Buffer
	w, err := pcap.NewNGWriter(&b, pcap.Section{})
	if err != nil {
		t.Fatal(err)
	}
	result, failed := merge.Merge(context.Background(), sources, w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r, err := pcap.NewReader(&b, pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var events []event
	for {
		var p pcap.Packet
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return events, result, failed
		} else if err != nil {
			t.Fatal(err)
		}
		at := (p.Time.Sec-1e9)*1e6 + int64(p.Time.Nanos)/1000
		events = append(events, event{at, r.Interfaces()[p.Interface].Name + ":" + string(p.Data[42:])})
	}
}

func source(name string, offset time.Duration, parts ...[]byte) merge.Source {
	s := merge.Source{Name: name, Offset: offset}
	for i, p := range parts {
		s.Parts = append(s.Parts, merge.Part{Name: fmt.Sprintf("%s.%d", name, i), Capture: bytes.NewReader(p)})
	}
	return s
}

// Whatever a ring's files overlap by, each packet is there once, and its real
// repetitions as often as they were.
func TestRingsAndClocks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want []event
		var sources []merge.Source
		for s := range rapid.IntRange(1, 3).Draw(t, "sources") {
			name := string(rune('a' + s))
			offset := rapid.Int64Range(-50, 50).Draw(t, "offset")
			// Few names and times, so that packets repeat.
			var all []event
			at := int64(100)
			for range rapid.IntRange(0, 12).Draw(t, "packets") {
				at += rapid.Int64Range(0, 2).Draw(t, "step")
				e := event{at, rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")}
				all = append(all, e)
				want = append(want, event{e.At + offset, name + ":" + e.Name})
			}
			// The files: windows of time that overlap and leave nothing out.
			var parts [][]byte
			for from := int64(0); from <= at; {
				to := from + rapid.Int64Range(1, 40).Draw(t, "length")
				until := to + rapid.Int64Range(0, 5).Draw(t, "overlap")
				parts = append(parts, capture(t, slices.DeleteFunc(slices.Clone(all), func(e event) bool { return e.At < from || e.At >= until })))
				from = to
			}
			if len(parts) == 0 {
				parts = append(parts, capture(t, nil))
			}
			sources = append(sources, source(name, time.Duration(offset)*time.Microsecond, parts...))
		}
		got, result, err := merged(t, sources...)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(got, func(a, b event) int { return int(a.At - b.At) }) {
			t.Fatalf("not in order: %v", got)
		}
		order := func(a, b event) int { return int(a.At-b.At)*10 + strings.Compare(a.Name, b.Name) }
		slices.SortStableFunc(want, order)
		slices.SortStableFunc(got, order)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if result.Packets != uint64(len(want)) {
			t.Fatalf("%+v", result)
		}
	})
}

// A part that is damaged gives what was before the damage; the others are whole.
func TestDamagedPart(t *testing.T) {
	t.Parallel()
	whole := capture(t, []event{{1, "a"}, {3, "b"}})
	cut := capture(t, []event{{2, "c"}, {4, "d"}})
	got, result, err := merged(t, source("good", 0, whole), source("bad", 0, cut[:len(cut)-3]), source("none", 0, []byte("no capture")), source("empty", 0, nil))
	if diff := cmp.Diff([]event{{1, "good:a"}, {2, "bad:c"}, {3, "good:b"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !errors.Is(err, pcap.ErrTruncated) || !errors.Is(err, pcap.ErrNotCapture) || !strings.Contains(err.Error(), "bad.0: ") || !strings.Contains(err.Error(), "none.0: ") {
		t.Errorf("%v", err)
	}
	for i, want := range []bool{false, true, true, true} {
		if (result.Parts[i].Error != "") != want {
			t.Errorf("%+v", result.Parts[i])
		}
	}
}

// Packets without a time have no place; they are told, and the rest is merged.
func TestUntimed(t *testing.T) {
	t.Parallel()
	ng := pcaptest.NG{}
	src := bytes.Join([][]byte{ng.Section(), ng.Interface(1, 0), ng.Simple(uint32(len(frame("s"))), frame("s")), ng.Enhanced(0, 1_000_000_000_000_001, 50, frame("e"))}, nil)
	got, result, err := merged(t, source("a", 0, src))
	if diff := cmp.Diff([]event{{1, "a:e"}}, got); diff != "" || result.Parts[0].Untimed != 1 || err == nil {
		t.Errorf("%+v %v\n%s", result, err, diff)
	}
}

// mergecap puts the same packets into the same order.
func TestAsMergecap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var files []string
	var sources []merge.Source
	for i := range 4 {
		var events []event
		for j := range 50 {
			events = append(events, event{int64(j*7 + i*3%5), fmt.Sprintf("%d.%d", i, j)})
		}
		c := capture(t, events)
		files = append(files, filepath.Join(dir, fmt.Sprint(i)))
		if err := os.WriteFile(files[i], c, 0o600); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, source(fmt.Sprint(i), 0, c))
	}
	theirs := filepath.Join(dir, "merged")
	if out, err := exec.CommandContext(t.Context(), "mergecap", append([]string{"-w", theirs}, files...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	var names [2][]string
	for i, sources := range [][]merge.Source{sources, {source("", 0, b)}} {
		got, _, err := merged(t, sources...)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			names[i] = append(names[i], e.Name[strings.LastIndex(e.Name, ":")+1:])
		}
	}
	if diff := cmp.Diff(names[1], names[0]); diff != "" {
		t.Errorf("(-mergecap +ours):\n%s", diff)
	}
}

// Drops that a capture tells of are in the result.
func TestDropsStay(t *testing.T) {
	t.Parallel()
	ng := pcaptest.NG{}
	src := bytes.Join([][]byte{ng.Section(), ng.Interface(1, 0), ng.Enhanced(0, 1, 50, frame("e")), ng.Statistics(0, 9, 4)}, nil)
	var b bytes.Buffer
	w, err := pcap.NewNGWriter(&b, pcap.Section{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := merge.Merge(t.Context(), []merge.Source{source("a", 0, src)}, w); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r, err := pcap.NewReader(&b, pcap.ReaderOptions{})
	for err == nil {
		err = r.Next(&pcap.Packet{})
	}
	if i := r.Interfaces()[0]; i.Dropped != 4 || i.Received != 9 || i.Name != "a" {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestMergeEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, err := pcap.NewNGWriter(io.Discard, pcap.Section{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := merge.Merge(ctx, []merge.Source{source("a", 0, capture(t, []event{{1, "x"}}))}, w); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
