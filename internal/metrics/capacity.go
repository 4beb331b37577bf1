package metrics

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Capacity is what the history of storage leads to, added up over the fleet. Which
// device it is about, `fleetctl report capacity` tells.
type Capacity struct {
	Kind       string         // rotation-file or filesystem
	States     map[string]int // how many are filling, full, unknown
	FullWithin map[int]int    // by days: how many of those that fill are full by then
	Shortest   *float64       // least retention of a full one, in seconds; nil when none tells
	Outlives   int            // rings whose metadata reaches further back than their packets
}

// foresight is what is derived from events: capacity over time, and the outbox.
type foresight struct {
	opts                                          Options
	series, within, shortest, outlives, notifying *prometheus.Desc
}

func newForesight(opts Options) *foresight {
	desc := func(subsystem, name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
	}
	return &foresight{
		opts:      opts,
		series:    desc("capacity", "series", "Rings and file systems whose use is known, by kind and state.", "kind", "state"),
		within:    desc("capacity", "full_within", "Rings and file systems that are expected to be full within so many days.", "kind", "days"),
		shortest:  desc("capacity", "shortest_retention_seconds", "How far back the full ring reaches that reaches back least; absent when none tells."),
		outlives:  desc("capacity", "vision_outlives_packets", "Rings whose Vision metadata reaches further back than their packets."),
		notifying: desc("notify", "waiting", "Messages and results that a receiver has not taken yet, by kind of receiver.", "kind"),
	}
}

// Describe implements prometheus.Collector.
func (f *foresight) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.series, f.within, f.shortest, f.outlives, f.notifying} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *foresight) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if f.opts.Capacity != nil {
		outlives := 0
		for _, c := range f.opts.Capacity() {
			for state, n := range c.States {
				gauge(f.series, float64(n), c.Kind, state)
			}
			for days, n := range c.FullWithin {
				gauge(f.within, float64(n), c.Kind, strconv.Itoa(days))
			}
			if c.Shortest != nil {
				gauge(f.shortest, *c.Shortest)
			}
			outlives += c.Outlives
		}
		gauge(f.outlives, float64(outlives))
	}
	if f.opts.Outbox == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	waiting, err := f.opts.Outbox(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.notifying, err)
		return
	}
	for kind, n := range waiting {
		gauge(f.notifying, float64(n), kind)
	}
}
