package path_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/path"
)

func analyze(t *testing.T, hops []path.Hop, opts path.Options) *path.Result {
	t.Helper()
	r, err := path.Analyze(t.Context(), hops, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// traffic plays some conversations at once.
func (n *network) traffic() {
	for i := range 4 {
		n.tcp(time.Duration(i)*7*time.Millisecond, uint16(40000+i), 3+i)
	}
	n.udp(3*time.Millisecond, 50000, 15)
}

// Of a thousand faults the first lossy link is named in at least 99 of a hundred, and
// where nothing is lost nothing is said to be.
func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	wrong := 0
	const faults = 1000
	for seed := range uint64(faults) {
		n := newNetwork(seed, 3+int(seed%3))
		at, direction := int(seed)%len(n.links), int(seed/7)%2
		kind := seed % 5
		switch kind {
		case 0:
			n.links[at].loss[direction] = 1
		case 1:
			n.links[at].loss[direction] = 0.02 + n.rng.Float64()/2
		case 2, 3:
			n.links[at].loss[direction] = 0.1 + n.rng.Float64()/4
			// Something translates, before or behind.
			n.links[int(seed/11)%len(n.links)].nat = netip.MustParseAddr("203.0.113.5")
			if kind == 3 {
				n.links[int(seed/13)%len(n.links)].seq = n.rng.Uint32()
			}
		}
		n.traffic()
		r := analyze(t, n.hops(true), path.Options{})
		// What was truly lost, by the packets that each place saw and the next did not.
		lost := kind != 4 && n.lostAt(at, direction)
		names := func() (string, string) {
			hops := n.hops(true)
			if direction == 0 {
				return hops[at].Name, hops[at+1].Name
			}
			return hops[at+1].Name, hops[at].Name
		}
		from, to := names()
		switch v := r.Verdict; {
		case lost && (v.Status != path.Lost || v.Last != from || v.Missing != to):
			wrong++
			t.Logf("seed %d: lost between %s and %s: %+v", seed, from, to, v)
		case !lost && v.Status == path.Lost:
			wrong++
			t.Logf("seed %d: nothing was lost: %+v", seed, v)
		}
	}
	if wrong*100 > faults {
		t.Errorf("%d of %d are wrong", wrong, faults)
	}
}

// lostAt reports whether the places on both sides of a link truly saw different
// numbers of packets of a direction.
func (n *network) lostAt(link, direction int) bool {
	count := func(place int) (c int) {
		for _, f := range n.seen[place] {
			fromServer := bytes.Equal(f.data[26:30], server.AsSlice())
			if fromServer == (direction == 1) {
				c++
			}
		}
		return c
	}
	if direction == 0 {
		return count(link) > count(link+1)
	}
	return count(link+1) > count(link)
}

// Clocks are found to within 0.1 ms, and delays with them.
func TestClocks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		n := newNetwork(seed, 5)
		n.traffic()
		r := analyze(t, n.hops(true), path.Options{})
		for i, h := range r.Hops {
			if h.Offset == nil || h.OneWay {
				t.Fatalf("seed %d: no offset of %s", seed, h.Name)
			}
			if want := (n.clocks[i] - n.clocks[0]).Seconds(); math.Abs(*h.Offset-want) > 1e-4 {
				t.Errorf("seed %d: the clock of %s is %v ahead, %v was found", seed, h.Name, want, *h.Offset)
			}
		}
		for i, l := range r.Links {
			want := n.links[i/2].delay.Seconds()
			if l.Delay == nil || math.Abs(l.Delay.Min-want) > 1e-4 || l.Delay.Median < l.Delay.Min || l.Delay.Max < l.Delay.P99 {
				t.Errorf("seed %d, %s to %s: %+v, the way takes %v", seed, l.From, l.To, l.Delay, want)
			}
		}
	}
}

