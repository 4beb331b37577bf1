package history

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// Name of the operation.
const Name = "capacity"

// Spec is what a request says.
type Spec struct {
	// ForecastSeconds is how far ahead retention and use are forecast; 0 is not.
	ForecastSeconds int64 `json:"forecast_seconds,omitempty"`
	// LimitSeconds is the retention whose falling short of is dated; 0 is none.
	LimitSeconds int64 `json:"limit_seconds,omitempty"`
}

// Row is a ring or a file system of a device. Sizes are bytes, times in seconds. A
// pointer is nil where the history does not tell; Reason says why. The figures that
// end in _low and _high are the ends of the interval that holds the truth in nine
// cases of ten; one that is nil beside its figure is further away than anybody can say.
type Row struct {
	Device      string   `json:"device"`
	Name        string   `json:"name"`
	Kind        Kind     `json:"kind"`
	State       State    `json:"state"`
	LimitBytes  *int64   `json:"limit_bytes"`
	UsedBytes   *int64   `json:"used_bytes"`
	UsedPercent *float64 `json:"used_percent"`

	GrowthBytesPerDay *int64     `json:"growth_bytes_per_day"`
	FullAt            *time.Time `json:"full_at"`
	FullAtLow         *time.Time `json:"full_at_low"`
	FullAtHigh        *time.Time `json:"full_at_high"`

	RetentionSeconds *int64 `json:"retention_seconds"`
	RetentionBasis   *Basis `json:"retention_basis"`
	WhenFullSeconds  *int64 `json:"when_full_seconds"`
	WhenFullLow      *int64 `json:"when_full_low_seconds"`
	WhenFullHigh     *int64 `json:"when_full_high_seconds"`
	TrendPerDay      *int64 `json:"trend_seconds_per_day"`
	TrendLow         *int64 `json:"trend_low_seconds_per_day"`
	TrendHigh        *int64 `json:"trend_high_seconds_per_day"`

	ForecastAt        *time.Time `json:"forecast_at"`
	ForecastRetention *int64     `json:"forecast_retention_seconds"`
	ForecastLow       *int64     `json:"forecast_low_seconds"`
	ForecastHigh      *int64     `json:"forecast_high_seconds"`
	ForecastUsed      *int64     `json:"forecast_used_bytes"`
	ForecastUsedLow   *int64     `json:"forecast_used_low_bytes"`
	ForecastUsedHigh  *int64     `json:"forecast_used_high_bytes"`

	LimitSeconds  *int64     `json:"limit_seconds"`
	CrossedAt     *time.Time `json:"crossed_at"`
	CrossedAtLow  *time.Time `json:"crossed_at_low"`
	CrossedAtHigh *time.Time `json:"crossed_at_high"`

	PacketRetention *int64 `json:"packet_retention_seconds"`
	VisionRetention *int64 `json:"vision_retention_seconds"`
	VisionOutlives  *bool  `json:"vision_outlives_packets"`

	Reason      *string    `json:"reason"`
	Points      int        `json:"points"`
	FirstAt     *time.Time `json:"first_at"`
	CollectedAt *time.Time `json:"collected_at"` // of the last report
}

type capacity struct {
	store *Store
	ready func(context.Context) error
}

var _ operation.Operation = capacity{}

// NewOperation gives the operation "capacity", which tells what the history of the
// selected devices leads to. No device is contacted: what reports said is enough. It
// waits for ready, which returns once the reports that have ended are in the history.
func NewOperation(store *Store, ready func(context.Context) error) operation.Operation {
	return capacity{store, ready}
}

// Name implements operation.Operation.
func (capacity) Name() string { return Name }

const maxAhead = 366 * 24 * 3600

// Prepare implements operation.Operation.
func (capacity) Prepare(_ context.Context, raw json.RawMessage, _ []*device.Device) (operation.Prepared, error) {
	spec, err := readSpec(raw)
	if err != nil {
		return operation.Prepared{}, err
	}
	out := operation.Prepared{Access: operation.Read, Beside: true}
	if out.Spec, err = json.Marshal(spec); err != nil {
		return operation.Prepared{}, fault.Wrap(fault.Internal, "keep the spec", err)
	}
	return out, nil
}

func readSpec(raw json.RawMessage) (spec Spec, err error) {
	if err := operation.DecodeSpec(Name, raw, &spec); err != nil {
		return spec, err
	}
	if spec.ForecastSeconds < 0 || spec.ForecastSeconds > maxAhead {
		return spec, fault.New(fault.Invalid, "a forecast reaches at most a year ahead")
	}
	if spec.LimitSeconds < 0 {
		return spec, fault.New(fault.Invalid, "the limit of the retention is negative")
	}
	return spec, nil
}

