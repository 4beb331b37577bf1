package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// historyFleet is what the capacity report needs of fleetd.
type historyFleet interface {
	History(ctx context.Context, device string, days int) ([]api.HistorySeries, error)
}

// capacitySpec is the spec of the operation "capacity".
type capacitySpec struct {
	ForecastSeconds int64 `json:"forecast_seconds,omitempty"`
	LimitSeconds    int64 `json:"limit_seconds,omitempty"`
}

type capacityOptions struct {
	selectionFlags
	jobFlags
	forecast, limit string
	chart           bool
	days            int
	fresh           bool
}

func (a *app) reportCapacityCommand() *cobra.Command {
	var opts capacityOptions
	cmd := &cobra.Command{
		Use:   "capacity [DEVICE...]",
		Short: "how far back packets reach, and what that leads to",
		Long: `Tells from the reports of the last two years how rotation files and file systems
fill and how far back they reach. Every report filesystem and rotation-file adds
to that history; no device is contacted, unless with --fresh.

While a rotation file still fills, its growth tells when it will be full
(full_at) and how far back it will reach then. Once full its size never moves,
and the trend of the retention that the device prints is followed. --forecast
gives the retention that far ahead, --limit the date on which it falls below
that. What cannot be told is null, and reason says why. In a table AHEAD is the
day on which it is full or falls below the limit ("2026-05-01 <7d"), or why that
cannot be told.

Figures ending in low and high are the ends of an interval that holds the truth
in nine cases of ten. vision_outlives_packets: the metadata reaches further back
than the packets that it leads to.

--chart draws the use of each, or the retention of full ones, day by day; with
plain characters in a locale without UTF-8 (LC_ALL=C).

` + selectionHelp + defaultAllHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", `device, name, kind, state (filling, full, unknown), limit_bytes, used_bytes,
used_percent, growth_bytes_per_day, full_at, full_at_low, full_at_high,
retention_seconds, retention_basis (growth, vision), when_full_seconds,
when_full_low_seconds, when_full_high_seconds, trend_seconds_per_day,
trend_low_seconds_per_day, trend_high_seconds_per_day, forecast_at,
forecast_retention_seconds, forecast_low_seconds, forecast_high_seconds,
forecast_used_bytes, forecast_used_low_bytes, forecast_used_high_bytes,
limit_seconds, crossed_at, crossed_at_low, crossed_at_high,
packet_retention_seconds, vision_retention_seconds, vision_outlives_packets,
reason, points, first_at, collected_at`) + `
` + failureKeysHelp + `

` + csvHelp + `

` + waitHelp + `

` + workExits(),
		Example: `  fleetctl report capacity --forecast 30d
  fleetctl report capacity -l site=lon --forecast 30d --limit 7d -o csv
  fleetctl report capacity lon-probe-01 --chart --days 365`,
		ValidArgsFunction: a.completeDevices,
	}
	opts.selectionFlags.register(a, cmd)
	opts.jobFlags.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&opts.forecast, "forecast", "", "say what it will be in this `time`, such as 30d")
	fl.StringVar(&opts.limit, "limit", "", "say when retention falls below this `time`, such as 7d")
	fl.BoolVar(&opts.chart, "chart", false, "draw a chart of each")
	fl.IntVar(&opts.days, "days", 365, "draw so many `days`")
	fl.BoolVar(&opts.fresh, "fresh", false, "make a report of rotation files first")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error { return a.reportCapacity(ctx, f, &opts, args) })
	return cmd
}

func (a *app) reportCapacity(ctx context.Context, f fleet, opts *capacityOptions, names []string) error {
	sel, err := opts.selection(names, noneIsAll)
	if err != nil {
		return err
	}
	format, err := opts.format()
	if err != nil {
		return err
	}
	var spec capacitySpec
	for _, c := range []struct {
		flag, text string
		to         *int64
	}{{"--forecast", opts.forecast, &spec.ForecastSeconds}, {"--limit", opts.limit, &spec.LimitSeconds}} {
		if c.text == "" {
			continue
		}
		d, err := parseSpan(c.text)
		if err != nil {
			return fault.Wrap(fault.Invalid, "read "+c.flag+" "+strconv.Quote(c.text), err)
		}
		*c.to = int64(d / time.Second)
	}
	switch {
	case opts.chart && !format.ForPeople():
		return fault.New(fault.Invalid, "--chart is for people: it has no %s", opts.name)
	case opts.chart && (opts.days < 2 || opts.days > 732):
		return fault.New(fault.Invalid, "--days takes 2 to 732")
	case opts.chart && opts.detach:
		return fault.New(fault.Invalid, "--chart cannot be detached")
	}
	if opts.fresh {
		job, err := a.start(ctx, f, "report", reportSpec{Report: "rotation-file"}, sel)
		if err != nil {
			return err
		}
		res, err := a.await(ctx, f, job)
		if err != nil {
			return a.detached(ctx, job, err)
		}
		a.reportFailures(res)
	}
	if opts.chart {
		return a.chartCapacity(ctx, f, opts, sel)
	}
	return a.submit(ctx, f, &opts.jobFlags, "capacity", spec, sel)
}

// parseSpan reads a duration, or whole days as in 30d.
func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 3660 {
			return 0, fmt.Errorf("a number of days is expected before d")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("a time such as 30d or 12h is expected")
	}
	return d, nil
}

// chartCapacity draws a chart for each ring and file system of the devices.
func (a *app) chartCapacity(ctx context.Context, f fleet, opts *capacityOptions, sel api.Selection) error {
	devices, err := f.Devices(ctx, sel)
	if err != nil {
		return err
	}
	n := 0
	var all []api.HistorySeries
	for _, d := range devices {
		list, err := f.History(ctx, d.Name, opts.days)
		if err != nil {
			return err
		}
		all = append(all, list...)
		n += len(list)
	}
	if n == 0 {
		a.remark("no report of rotation files or file systems has been made of %s yet", count(len(devices), "device"))
		return nil
	}
	rows, err := output.Rows(all)
	if err != nil {
		return fault.Wrap(fault.Internal, "draw the charts", err)
	}
	return a.print(&opts.outputFlags, answer{rows: rows, doc: rowsDocument{rows}, people: func(w io.Writer, _ bool, screen output.Screen) error {
		width := screen.Width
		if width == 0 {
			width = helpWidth
		}
		for i, s := range all {
			if i > 0 {
				if _, err := io.WriteString(w, "\n"); err != nil {
					return err
				}
			}
			if _, err := io.WriteString(w, capacityChart(s, width, screen.ASCII)); err != nil {
				return err
			}
		}
		return nil
	}})
}

// capacityChart draws the retention of a ring that is full, else the use.
func capacityChart(s api.HistorySeries, width int, ascii bool) string {
	title := output.Clean(s.Device + " " + s.Name)
	c := output.Chart{Width: width, Height: 8, ASCII: ascii}
	retention, used := 0, 0
	var full bool
	for _, p := range s.Points {
		if p.RetentionSeconds != nil {
			retention++
		}
		if p.UsedBytes != nil && p.LimitBytes != nil && *p.LimitBytes > 0 {
			used++
			full = float64(*p.UsedBytes) >= 0.95*float64(*p.LimitBytes)
		}
	}
	if s.Kind == "rotation-file" && retention > 0 && (full || used == 0) {
		c.Title, c.Unit = title+": days that Vision reaches back", "d"
		for _, p := range s.Points {
			if p.RetentionSeconds != nil {
				c.Points = append(c.Points, output.ChartPoint{At: p.Time, Value: float64(*p.RetentionSeconds) / 86400})
			}
		}
		return c.String()
	}
	c.Title, c.Unit, c.Top = title+": used", "%", 100
	for _, p := range s.Points {
		if p.UsedBytes != nil && p.LimitBytes != nil && *p.LimitBytes > 0 {
			c.Points = append(c.Points, output.ChartPoint{At: p.Time, Value: 100 * float64(*p.UsedBytes) / float64(*p.LimitBytes)})
		}
	}
	return c.String()
}
