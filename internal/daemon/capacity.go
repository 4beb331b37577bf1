package daemon

import (
	"context"
	"sync"
	"time"

	"capfleet/internal/history"
	"capfleet/internal/metrics"
)

// assessed is what the history of each ring and file system leads to, for metrics: too
// much to work out at each scrape. The zero assessed is empty.
type assessed struct {
	mu sync.Mutex
	by map[history.Series]history.Assessment
}

func (a *assessed) put(of history.Series, is history.Assessment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = map[history.Series]history.Assessment{}
	}
	a.by[of] = is
}

// assess brings what is known of series up to date.
func (d *Daemon) assess(ctx context.Context, all []history.Series) error {
	since := d.now().AddDate(0, 0, -200) // what a trend is taken from, and when a ring was filled
	for _, of := range all {
		points, err := d.history.Points(ctx, of, since)
		if err != nil {
			return err
		}
		if len(points) > 0 {
			d.assessed.put(of, history.Assess(of.Kind, points, history.Question{}))
		}
	}
	return nil
}

// assessAll reads the whole history once, at start.
func (d *Daemon) assessAll(ctx context.Context) {
	for _, kind := range []history.Kind{history.Ring, history.Filesystem} {
		all, err := d.history.All(ctx, kind, "")
		if err == nil {
			err = d.assess(ctx, all)
		}
		if err != nil {
			if ctx.Err() == nil {
				d.log.Error("the history cannot be read; metrics of capacity are not whole", "err", err)
			}
			return
		}
	}
}

// capacityFigures adds up what is known of the devices of the inventory.
func (d *Daemon) capacityFigures() []metrics.Capacity {
	inv := d.inventory.Load()
	now := d.now()
	d.assessed.mu.Lock()
	defer d.assessed.mu.Unlock()
	by := map[history.Kind]*metrics.Capacity{}
	for _, kind := range []history.Kind{history.Ring, history.Filesystem} {
		by[kind] = &metrics.Capacity{Kind: string(kind), States: map[string]int{}, FullWithin: map[int]int{7: 0, 30: 0, 90: 0}}
		for _, state := range []history.State{history.Filling, history.Full, history.Unknown} {
			by[kind].States[string(state)] = 0
		}
	}
	for of, a := range d.assessed.by {
		if _, err := inv.Device(of.Device); err != nil {
			continue
		}
		c := by[of.Kind]
		c.States[string(a.State)]++
		if a.FullAt != nil && a.State != history.Full {
			for days := range c.FullWithin {
				if a.FullAt.At.Before(now.Add(time.Duration(days) * 24 * time.Hour)) {
					c.FullWithin[days]++
				}
			}
		}
		if a.State == history.Full && a.Retention != nil && (c.Shortest == nil || *a.Retention < *c.Shortest) {
			c.Shortest = a.Retention
		}
		if a.Outlives != nil && *a.Outlives {
			c.Outlives++
		}
	}
	return []metrics.Capacity{*by[history.Ring], *by[history.Filesystem]}
}

// outboxFigures counts what waits to be told, by kind of receiver.
func (d *Daemon) outboxFigures(ctx context.Context) (map[string]int, error) {
	all, err := d.notify.List(ctx)
	if err != nil {
		return nil, err
	}
	waiting := map[string]int{"webhook": 0, "syslog": 0, "directory": 0}
	for _, r := range all {
		waiting[r.Kind] += r.Waiting
	}
	return waiting, nil
}
