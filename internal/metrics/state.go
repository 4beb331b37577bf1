package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"capfleet/internal/jobs"
)

// state is what is asked of its owners at each scrape.
type state struct {
	opts Options

	tasks, jobs, paused, oldest                      *prometheus.Desc
	size, free, commits, writing, readers, writeable *prometheus.Desc
	devices, failing                                 *prometheus.Desc
}

func newState(opts Options) *state {
	desc := func(subsystem, name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
	}
	return &state{
		opts:   opts,
		tasks:  desc("", "tasks", "Tasks of unfinished jobs that have not ended, by state.", "state"),
		jobs:   desc("", "jobs_unfinished", "Jobs that have not finished."),
		paused: desc("", "jobs_paused", "Unfinished jobs that are paused."),
		oldest: desc("", "oldest_unfinished_job_timestamp_seconds", "When the oldest unfinished job was made; absent when there is none."),

		size:      desc("ledger", "size_bytes", "Size of the ledger's file."),
		free:      desc("ledger", "free_bytes", "Part of the ledger's file that is free for reuse."),
		commits:   desc("ledger", "commits_total", "Transactions in the ledger's file since it was made or compacted."),
		writing:   desc("ledger", "write_seconds_total", "Time spent writing and syncing the ledger since start."),
		readers:   desc("ledger", "read_transactions", "Snapshots of the ledger that are open."),
		writeable: desc("ledger", "writable", "Whether the ledger takes changes; 0 needs a restart and a look at the log."),

		devices: desc("", "devices", "Devices in the inventory in force.", "platform"),
		failing: desc("", "devices_last_task_failed", "Devices of the inventory whose last task failed.", "platform"),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.tasks, s.jobs, s.paused, s.oldest, s.size, s.free, s.commits, s.writing, s.readers,
		s.writeable, s.devices, s.failing} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if q, err := s.opts.Queue(ctx); err != nil {
		ch <- prometheus.NewInvalidMetric(s.tasks, err)
	} else {
		for _, state := range []jobs.State{jobs.Pending, jobs.Waiting, jobs.Running} {
			gauge(s.tasks, float64(q.Tasks[state]), string(state))
		}
		gauge(s.jobs, float64(q.Jobs))
		gauge(s.paused, float64(q.Paused))
		if !q.Oldest.IsZero() {
			gauge(s.oldest, float64(q.Oldest.Unix()))
		}
	}
	if l, err := s.opts.Ledger(); err != nil {
		ch <- prometheus.NewInvalidMetric(s.size, err)
	} else {
		gauge(s.size, float64(l.Bytes))
		gauge(s.free, float64(l.FreeBytes))
		gauge(s.readers, float64(l.Readers))
		gauge(s.writeable, number(l.Writable))
		ch <- prometheus.MustNewConstMetric(s.commits, prometheus.CounterValue, float64(l.Commits))
		ch <- prometheus.MustNewConstMetric(s.writing, prometheus.CounterValue, l.WriteTime.Seconds())
	}
	if fleet, err := s.opts.Fleet(ctx); err != nil {
		ch <- prometheus.NewInvalidMetric(s.devices, err)
	} else {
		for platform, f := range fleet {
			gauge(s.devices, float64(f.Devices), platform)
			gauge(s.failing, float64(f.Failing), platform)
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
