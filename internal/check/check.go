// Package check is the operation that tries, stage by stage, everything that
// work on a device needs: reach it, its host key, log in, get a prompt, SFTP,
// exec, and its clock. It changes nothing on the device.
//
// A device on which all stages pass gives a row. One that fails gives a failure
// whose stage is the first that failed and whose text says how the later ones
// ended, because a failed task has no rows and the later stages are what tells a
// missing SFTP server from a dead device.
package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// Name of the operation.
const Name = "check"

// maxOffset is how far a clock may be off before people are told: captures of
// several devices are put in order by their clocks.
const maxOffset = 2.0

type check struct{}

var _ operation.Operation = check{}

// New gives the operation. Its spec is empty.
func New() operation.Operation { return check{} }

// Name implements operation.Operation.
func (check) Name() string { return Name }

// Prepare accepts an empty spec only.
func (check) Prepare(_ context.Context, spec json.RawMessage, _ []*device.Device) (operation.Prepared, error) {
	if err := operation.DecodeSpec(Name, spec, &struct{}{}); err != nil {
		return operation.Prepared{}, err
	}
	return operation.Prepared{Spec: json.RawMessage(`{}`), Access: operation.Read}, nil
}

// Steps gives the one step, check.
func (check) Steps(_ json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	observe := func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		var details []string
		for _, dev := range unit.Devices {
			r := &run{env: env, dev: dev, row: Row{Device: dev.Name, Platform: dev.Platform}}
			r.all(ctx)
			if err := r.result(); err != nil {
				return operation.Observation{}, err
			}
			details = append(details, dev.Name+": "+r.summary(stages()))
		}
		return operation.Observation{Verdict: operation.Done, Detail: strings.Join(details, "; ")}, nil
	}
	return []operation.Step{{Name: Name, Observe: observe}}, nil
}

// run is one device on its way through the stages.
type run struct {
	env    operation.Env
	dev    *device.Device
	row    Row
	failed []failure
	dead   bool // the connection cannot be used any more
}

type failure struct {
	stage string
	err   error
}

// pass and fail record how a stage ended.
func (r *run) pass(stage string) {
	*r.row.stage(stage) = OK
	order := stages()
	r.env.Progress(r.dev, int64(slices.Index(order, stage)+1), int64(len(order)), "stages")
}

func (r *run) fail(stage string, err error) {
	*r.row.stage(stage) = Failed
	r.failed = append(r.failed, failure{stage, err})
	r.dead = r.dead || fault.Is(err, fault.Disconnected) || fault.Is(err, fault.Canceled)
}

func (r *run) all(ctx context.Context) {
	for _, s := range stages() {
		*r.row.stage(s) = Skipped
	}
	conn, err := r.env.Conn(ctx, r.dev)
	if err != nil {
		r.connectFailed(err)
		return
	}
	r.connected(conn.Facts())
	session := r.session(ctx)
	if !r.dead {
		r.sftp(ctx, conn)
	}
	if session == nil || r.dead {
		return
	}
	def := session.Definition()
	r.version(ctx, session, def)
	if !r.dead {
		r.clock(ctx, session, def)
	}
}

// connectFailed finds the stage in the words of the connection.
func (r *run) connectFailed(err error) {
	at, named := stageReach, fault.StageOf(err)
	switch {
	case named == "jump":
		// It is the jump host's key or login that failed: the device was not reached.
	case named == "host_key" || fault.Is(err, fault.HostKey):
		at = stageHostKey
	case named == "auth" || named == "credentials" || fault.Is(err, fault.Auth):
		at = stageLogin
	}
	r.fail(at, err)
}

func (r *run) connected(f device.ConnFacts) {
	for _, s := range []string{stageReach, stageHostKey, stageLogin} {
		r.pass(s)
	}
	r.row.ConnectSeconds, r.row.LoginSeconds = seconds(f.DialTime), seconds(f.LoginTime)
	r.row.ServerVersion, r.row.HostKeyType, r.row.HostKeySHA256 = known(f.ServerVersion), known(f.HostKeyType), known(f.HostKeySHA256)
}

// session brings the command line up.
func (r *run) session(ctx context.Context) device.Session {
	start := r.env.Now()
	s, err := r.env.Session(ctx, r.dev)
	if err != nil {
		at := stagePrompt
		if fault.StageOf(err) == "command" {
			at = stageExec // the platform tells its shell by running something
		}
		r.fail(at, err)
		return nil
	}
	r.pass(stagePrompt)
	if s.Definition().Transport == device.TransportShell {
		r.row.PromptSeconds = seconds(r.env.Now().Sub(start))
	} else {
		r.row.Prompt = NA // commands run without one
	}
	return s
}

