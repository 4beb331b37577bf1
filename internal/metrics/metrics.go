// Package metrics gives fleetd's figures to Prometheus: the queue, the devices,
// SSH and the ledger. It is the one place that knows the names of metrics.
//
// What is a state (tasks by state, the size of the ledger) is asked of its owner
// when somebody scrapes; what is a history (tasks ended, dials) is counted as it
// happens, from the engine's events and around the dialer, and begins at zero with
// each start, as Prometheus expects. Labels are bounded by the program, never by
// the fleet: no metric has a label for a device, a job or a user.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
)

// namespace begins the name of every metric of ours.
const namespace = "fleetd"

// scrapeTimeout bounds how long one scrape may ask the owners.
const scrapeTimeout = 5 * time.Second

// Fleet is the inventory in numbers.
type Fleet struct {
	Devices int // of one platform
	Failing int // of them, those whose last task failed
}

// Options say where the figures come from. The functions are called at each
// scrape, from several goroutines.
type Options struct {
	Version, Commit, Go string

	Operations []string // names of all kinds of work
	Limits     jobs.Limits
	Queue      func(context.Context) (jobs.Stats, error)
	Ledger     func() (ledger.Stats, error)
	Fleet      func(context.Context) (map[string]Fleet, error) // by platform
	// Capacity and Outbox are of what is derived from events; nil has no metrics.
	Capacity func() []Capacity
	Outbox   func(context.Context) (map[string]int, error) // by kind of receiver
	Logger   *slog.Logger
}

// Metrics is a registry of its own with fleetd's collectors. It is safe for
// concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger
	queue    queue
	ssh      ssh

	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
}

// New makes the registry. Nothing is global: two of them do not meet.
func New(opts Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), log: opts.Logger}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info", Help: "Which fleetd this is; always 1.",
		ConstLabels: prometheus.Labels{"version": opts.Version, "commit": opts.Commit, "go_version": opts.Go}})
	build.Set(1)
	m.reloadOK = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: "inventory", Name: "last_reload_successful",
		Help: "Whether the last reading of the inventory put it into force; 0 means that it was refused and the old one is in force."})
	m.reloadTime = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: "inventory", Name: "last_reload_success_timestamp_seconds",
		Help: "When the inventory in force was read."})
	limits := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "limit_units",
		Help: "How many units may be worked on at once."}, []string{"scope"})
	limits.WithLabelValues("global").Set(float64(opts.Limits.Global))
	limits.WithLabelValues("site").Set(float64(opts.Limits.PerSite))
	limits.WithLabelValues("device").Set(float64(opts.Limits.PerDevice))
	m.queue = newQueue(opts.Operations)
	m.ssh = newSSH()
	m.registry.MustRegister(build, m.reloadOK, m.reloadTime, limits, newState(opts), newForesight(opts),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.queue.collectors()...)
	m.registry.MustRegister(m.ssh.collectors()...)
	return m
}

// Registry is what is scraped.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler answers scrapes. A source that cannot answer leaves its own metrics out
// and is logged.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(m.log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             2 * scrapeTimeout,
	})
}

// InventoryRead notes how a reading of the inventory ended.
func (m *Metrics) InventoryRead(at time.Time, err error) {
	if err != nil {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadTime.Set(float64(at.UnixNano()) / float64(time.Second))
}
