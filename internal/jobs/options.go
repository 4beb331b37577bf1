package jobs

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Options are what an engine is made of.
type Options struct {
	Ledger *ledger.DB // opened with Namespaces(); stays the caller's to close
	Runner Runner
	Limits Limits
	Retry  RetryPolicy
	Logger *slog.Logger     // default: discards
	Now    func() time.Time // default: time.Now; stamps what is stored
}

// Limits bound how many units run at once. Zero means the default.
type Limits struct {
	Global  int // of everything; default 64
	PerSite int // of one site; default as many as Global
	// PerDevice bounds the units that have a place on one device, since its SSH
	// server bounds sessions; default 4. Of those at most one may be a change:
	// changes exclude each other on a device, readers share it with them.
	PerDevice int
}

// WithDefaults fills in what is zero. A negative limit is fault.Invalid.
func (l Limits) WithDefaults() (Limits, error) {
	if l.Global < 0 || l.PerSite < 0 || l.PerDevice < 0 {
		return l, fault.New(fault.Invalid, "a limit is negative: global %d, per site %d, per device %d", l.Global, l.PerSite, l.PerDevice)
	}
	if l.Global == 0 {
		l.Global = 64
	}
	if l.PerSite == 0 {
		l.PerSite = l.Global
	}
	if l.PerDevice == 0 {
		l.PerDevice = 4
	}
	return l, nil
}

// RetryPolicy says how often work is begun again by itself after a failure of a
// kind that may pass (fault.Kind.Retryable), and how long it waits before: Base,
// doubled with each attempt up to Max, give or take a quarter so that devices of
// a site that went away together do not come back together.
type RetryPolicy struct {
	Attempts int           // in all; default 3, 1 means never again
	Base     time.Duration // default 2 s
	Max      time.Duration // default 1 min
}

func (p RetryPolicy) withDefaults() (RetryPolicy, error) {
	if p.Attempts < 0 || p.Base < 0 || p.Max < 0 {
		return p, fault.New(fault.Invalid, "the retry policy has a negative figure")
	}
	if p.Attempts == 0 {
		p.Attempts = 3
	}
	if p.Base == 0 {
		p.Base = 2 * time.Second
	}
	if p.Max == 0 {
		p.Max = time.Minute
	}
	return p, nil
}

// delay is the wait after the given number of failed attempts.
func (p RetryPolicy) delay(failed int) time.Duration {
	d := p.Base
	for i := 1; i < failed && d < p.Max; i++ {
		d *= 2
	}
	d = min(d, p.Max)
	if quarter := int64(d / 4); quarter > 0 {
		d += time.Duration(rand.Int64N(2*quarter) - quarter) //nolint:gosec // spreads load, hides nothing
	}
	return d
}
