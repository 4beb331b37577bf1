package capture

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/capture/capturejob"
	"capfleet/internal/device"
	"capfleet/internal/operation"
)

// evidence is what was beside a capture: how far the device's clock is ahead of ours,
// and what its interfaces had counted when the capture began.
type evidence struct {
	// Offset is in seconds; Known says whether the device told.
	Offset float64             `json:"offset"`
	Within float64             `json:"within"` // seconds that it may be wrong by
	Known  bool                `json:"known"`
	Before map[string]Counters `json:"before"`
}

// Counters are what an interface counts.
type Counters = capturejob.Counters

// beside is what is asked of a device at the end of a capture, each with its heading.
// What a device does not have is said to be missing.
func beside(points []*ringFile) [][]string {
	out := [][]string{
		{"date", "-u"},
		{"ip", "neigh", "show"},
		{"ip", "route", "show"},
		{"ip", "-6", "route", "show"},
		{"ss", "-lntu"},
		{"netstat", "-i"},
	}
	for _, f := range points {
		out = append(out, []string{"ip", "-s", "-s", "link", "show", "dev", linkOf(f.Interface)})
	}
	return out
}

// linkOf is the interface as the kernel names it: without the level of detail of a
// BIG-IP.
func linkOf(name string) string {
	link, _, _ := strings.Cut(name, ":")
	return link
}

// lookBefore notes what is compared with at the end.
func (r *ring) lookBefore(ctx context.Context, conn device.Conn, env operation.Env) error {
	e := &evidence{Before: map[string]Counters{}}
	asked := env.Now()
	res, err := conn.Exec(ctx, device.ExecRequest{Args: []string{"date", "-u", "+%s.%N"}, MaxBytes: maxSaid})
	if err != nil {
		return err
	}
	answered := env.Now()
	if told, within, ok := clock(string(res.Stdout)); ok && res.Status == 0 {
		half := answered.Sub(asked) / 2
		e.Offset, e.Known = told.Sub(asked.Add(half)).Seconds(), true
		e.Within = (half + within).Seconds()
	}
	for _, p := range r.spec.points(r.dev.Name) {
		if c, ok, err := counters(ctx, conn, linkOf(p.Interface)); err != nil {
			return err
		} else if ok {
			e.Before[p.Interface] = c
		}
	}
	r.early = e
	return nil
}

// clock reads what "date +%s.%N" printed. A date that knows no %N prints something
// else for it, and tells seconds alone; within is what it may be wrong by.
func clock(said string) (told time.Time, within time.Duration, ok bool) {
	whole, fraction, _ := strings.Cut(strings.TrimSpace(said), ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec < 0 {
		return told, 0, false
	}
	if nanos, err := strconv.ParseUint(fraction, 10, 32); err == nil && len(fraction) == 9 {
		return time.Unix(sec, int64(nanos)), 0, true //nolint:gosec // nine digits
	}
	const half = 500 * time.Millisecond
	return time.Unix(sec, int64(half)), half, true
}

// counters reads what the kernel counts of an interface; false where it does not say.
func counters(ctx context.Context, conn device.Conn, link string) (c Counters, ok bool, err error) {
	args := []string{"cat"}
	for _, name := range []string{"rx_dropped", "rx_errors", "tx_dropped", "tx_errors"} {
		args = append(args, "/sys/class/net/"+link+"/statistics/"+name)
	}
	res, err := conn.Exec(ctx, device.ExecRequest{Args: args, MaxBytes: maxSaid})
	if err != nil {
		return c, false, err
	}
	fields := strings.Fields(string(res.Stdout))
	if res.Status != 0 || len(fields) != 4 {
		return c, false, nil
	}
	for i, to := range []*uint64{&c.ReceiveDropped, &c.ReceiveErrors, &c.SendDropped, &c.SendErrors} {
		if *to, err = strconv.ParseUint(fields[i], 10, 64); err != nil {
			return Counters{}, false, nil //nolint:nilerr // the device does not say
		}
	}
	return c, true, nil
}

// since is what was counted after an earlier look. A counter that went back began
// anew.
func since(c, before Counters) Counters {
	diff := func(now, then uint64) uint64 {
		if now < then {
			return now
		}
		return now - then
	}
	return Counters{ReceiveDropped: diff(c.ReceiveDropped, before.ReceiveDropped), ReceiveErrors: diff(c.ReceiveErrors, before.ReceiveErrors),
		SendDropped: diff(c.SendDropped, before.SendDropped), SendErrors: diff(c.SendErrors, before.SendErrors)}
}

// gatherEvidence keeps what is beside the captures: neighbours, routes, listeners and
// counters, and puts it to the rows. It takes nothing from the captures where it fails.
func (r *ring) gatherEvidence(ctx context.Context, env operation.Env) {
	err := r.insist(ctx, env, func() error { return r.besides(ctx, env) })
	if err != nil {
		env.Warn(r.dev, "what is beside the capture could not be read: %v", err)
	}
}

func (r *ring) besides(ctx context.Context, env operation.Env) error {
	conn, err := env.Conn(ctx, r.dev)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, args := range beside(r.state.Rings) {
		res, err := conn.Exec(ctx, device.ExecRequest{Args: args, MaxBytes: maxEvidence})
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "$ %s\n%s", strings.Join(args, " "), device.CleanText(res.Stdout))
		if res.Status != 0 {
			fmt.Fprintf(&text, "%sended with %d\n", device.CleanText(res.Stderr), res.Status)
		}
		text.WriteByte('\n')
	}
	for i, f := range r.state.Rings {
		now, ok, err := counters(ctx, conn, linkOf(f.Interface))
		if err != nil {
			return err
		}
		row := r.state.Rows[i]
		if e := r.state.Evidence; e != nil {
			if before, known := e.Before[f.Interface]; ok && known {
				diff := since(now, before)
				row.Interfaces = &diff
			}
			if e.Known {
				row.ClockOffset, row.ClockWithin = &e.Offset, &e.Within
			}
		}
	}
	sum, err := env.Keep(ctx, r.dev, r.dev.Name+"_evidence.txt", "text/plain", strings.NewReader(text.String()))
	if err != nil {
		return err
	}
	for _, row := range r.state.Rows {
		row.Evidence = sum
	}
	return nil
}

// maxEvidence bounds the answer to one question.
const maxEvidence = 1 << 20