func (r *run) sftp(ctx context.Context, conn device.Conn) {
	files, err := conn.Files(ctx)
	if err == nil {
		_, err = files.RealPath(".")
		err = errors.Join(err, files.Close())
	}
	if err != nil {
		r.fail(stageSFTP, err)
		return
	}
	r.pass(stageSFTP)
}

// version reads the software's version. Where commands run over exec it is the
// proof that exec works.
func (r *run) version(ctx context.Context, s device.Session, def *device.Definition) {
	exec := def.Transport == device.TransportExec
	if !exec {
		r.row.Exec = NA
	}
	if def.Checks.Version == "" {
		if exec {
			r.row.Exec = NA
		}
		return
	}
	at := stageExec
	if !exec {
		at = stagePrompt // a prompt that answers no command is none
	}
	out, err := s.Run(ctx, device.Command{Line: def.Checks.Version})
	if err != nil {
		r.fail(at, fmt.Errorf("%s: %w", def.Checks.Version, err))
		return
	}
	r.pass(at)
	re, err := regexp.Compile(def.Checks.VersionMatch)
	if err != nil {
		r.env.Warn(r.dev, "pattern version_match of the platform: %v", err)
		return
	}
	m := re.FindStringSubmatch(out.Text)
	if len(m) < 2 {
		r.env.Warn(r.dev, "no version is found in the output of %s", def.Checks.Version)
		return
	}
	r.row.Version = known(fault.Clip(m[1], 80))
	r.env.Facts(r.dev, operation.Facts{"version": fault.Clip(m[1], 80)})
}

func (r *run) clock(ctx context.Context, s device.Session, def *device.Definition) {
	if def.Checks.Clock == "" {
		r.row.Clock = NA
		return
	}
	before := r.env.Now()
	out, err := s.Run(ctx, device.Command{Line: def.Checks.Clock})
	after := r.env.Now()
	if err != nil {
		r.fail(stageClock, fmt.Errorf("%s: %w", def.Checks.Clock, err))
		return
	}
	t, err := readClock(out.Text, def.Checks, r.dev.Timezone)
	if err != nil {
		r.fail(stageClock, &fault.Error{Kind: fault.Unparsed, Act: def.Checks.Clock, Err: err})
		return
	}
	r.pass(stageClock)
	middle := before.Add(after.Sub(before) / 2)
	offset := round(t.Sub(middle).Seconds())
	r.row.ClockOffsetSeconds = &offset
	r.env.Facts(r.dev, operation.Facts{"clock_offset_seconds": strconv.FormatFloat(offset, 'f', -1, 64)})
	if math.Abs(offset) > maxOffset {
		side := "ahead of"
		if offset < 0 {
			side = "behind"
		}
		r.env.Warn(r.dev, "its clock is %.1f s %s fleetd's", math.Abs(offset), side)
	}
}

// result puts out the row, or gives what failed.
func (r *run) result() error {
	if len(r.failed) == 0 {
		r.row.CollectedAt = r.env.Now().UTC().Truncate(time.Second)
		r.env.Row(r.dev, r.row)
		return nil
	}
	first := r.failed[0]
	cause := first.err
	if len(r.failed) > 1 {
		all := make([]error, len(r.failed))
		for i, f := range r.failed {
			all[i] = fmt.Errorf("%s: %w", f.stage, f.err)
		}
		cause = joined(all)
	}
	if rest := r.afterwards(first.stage); rest != "" {
		cause = fmt.Errorf("%w [%s]", cause, rest)
	}
	out := &fault.Error{Kind: fault.KindOf(first.err), Stage: first.stage, Err: cause}
	if !strings.Contains(cause.Error(), r.dev.Name) {
		out.Act, out.Device = "check", r.dev.Name
	}
	return out
}

// afterwards says how the stages after the one that failed ended, or nothing
// where none of them could be tried.
func (r *run) afterwards(failed string) string {
	order := stages()
	later := order[slices.Index(order, failed)+1:]
	if !slices.ContainsFunc(later, func(s string) bool { return *r.row.stage(s) == OK || *r.row.stage(s) == Failed }) {
		return ""
	}
	return r.summary(later)
}

// joined is errors.Join on one line.
type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }

// summary says how stages ended: "sftp ok, exec skipped, clock skipped".
func (r *run) summary(of []string) string {
	parts := make([]string, 0, len(of))
	for _, s := range of {
		parts = append(parts, s+" "+string(*r.row.stage(s)))
	}
	return strings.Join(parts, ", ")
}

func seconds(d time.Duration) *float64 {
	s := round(d.Seconds())
	return &s
}

func round(s float64) float64 { return math.Round(s*1000) / 1000 }

// known makes the empty string null.
func known(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
