package metrics

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

// Events is what Follow needs of the engine.
type Events interface {
	Watch(ctx context.Context, opts jobs.WatchOptions) iter.Seq2[jobs.Event, error]
	Job(ctx context.Context, id string) (jobs.Job, jobs.State, error)
}

// queue is what is counted as jobs and tasks move.
type queue struct {
	created  *prometheus.CounterVec
	finished *prometheus.CounterVec
	ended    *prometheus.CounterVec
	retries  *prometheus.CounterVec
	attempts *prometheus.HistogramVec
	known    []string // operations
}

func newQueue(operations []string) queue {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	q := queue{
		created:  counter("jobs_created_total", "Jobs made since start.", "operation"),
		finished: counter("jobs_finished_total", "Jobs finished since start, by the state they ended in.", "operation", "state"),
		ended:    counter("tasks_ended_total", "Tasks that reached a final state since start.", "operation", "state"),
		retries:  counter("task_retries_total", "Attempts that failed in a way that may pass, since start.", "operation"),
		attempts: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "task_attempt_duration_seconds",
			Help: "How long attempts at tasks took.", Buckets: prometheus.ExponentialBucketsRange(0.1, 3600, 12)}, []string{"operation"}),
		known: operations,
	}
	for _, op := range operations { // so that a rate begins at the first one
		q.created.WithLabelValues(op)
		q.retries.WithLabelValues(op)
		for _, s := range []jobs.State{jobs.Succeeded, jobs.Failed} {
			q.ended.WithLabelValues(op, string(s))
			q.finished.WithLabelValues(op, string(s))
		}
	}
	return q
}

func (q queue) collectors() []prometheus.Collector {
	return []prometheus.Collector{q.created, q.finished, q.ended, q.retries, q.attempts}
}

// Follow counts what happens after an event until ctx ends. It reads the stored
// events as any watcher does and holds up nobody.
func (m *Metrics) Follow(ctx context.Context, engine Events, after uint64) {
	f := follower{queue: m.queue, engine: engine, operation: map[string]string{}, began: map[task]time.Time{}}
	for ev, err := range engine.Watch(ctx, jobs.WatchOptions{After: after}) {
		if err == nil {
			err = f.count(ctx, ev)
		}
		if err != nil {
			if ctx.Err() == nil {
				m.log.Error("figures of the queue are not counted any more", "err", err)
			}
			return
		}
	}
}

type task struct{ job, device string }

// follower remembers, of unfinished jobs, the operation, and of running tasks when
// they began.
type follower struct {
	queue
	engine    Events
	operation map[string]string
	began     map[task]time.Time
}

func (f *follower) count(ctx context.Context, ev jobs.Event) error {
	switch ev.Type {
	case jobs.EventJobCreated, jobs.EventJobFinished, jobs.EventTaskState:
	default:
		return nil
	}
	op, err := f.operationOf(ctx, ev.Job)
	if err != nil {
		return err
	}
	switch ev.Type {
	case jobs.EventJobCreated:
		f.created.WithLabelValues(op).Inc()
	case jobs.EventJobFinished:
		f.finished.WithLabelValues(op, string(ev.State)).Inc()
		delete(f.operation, ev.Job)
	case jobs.EventTaskState:
		f.moved(op, ev)
	}
	return nil
}

func (f *follower) moved(op string, ev jobs.Event) {
	at := task{ev.Job, ev.Device}
	if ev.State == jobs.Running {
		f.began[at] = ev.Time
		return
	}
	if began, ok := f.began[at]; ok {
		delete(f.began, at)
		f.attempts.WithLabelValues(op).Observe(ev.Time.Sub(began).Seconds())
		if ev.State == jobs.Waiting {
			f.retries.WithLabelValues(op).Inc()
		}
	}
	if ev.State.Final() {
		f.ended.WithLabelValues(op, string(ev.State)).Inc()
	}
}

// operationOf gives a job's operation. One of an older fleetd that this one does
// not have, or a job that retention took away meanwhile, is "other".
func (f *follower) operationOf(ctx context.Context, id string) (string, error) {
	if op, ok := f.operation[id]; ok {
		return op, nil
	}
	const other = "other"
	job, _, err := f.engine.Job(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return other, nil
	case err != nil:
		return "", err
	}
	op := job.Operation
	if !slices.Contains(f.known, op) {
		op = other
	}
	f.operation[id] = op
	return op, nil
}