// Steps gives the one step, assess.
func (c capacity) Steps(raw json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	spec, err := readSpec(raw)
	if err != nil {
		return nil, err
	}
	observe := func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		if err := c.ready(ctx); err != nil {
			return operation.Observation{}, err
		}
		n := 0
		for _, dev := range unit.Devices {
			rows, err := c.store.Rows(ctx, dev.Name, spec)
			if err != nil {
				return operation.Observation{}, err
			}
			for _, row := range rows {
				env.Row(dev, row)
				if row.VisionOutlives != nil && *row.VisionOutlives {
					env.Warn(dev, "%s: its Vision metadata reaches back %s, its packets about %s: searches find what cannot be fetched any more",
						row.Name, days(*row.VisionRetention), days(*row.PacketRetention))
				}
			}
			if len(rows) == 0 {
				env.Warn(dev, "no report of file systems or rotation files has been made of it yet")
			}
			n += len(rows)
		}
		return operation.Observation{Verdict: operation.Done, Detail: fmt.Sprintf("%d rows from the history", n)}, nil
	}
	return []operation.Step{{Name: "assess", Observe: observe}}, nil
}

func days(seconds int64) string { return fmt.Sprintf("%.1f days", float64(seconds)/secondsOfDay) }

// Rows says what the history of a device leads to, rings before file systems.
func (s *Store) Rows(ctx context.Context, dev string, spec Spec) ([]Row, error) {
	var rows []Row
	for _, kind := range []Kind{Ring, Filesystem} {
		all, err := s.All(ctx, kind, dev)
		if err != nil {
			return nil, err
		}
		for _, of := range all {
			points, err := s.Points(ctx, of, time.Time{})
			if err != nil {
				return nil, err
			}
			q := Question{Ahead: time.Duration(spec.ForecastSeconds) * time.Second, Below: time.Duration(spec.LimitSeconds) * time.Second}
			rows = append(rows, rowOf(of, Assess(of.Kind, points, q), spec))
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(b.Kind, a.Kind) })
	return rows, nil
}

func rowOf(of Series, a Assessment, spec Spec) Row {
	r := Row{Device: of.Device, Name: of.Name, Kind: of.Kind, State: a.State, Points: a.Points,
		LimitBytes: known(a.Latest.Limit), UsedBytes: known(a.Latest.Used), GrowthBytesPerDay: whole(a.Growth),
		RetentionSeconds: whole(a.Retention), PacketRetention: whole(a.Packets), VisionOutlives: a.Outlives,
		FirstAt: moment(a.First), CollectedAt: moment(a.Latest.Time)}
	if a.Points == 0 {
		r.LimitBytes, r.UsedBytes = nil, nil
	}
	if r.LimitBytes != nil && r.UsedBytes != nil && *r.LimitBytes > 0 {
		percent := math.Round(float64(*r.UsedBytes)/float64(*r.LimitBytes)*1000) / 10
		r.UsedPercent = &percent
	}
	if a.RetentionBasis != "" {
		r.RetentionBasis = &a.RetentionBasis
	}
	if a.Reason != "" {
		r.Reason = &a.Reason
	}
	if of.Kind == Ring && a.Points > 0 {
		r.VisionRetention = known(a.Latest.Retention)
	}
	if a.FullAt != nil {
		r.FullAt, r.FullAtLow, r.FullAtHigh = moment(a.FullAt.At), moment(a.FullAt.Low), moment(a.FullAt.High)
	}
	if a.WhenFull != nil {
		r.WhenFullSeconds, r.WhenFullLow, r.WhenFullHigh = a.WhenFull.whole()
	}
	if a.Trend != nil {
		r.TrendPerDay, r.TrendLow, r.TrendHigh = a.Trend.whole()
	}
	if a.Forecast != nil {
		at := a.Latest.Time.Add(time.Duration(spec.ForecastSeconds) * time.Second)
		r.ForecastAt = &at
		if of.Kind == Ring {
			r.ForecastRetention, r.ForecastLow, r.ForecastHigh = a.Forecast.whole()
		} else {
			r.ForecastUsed, r.ForecastUsedLow, r.ForecastUsedHigh = a.Forecast.whole()
		}
	}
	if spec.LimitSeconds > 0 && of.Kind == Ring {
		r.LimitSeconds = &spec.LimitSeconds
	}
	if a.Crossed != nil {
		r.CrossedAt, r.CrossedAtLow, r.CrossedAtHigh = moment(a.Crossed.At), moment(a.Crossed.Low), moment(a.Crossed.High)
	}
	return r
}

func (e *Estimate) whole() (value, low, high *int64) {
	return whole(&e.Value), whole(&e.Low), whole(&e.High)
}

func whole(f *float64) *int64 {
	if f == nil || math.IsInf(*f, 0) || math.IsNaN(*f) || math.Abs(*f) > 1<<62 {
		return nil
	}
	n := int64(math.Round(*f))
	return &n
}

func known(n int64) *int64 {
	if n == None {
		return nil
	}
	return &n
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}