// Offloading cuts the stream otherwise at a place; nothing is lost by that, and what is
// lost besides is found.
func TestSegmentsCutOtherwise(t *testing.T) {
	t.Parallel()
	for _, loss := range []float64{0, 0.3} {
		n := newNetwork(3, 3)
		n.links[0].merge = true
		n.links[1].loss[1] = loss
		a, b, at := uint32(1000), uint32(5000), time.Duration(0)
		n.send(at, wire{away: true, port: 4000, seq: a - 1, flags: syn})
		n.send(at, wire{port: 4000, seq: b - 1, ack: a, flags: syn | ack})
		for range 40 {
			part := n.random(500)
			n.reliably(at, wire{port: 4000, seq: b, ack: a, flags: ack, payload: part}, 9)
			b += uint32(len(part))
			at += 100 * time.Microsecond
		}
		r := analyze(t, n.hops(true), path.Options{})
		recut := uint64(0)
		for _, l := range r.Links {
			recut += l.Recut
		}
		if loss == 0 && (r.Verdict.Status == path.Lost || recut == 0) {
			t.Errorf("%+v, %d are cut otherwise", r.Verdict, recut)
		}
		if loss > 0 && (r.Verdict.Status != path.Lost || r.Verdict.Last != "server") {
			t.Errorf("%+v", r.Verdict)
		}
	}
}

// A translation that nobody told of is found, and one that was told is not.
func TestTranslations(t *testing.T) {
	t.Parallel()
	n := newNetwork(5, 3)
	n.links[1].nat = netip.MustParseAddr("203.0.113.5")
	n.traffic()
	r := analyze(t, n.hops(true), path.Options{})
	if len(r.Mappings) != 1 || r.Mappings[0].From != "10.1.0.7" || r.Mappings[0].To != "203.0.113.5" || r.Mappings[0].Kind != "source_nat" || r.Mappings[0].Between != [2]string{"fw-in", "server"} {
		t.Errorf("%+v", r.Mappings)
	}
	if r.Verdict.Status != path.Complete {
		t.Errorf("%+v", r.Verdict)
	}
	hops := n.hops(true)
	hops[2].Maps = []path.Map{{From: client, To: n.links[1].nat}}
	if r = analyze(t, hops, path.Options{}); len(r.Mappings) != 0 || r.Verdict.Status != path.Complete {
		t.Errorf("%+v %+v", r.Mappings, r.Verdict)
	}
}

// What could be explained by the capture itself proves nothing.
func TestInconclusive(t *testing.T) {
	t.Parallel()
	n := newNetwork(9, 3)
	n.links[1].loss[0] = 0.2
	n.traffic()
	hops := n.hops(true)
	lost := analyze(t, n.hops(true), path.Options{}).Verdict.Packets
	if lost == 0 {
		t.Fatal("nothing was lost")
	}
	hops[2].Drops = lost
	if v := analyze(t, hops, path.Options{}).Verdict; v.Status != path.Inconclusive || !strings.Contains(v.Sentence, "lost "+fmt.Sprint(lost)+" packets itself") {
		t.Errorf("%+v", v)
	}
	hops = n.hops(true)
	hops[2].Drops = lost - 1
	if v := analyze(t, hops, path.Options{}).Verdict; v.Status != path.Lost {
		t.Errorf("%+v", v)
	}

	// Nothing at all at the server: the capture may not have run.
	n = newNetwork(10, 3)
	n.links[1].loss[0] = 1
	n.traffic()
	if v := analyze(t, n.hops(false), path.Options{}).Verdict; v.Status != path.Inconclusive || v.Last != "fw-in" || v.Missing != "server" {
		t.Errorf("%+v", v)
	}
	if v := analyze(t, n.hops(false), path.Options{Whole: true}).Verdict; v.Status != path.Lost || v.Last != "fw-in" {
		t.Errorf("%+v", v)
	}
	// It ended before: no packet that came later proves anything.
	hops = n.hops(true)
	ended := hops[2].Began.Add(time.Second)
	hops[2].Ended = &ended
	if v := analyze(t, hops, path.Options{}).Verdict; v.Status == path.Lost {
		t.Errorf("%+v", v)
	}
}

