package cli

import (
	"net/netip"
	"testing"
	"time"

	"capfleet/internal/pcap/path"
)

// What is told of the time of a capture is what is sure of it.
func TestTracePlace(t *testing.T) {
	from := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	to, first := from.Add(30*time.Second), from.Add(75*time.Second)
	number := func(n uint64) *uint64 { return &n }
	seconds := func(s float64) *float64 { return &s }
	whole := traceRow{From: from, To: to, Offset: seconds(60), Within: seconds(0.5), Packets: 100, Captured: number(100), First: &first, Dropped: number(2), Lost: number(3)}
	told := func(change func(*traceRow)) path.Hop {
		row := whole
		change(&row)
		return row.place(hop{name: "in"}, nil)
	}
	began, ended := from.Add(60500*time.Millisecond), to.Add(59500*time.Millisecond)

	p := told(func(*traceRow) {})
	if p.Began == nil || !p.Began.Equal(began) || p.Ended == nil || !p.Ended.Equal(ended) || p.Drops != 5 || p.DropsUnknown || *p.Clock != time.Minute || p.ClockWithin != 500*time.Millisecond {
		t.Errorf("%+v", p)
	}
	if p = told(func(r *traceRow) { r.Packets = 40 }); p.Began == nil || !p.Began.Equal(first) || p.Ended == nil {
		t.Errorf("a ring that came round: %+v", p)
	}
	if p = told(func(r *traceRow) { r.Captured = nil }); p.Began != nil || p.Ended == nil {
		t.Errorf("a ring that may have come round: %+v", p)
	}
	if p = told(func(r *traceRow) { r.EndedBy = "floor" }); p.Began != nil || p.Ended != nil || p.Clock == nil {
		t.Errorf("a ring that ended by itself: %+v", p)
	}
	if p = told(func(r *traceRow) { r.Offset, r.Within = nil, nil }); p.Began != nil || p.Ended != nil || p.Clock != nil {
		t.Errorf("a clock that nobody knows: %+v", p)
	}
	if p = told(func(r *traceRow) { r.Dropped = nil }); !p.DropsUnknown {
		t.Errorf("drops that nobody knows: %+v", p)
	}
}

func TestTraceFilters(t *testing.T) {
	opts := traceOptions{
		hops:   []string{"client=web:eth0", "in=lb:0.0:nnnp", "out=lb:1.2", "server=db:eth0"},
		maps:   []string{"out:10.1.1.1=10.2.2.2", "server:192.0.2.1=192.0.2.9"},
		filter: "host 10.1.1.1 and not host 10.1.1.10 and net 192.0.2.1/32", duration: time.Minute, ring: "2x5MB", list: 1,
	}
	hops, err := opts.read()
	if err != nil {
		t.Fatal(err)
	}
	if h := hops[1]; h.device != "lb" || h.iface != "0.0:nnnp" {
		t.Errorf("%+v", h)
	}
	if m := hops[2].maps; len(m) != 1 || m[0].From != netip.MustParseAddr("10.1.1.1") {
		t.Errorf("%+v", m)
	}
	spec, devices, err := opts.request(hops)
	if err != nil {
		t.Fatal(err)
	}
	if len(devices) != 3 || !spec.AllOrNone || !spec.Evidence || spec.DurationSeconds != 60 || spec.LimitSeconds <= 60 {
		t.Errorf("%v %+v", devices, spec)
	}
	const before = "host 10.1.1.1 and not host 10.1.1.10 and net 192.0.2.1/32"
	const out = "(" + before + ") or (host 10.2.2.2 and not host 10.1.1.10 and net 192.0.2.1/32)"
	for i, want := range []string{before, before, out, out} {
		if got := spec.Points[i].Filter; got != want {
			t.Errorf("%s: %s", spec.Points[i].Interface, got)
		}
	}
	if spec.Points[1].Interface != "lb:0.0:nnnp" {
		t.Errorf("%+v", spec.Points)
	}
}

func TestTraceRefuses(t *testing.T) {
	for _, test := range []struct {
		hops, maps []string
	}{
		{[]string{"a=web:eth0"}, nil},
		{[]string{"a=web:eth0", "a=db:eth0"}, nil},
		{[]string{"a=web:eth0", "b=web:eth0"}, nil},
		{[]string{"a=web", "b=db:eth0"}, nil},
		{[]string{"web:eth0", "b=db:eth0"}, nil},
		{[]string{"a=web:eth0", "b=db:eth0"}, []string{"c:10.1.1.1=10.2.2.2"}},
		{[]string{"a=web:eth0", "b=db:eth0"}, []string{"b:10.1.1.1"}},
		{[]string{"a=web:eth0", "b=db:eth0"}, []string{"b:10.1.1.1=10.1.1"}},
	} {
		opts := traceOptions{hops: test.hops, maps: test.maps, duration: time.Second, list: 1}
		if _, err := opts.read(); err == nil {
			t.Errorf("%v %v is taken", test.hops, test.maps)
		}
	}
}
