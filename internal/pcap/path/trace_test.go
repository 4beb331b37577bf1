package path_test

import (
	"net/netip"
	"testing"
	"time"

	"capfleet/internal/pcap/path"
)

// Traffic that goes on before and after a capture is no loss, and leaves nothing in
// doubt, where it is told when the capture ran. Where nobody tells, the loss may be
// what ended it.
func TestTrafficThatGoesOn(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} {
		n := newNetwork(7, 3)
		for i := range 200 {
			n.udp(time.Duration(i)*50*time.Millisecond, uint16(40000+i%3), 1)
		}
		// The second place began later and ended earlier than the others.
		n.seen[1] = n.seen[1][20 : len(n.seen[1])-20]
		hops := n.hops(true)
		if first, last := n.seen[1][0].at, n.seen[1][len(n.seen[1])-1].at; told {
			from, to := epoch.Add(first), epoch.Add(last)
			hops[1].Began, hops[1].Ended = &from, &to
		} else {
			hops[1].Began, hops[1].Ended = nil, nil
		}
		res, err := path.Analyze(t.Context(), hops, path.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := path.Inconclusive
		if told {
			want = path.Complete
		}
		if res.Verdict.Status != want {
			t.Errorf("told %v: %+v", told, res.Verdict)
		}
		if told && len(res.Verdict.Notes) == 0 {
			t.Error("nothing is said of what was outside")
		}
	}
}

// Services that answer with the question do not hide a translation, whichever of the
// captures began first.
func TestEchoThroughTranslation(t *testing.T) {
	t.Parallel()
	for late := range 8 {
		n := newNetwork(uint64(late), 2)
		n.links[0].nat = netip.MustParseAddr("198.51.100.1")
		n.links[0].routed = true
		at := time.Duration(0)
		for range 60 {
			question := n.random(40)
			arrived, _ := n.send(at, wire{away: true, udp: true, port: 40000, payload: question})
			n.send(arrived, wire{udp: true, port: 40000, payload: question})
			at += 20 * time.Millisecond
		}
		n.seen[1] = n.seen[1][late*3:]
		hops := n.hops(true)
		from := epoch.Add(n.seen[1][0].at)
		hops[1].Began = &from
		res, err := path.Analyze(t.Context(), hops, path.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if res.Verdict.Status != path.Complete || len(res.Mappings) != 1 || res.Mappings[0].From != client.String() || res.Mappings[0].To != "198.51.100.1" {
			t.Errorf("%d packets late: %+v %+v", late*3, res.Verdict, res.Mappings)
		}
	}
}

// A question that came just before the end of a capture is not unanswered.
func TestQuestionAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{100 * time.Millisecond, 5 * time.Second} {
		n := newNetwork(3, 2)
		n.udp(0, 40000, 5)
		n.send(time.Second, wire{away: true, udp: true, port: 40001, payload: n.random(40)})
		hops := n.hops(true)
		ended := epoch.Add(n.seen[1][len(n.seen[1])-1].at + after)
		hops[1].Ended = &ended
		res, err := path.Analyze(t.Context(), hops, path.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := path.Unanswered
		if after < time.Second {
			want = path.Complete
		}
		if res.Verdict.Status != want {
			t.Errorf("%v after it: %+v", after, res.Verdict)
		}
	}
}

// Where places have nothing in common, what is told of their clocks stands in.
func TestToldClocks(t *testing.T) {
	t.Parallel()
	n := newNetwork(5, 2)
	n.clocks = []time.Duration{-40 * time.Second, 30 * time.Second}
	n.links[0].loss[0] = 1
	n.udp(10*time.Second, 40000, 50)
	hops := n.hops(true)
	for i := range hops {
		from, to := epoch.Add(n.clocks[i]+9*time.Second), epoch.Add(n.clocks[i]+12*time.Second)
		clock := n.clocks[i]
		hops[i].Began, hops[i].Ended, hops[i].Clock, hops[i].ClockWithin = &from, &to, &clock, 10*time.Millisecond
	}
	// The far capture came round: it is told to have run from later on.
	late := hops[1].Began.Add(1500 * time.Millisecond)
	hops[1].Began = &late
	res, err := path.Analyze(t.Context(), hops, path.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v := res.Verdict; v.Status != path.Lost || v.Packets < 20 || v.Packets > 30 {
		t.Errorf("%+v", v)
	}
}