// What came to the last place and was not answered is behind it.
func TestBehindTheLastPlace(t *testing.T) {
	t.Parallel()
	n := newNetwork(11, 3)
	for i := range 3 {
		n.send(time.Duration(i)*time.Second, wire{away: true, port: 4000, seq: 7, flags: syn})
	}
	if v := analyze(t, n.hops(true), path.Options{}).Verdict; v.Status != path.Unanswered || v.Last != "server" {
		t.Errorf("%+v", v)
	}
	n.send(3*time.Second, wire{port: 4000, seq: 0, ack: 8, flags: rst | ack})
	if v := analyze(t, n.hops(true), path.Options{}).Verdict; v.Status != path.Refused {
		t.Errorf("%+v", v)
	}
}

func TestLadder(t *testing.T) {
	t.Parallel()
	n := newNetwork(12, 3)
	n.send(0, wire{away: true, port: 4000, seq: 7, flags: syn})
	n.send(20*time.Millisecond, wire{port: 4000, seq: 9, ack: 8, flags: syn | ack})
	n.links[0].loss[0] = 1
	n.send(40*time.Millisecond, wire{away: true, port: 4000, seq: 8, ack: 10, flags: ack, payload: []byte("hello")})
	got := analyze(t, n.hops(true), path.Options{Ladder: 2}).Ladder
	const want = `10.1.0.7:4000 and 192.0.2.9:443, tcp
                                  client          fw-in           server
  0.000000 SYN                    |-------------->|-------------->|
  0.020000 SYN,ACK                |<--------------|<--------------|
... and 1 more
`
	shown := strings.Split(got, "\n")
	for i, line := range strings.Split(want, "\n") {
		// The time of the answer is of the place that saw it first, and varies.
		if i >= len(shown) || len(line) > 12 && (len(shown[i]) < 12 || shown[i][11:] != line[11:]) {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
	if got = analyze(t, n.hops(true), path.Options{Ladder: 9}).Ladder; !strings.Contains(got, "5 bytes") || !strings.Contains(got, "|-------x       |               |") {
		t.Errorf("got\n%s", got)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	if _, err := path.Analyze(t.Context(), make([]path.Hop, 1), path.Options{}); err == nil {
		t.Error("one place is no path")
	}
	n := newNetwork(13, 3)
	n.traffic()
	hops := n.hops(true)
	hops[1].Captures = append(hops[1].Captures, path.Capture{Name: "bad.pcap", Reader: strings.NewReader("no capture")})
	r, err := path.Analyze(t.Context(), hops, path.Options{})
	if !errors.Is(err, pcap.ErrNotCapture) || !strings.Contains(err.Error(), "bad.pcap") || r.Hops[1].Error == "" || r.Verdict.Status != path.Complete {
		t.Errorf("%v, %+v", err, r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := path.Analyze(ctx, n.hops(true), path.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if r := analyze(t, []path.Hop{{Name: "a"}, {Name: "b"}}, path.Options{}); r.Verdict.Status != path.Nothing {
		t.Errorf("%+v", r.Verdict)
	}
}

// seedsOf gives what each hop of a network captured.
func seedsOf(f *testing.F, n *network) [][]byte {
	f.Helper()
	var seeds [][]byte
	for _, h := range n.hops(false) {
		var b bytes.Buffer
		if _, err := b.ReadFrom(h.Captures[0].Reader); err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, b.Bytes())
	}
	return seeds
}

// Whatever the captures hold, the counts add up.
func FuzzAnalyze(f *testing.F) {
	n := newNetwork(1, 3)
	n.links[1].loss[0] = 0.5
	n.tcp(0, 4000, 2)
	seeds := seedsOf(f, n)
	f.Add(seeds[0], seeds[1], seeds[2])
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		var hops []path.Hop
		for i, data := range [][]byte{a, b, c} {
			hops = append(hops, path.Hop{Name: string(rune('a' + i)), Captures: []path.Capture{{Name: "x", Reader: bytes.NewReader(data)}}})
		}
		r, err := path.Analyze(t.Context(), hops, path.Options{Ladder: 10})
		if r == nil {
			t.Fatal(err)
		}
		for _, l := range r.Links {
			if l.Sent != l.Seen+l.Lost+l.Outside || l.Duplicated > l.Appeared {
				t.Fatalf("%+v", l)
			}
		}
	})
}
