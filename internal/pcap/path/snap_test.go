package path_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/path"
)

// changed gives a capture with each packet changed.
func changed(t *testing.T, c path.Capture, link pcap.LinkType, change func(*pcap.Packet)) path.Capture {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, link, 0, pcap.Nanoseconds)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcap.NewReader(c.Reader, pcap.ReaderOptions{})
	for err == nil {
		var p pcap.Packet
		if err = r.Next(&p); err == nil {
			change(&p)
			err = w.Write(&p)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return path.Capture{Name: c.Name, Reader: &b}
}

// cutTo cuts packets to a snap length.
func cutTo(snap int) func(*pcap.Packet) {
	return func(p *pcap.Packet) { p.Data = p.Data[:min(len(p.Data), snap)] }
}

// echo plays pings of a size through the network; half of the answers are large.
func (n *network) echoes(count, size int) {
	for i := range count {
		at := time.Duration(i) * 20 * time.Millisecond
		body := binary.BigEndian.AppendUint16([]byte{8, 0, 0, 0, 0, 7}, uint16(i))
		n.send(at, wire{away: true, icmp: append(body, n.random(size)...)})
		n.send(at+10*time.Millisecond, wire{icmp: append([]byte{0, 0, 0, 0, 0, 7, 0, byte(i)}, n.random(size)...)})
	}
}

// Captures of one path may keep different lengths of packets: what one of them lacks
// makes no packet another one, and a loss is still found.
func TestSnapLengthsThatDiffer(t *testing.T) {
	t.Parallel()
	for _, snap := range []int{42, 50, 54, 60, 68, 96} {
		for _, loss := range []float64{0, 0.2} {
			for _, nat := range []bool{false, true} {
				n := newNetwork(uint64(snap), 3)
				n.links[1].loss[0] = loss
				if nat && snap > 42 { // of headers alone no translation can be found
					n.links[0].nat = netip.MustParseAddr("203.0.113.5")
				}
				if snap >= 54 { // less cuts the headers of TCP
					n.traffic()
				} else {
					n.udp(3*time.Millisecond, 50000, 40)
				}
				n.echoes(20, 100)
				lost := n.lostAt(1, 0)
				hops := n.hops(true)
				hops[1].Captures[0] = changed(t, hops[1].Captures[0], pcap.LinkEthernet, cutTo(snap))
				switch v := analyze(t, hops, path.Options{}).Verdict; {
				case lost && (v.Status != path.Lost || v.Last != "fw-in" || v.Missing != "server"):
					t.Errorf("snap length %d, translated %v: %+v", snap, nat, v)
				case !lost && v.Status != path.Complete:
					t.Errorf("snap length %d, translated %v, nothing is lost: %+v", snap, nat, v)
				}
			}
		}
	}
}

// What was cut within its headers may be any packet, and so proves no loss.
func TestCutHeaders(t *testing.T) {
	t.Parallel()
	for _, snap := range []int{20, 30, 40, 50} {
		n := newNetwork(3, 3)
		n.traffic()
		hops := n.hops(true)
		hops[1].Captures[0] = changed(t, hops[1].Captures[0], pcap.LinkEthernet, cutTo(snap))
		r := analyze(t, hops, path.Options{})
		if v := r.Verdict; v.Status != path.Inconclusive || !strings.Contains(v.Sentence, "too little was captured") || r.Hops[1].Cut == 0 {
			t.Errorf("snap length %d: %d cut, %+v", snap, r.Hops[1].Cut, v)
		}
	}
}

// Clocks that run at different speeds, or are put right meanwhile, lose no packet, and
// the offset is that in the middle.
func TestClocksThatDrift(t *testing.T) {
	t.Parallel()
	for name, clock := range map[string]struct {
		ppm  float64
		jump time.Duration
	}{"alike": {}, "slow": {ppm: -30}, "fast": {ppm: 50}, "very fast": {ppm: 400}, "a jump": {jump: 40 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(5, 3)
			n.links[1].loss[1] = 0.05
			for i := range 100 {
				at := time.Duration(i) * 3 * time.Second
				n.tcp(at, uint16(10000+i), 3)
				n.udp(at+3*time.Millisecond, uint16(20000+i), 3)
			}
			for i := range n.seen[1] {
				f := &n.seen[1][i]
				f.at += time.Duration(float64(f.at) * clock.ppm / 1e6)
				if f.at > 150*time.Second {
					f.at += clock.jump
				}
			}
			hops := n.hops(false)
			first, ladder := analyze(t, hops[:2], path.Options{}), analyze(t, n.hops(false), path.Options{Ladder: 5})
			if v := first.Verdict; v.Status != path.Complete {
				t.Errorf("%+v", v)
			}
			if v := ladder.Verdict; v.Status != path.Lost || v.Last != "server" || v.Missing != "fw-in" || ladder.Links[0].Lost != 0 || ladder.Links[1].Lost != 0 {
				t.Errorf("%+v %+v", v, ladder.Links)
			}
			if clock.jump != 0 {
				return
			}
			h := first.Hops[1]
			at := float64(h.First.UnixNano()+h.LastAt.UnixNano())/2e9 - float64(epoch.UnixNano())/1e9
			want := n.clocks[1].Seconds() - n.clocks[0].Seconds() + at*clock.ppm/1e6
			// A second of a clock that gains 400 ppm is 0.4 ms.
			if math.Abs(*h.Offset-want) > 1e-4+5*math.Abs(clock.ppm)/1e6 || math.Abs(h.Drift-clock.ppm) > 0.5 {
				t.Errorf("offset %v, drift %v ppm, want %v and %v", *h.Offset, h.Drift, want, clock.ppm)
			}
			if d := first.Links[0].Delay; d == nil || d.Min < 0 && d.Min < -1e-4 || math.Abs(d.Median-n.links[0].delay.Seconds()) > 2e-4 {
				t.Errorf("%+v, the way takes %v", d, n.links[0].delay)
			}
		})
	}
}

// What a link layer does not tell has not changed.
func TestDiffOfLinkLayers(t *testing.T) {
	t.Parallel()
	all := frames(t)
	tagged := make([][]byte, len(all))
	for i, data := range all {
		tagged[i] = slices.Concat(data[:12], []byte{0x81, 0, 0, 7}, data[12:])
	}
	raw := changed(t, capture(t, "raw", all), pcap.LinkRaw, func(p *pcap.Packet) {
		p.Data, p.Length, p.Link = p.Data[14:], p.Length-14, pcap.LinkRaw
	})
	s, err := path.Diff(t.Context(), capture(t, "tagged", tagged), raw, func(*path.Fate) error { return nil })
	if err != nil || s.Forwarded != uint64(len(all)) || s.Changed != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	_, s = diffed(t, tagged, all)
	if fmt.Sprint(s.Fields) != fmt.Sprintf("map[vlan:%d]", len(all)) {
		t.Errorf("%+v", s)
	}
}
