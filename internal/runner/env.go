package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"capfleet/internal/artifact"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/operation"
)

// maxWarnings bounds the warnings of one device: an operation that warns of each
// line of a hostile device must not fill the ledger.
const maxWarnings = 100

// env is what the steps of one unit see: its devices' connections, and places to
// put results. It lives as long as one Run.
type env struct {
	unit      operation.Unit
	job       string
	retries   int
	journal   jobs.Journal
	artifacts Artifacts
	links     map[string]*link
	log       *slog.Logger
	now       func() time.Time

	mu      sync.Mutex
	memory  map[string]json.RawMessage
	intents map[string]time.Time // of once-only steps: the last, of any attempt
	results map[string]*kept
	bad     error // the first thing a step gave that cannot be kept
}

// kept is what was gathered for one device.
type kept struct {
	rows      []json.RawMessage
	facts     operation.Facts
	artifacts []string
	warnings  []string
	stores    map[string][]byte
}

var _ operation.Env = (*env)(nil)

func newEnv(r *Runner, unit operation.Unit, work jobs.Work, journal jobs.Journal, log *slog.Logger) *env {
	e := &env{unit: unit, job: work.Job, retries: work.Retries, memory: maps.Clone(work.Memory), intents: intents(work.History), journal: journal, artifacts: r.artifacts, log: log, now: r.now,
		links: map[string]*link{}, results: map[string]*kept{}}
	for _, dev := range unit.Devices {
		e.links[dev.Name] = &link{dev: dev, driver: r.drivers[dev.Platform], dialer: r.dialer, gate: make(chan struct{}, 1), log: log.With("device", dev.Name),
			learned: func(f operation.Facts) { e.Facts(dev, f) }}
		e.results[dev.Name] = &kept{facts: operation.Facts{}}
	}
	return e
}

func (e *env) Unit() operation.Unit { return e.unit }

func (e *env) Session(ctx context.Context, dev *device.Device) (device.Session, error) {
	l, ok := e.links[dev.Name]
	if !ok {
		return nil, e.stranger(dev)
	}
	return l.openSession(ctx)
}

func (e *env) Conn(ctx context.Context, dev *device.Device) (device.Conn, error) {
	l, ok := e.links[dev.Name]
	if !ok {
		return nil, e.stranger(dev)
	}
	return l.openConn(ctx)
}

func (e *env) Row(dev *device.Device, row any) {
	raw, err := json.Marshal(row)
	e.record(dev, func(k *kept) error {
		if err != nil {
			return fmt.Errorf("a row of %s cannot be written as JSON: %w", dev.Name, err)
		}
		k.rows = append(k.rows, raw)
		return nil
	})
}

func (e *env) Facts(dev *device.Device, facts operation.Facts) {
	e.record(dev, func(k *kept) error {
		for key, value := range facts {
			k.facts[key] = line(value)
		}
		return nil
	})
}

func (e *env) Keep(ctx context.Context, dev *device.Device, name, mediaType string, r io.Reader) (string, error) {
	if _, ok := e.results[dev.Name]; !ok {
		return "", e.stranger(dev)
	}
	a, err := e.artifacts.Put(ctx, artifact.Meta{Name: name, MediaType: mediaType, Job: e.job, Device: dev.Name}, r)
	if err != nil {
		return "", err
	}
	e.record(dev, func(k *kept) error {
		if !slices.Contains(k.artifacts, a.SHA256) {
			k.artifacts = append(k.artifacts, a.SHA256)
		}
		return nil
	})
	return a.SHA256, nil
}

func (e *env) Warn(dev *device.Device, format string, args ...any) {
	e.record(dev, func(k *kept) error {
		switch {
		case len(k.warnings) < maxWarnings:
			k.warnings = append(k.warnings, line(fmt.Sprintf(format, args...)))
		case len(k.warnings) == maxWarnings:
			k.warnings = append(k.warnings, "more warnings were left out")
		}
		return nil
	})
}

func (e *env) Progress(dev *device.Device, done, total int64, unit string) {
	e.journal.Progress(dev.Name, done, total, unit)
}

func (e *env) Now() time.Time       { return e.now() }
func (e *env) Logger() *slog.Logger { return e.log }

// record changes what is gathered for a device. A step cannot be told of an
// error here, so the first one becomes the step's own.
func (e *env) record(dev *device.Device, f func(*kept) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.stranger(dev)
	if k, ok := e.results[dev.Name]; ok {
		err = f(k)
	}
	if err != nil && e.bad == nil {
		e.bad = fault.Wrap(fault.Internal, "keep a result", err)
	}
}

func (e *env) takeError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.bad
	e.bad = nil
	return err
}

func (e *env) stranger(dev *device.Device) error {
	return fault.New(fault.Internal, "device %s is not of unit %s", dev.Name, e.unit.Name)
}

// keep gives what is kept of a device whatever the result: all but the rows.
func (e *env) keep(name string) jobs.TaskResult {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := e.results[name]
	if k == nil {
		return jobs.TaskResult{}
	}
	r := jobs.TaskResult{Artifacts: slices.Clone(k.artifacts), Warnings: slices.Clone(k.warnings), Stores: maps.Clone(k.stores)}
	if len(k.facts) > 0 {
		r.Facts = maps.Clone(k.facts)
	}
	return r
}

func (e *env) rowsOf(name string) []json.RawMessage {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k := e.results[name]; k != nil {
		return k.rows
	}
	return nil
}

// close ends the unit's connections.
func (e *env) close() {
	for _, l := range e.links {
		l.close()
	}
}
