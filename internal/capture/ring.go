package capture

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/transfer"
)

// RingOptions is what rings need beside their devices.
type RingOptions struct {
	// Spool is a folder on this host where files are gathered, to be gone on with
	// after a restart.
	Spool string
	// Buffers are shared with other transfers; may be nil.
	Buffers *transfer.Buffers
	// Job tells of another job: whether something in it failed and whether it has
	// ended, each with words for people. Nil where --until-job is not known.
	Job func(ctx context.Context, id string) (JobNews, error)
	// Events gives what the event log of a device's BMC holds now. Nil where
	// --until-sel is not known.
	Events func(ctx context.Context, dev *device.Device) ([]Event, error)
}

// JobNews is how another job is doing.
type JobNews struct {
	Failed, Ended bool
	Why           string // one line for people
}

// Event is a record of a BMC's event log.
type Event struct {
	ID   string // another one for each record
	Text string // one line for people
}

// phase is how far a device's rings are. It is remembered before each next one.
type phase string

const (
	phaseStarting  phase = "starting"  // something may have been begun
	phaseRunning   phase = "running"   // all was begun
	phaseStopped   phase = "stopped"   // nothing runs any more; the files are on the device
	phaseCollected phase = "collected" // the files are here and no longer there
)

const keyRing = "ring"

// ringState is what a later attempt, or the next fleetd, goes by.
type ringState struct {
	Phase     phase       `json:"phase"`
	Run       string      `json:"run"`       // names the folders, there and here
	Directory string      `json:"directory"` // of this run, on the device
	Rings     []*ringFile `json:"rings"`
	Version   string      `json:"version"` // of tcpdump
	Began     time.Time   `json:"began"`
	Triggered time.Time   `json:"triggered"` // zero before
	Running   time.Time   `json:"running"`   // since when all were known to run
	Ordered   time.Time   `json:"ordered"`   // when their end was ordered
	Stopped   time.Time   `json:"stopped"`
	Why       string      `json:"why"`           // what stopped them
	Log       logPlace    `json:"log"`           // how far it was read
	Seen      []string    `json:"seen"`          // events from before
	SeenSet   bool        `json:"seen_set"`      // Seen is known, be it empty
	Rotated   bool        `json:"rotated_by_us"` // tcpdump has no -W
	Floor     int64       `json:"floor"`         // KiB that are left free
	Rows      []*RingRow  `json:"rows"`          // once collected
	Evidence  *evidence   `json:"evidence,omitempty"`
}

// ringFile is the ring of one interface.
type ringFile struct {
	ID        string   `json:"id"` // of the process, see Keep; with our own rotation the first part of it
	Interface string   `json:"interface"`
	Filter    string   `json:"filter"`
	Base      string   `json:"base"` // path; a number follows it
	Command   []string `json:"command"`
	Ended     string   `json:"ended,omitempty"` // why it ended before it was told to
	// Turn is the number of the file that is written now, with our own rotation.
	Turn int `json:"turn,omitempty"`
}

// ring is one device's part in one attempt.
type ring struct {
	opts  RingOptions
	spec  *RingSpec
	dev   *device.Device
	tools device.FilesDefinition
	state ringState
	found probe
	floor int64 // see ringState.Floor
	early *evidence
}

func ringSteps(opts RingOptions, spec *RingSpec, dev *device.Device) []operation.Step {
	r := &ring{opts: opts, spec: spec, dev: dev}
	return []operation.Step{
		{Name: "check", Observe: r.check},
		{Name: "capture", Observe: r.capture},
		{Name: "collect", Observe: r.collect},
	}
}

func (r *ring) remember(ctx context.Context, env operation.Env, p phase) error {
	if p == phaseRunning && r.state.Running.IsZero() {
		r.state.Running = env.Now()
	}
	r.state.Phase = p
	return env.Remember(ctx, keyRing, r.state)
}

// unfit is what becomes of a device that cannot take part: the others go on
// without it, unless all or none were asked for.
func (r *ring) unfit(ctx context.Context, env operation.Env, err error) error {
	if r.spec.AllOrNone || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, r.leave(ctx, env, "it cannot take part"))
}

func (r *ring) leave(ctx context.Context, env operation.Env, why string) error {
	if l, ok := env.(operation.Leaver); ok {
		return l.Leave(ctx, why)
	}
	return nil
}

// check finds the rings of an earlier attempt, or sees whether they can be begun:
// program, rights, interfaces, filters, log and space.
func (r *ring) check(ctx context.Context, env operation.Env) (operation.Observation, error) {
	done := func(detail string) (operation.Observation, error) {
		return operation.Observation{Verdict: operation.Done, Detail: detail}, nil
	}
	if _, err := env.Recall(keyRing, &r.state); err != nil {
		return operation.Observation{}, err
	}
	if err := r.look(ctx, env); err != nil {
		if r.state.Phase == phaseRunning {
			return operation.Observation{}, err // the rings go on without us; a retry collects them
		}
		return operation.Observation{}, r.unfit(ctx, env, err)
	}
	switch r.state.Phase {
	case phaseRunning:
		return done("the rings of an earlier attempt are there")
	case phaseStopped, phaseCollected:
		return done("stopped by an earlier attempt")
	case phaseStarting:
		all, err := r.adopt(ctx, env)
		if err == nil && !all {
			err = r.discard(ctx, env)
		}
		if err != nil {
			return operation.Observation{}, r.unfit(ctx, env, err)
		}
		if all {
			return done("the rings of an earlier attempt had just begun")
		}
	}
	if err := r.admit(ctx, env); err != nil {
		return operation.Observation{}, r.unfit(ctx, env, err)
	}
	return done(fmt.Sprintf("%s; %d rings of %d files of %d MB", r.found.version(), len(r.spec.points(r.dev.Name)), r.spec.Files, r.spec.Megabytes))
}

// adopt takes rings on that were begun, all of them, when fleetd was killed before
// it knew.
func (r *ring) adopt(ctx context.Context, env operation.Env) (bool, error) {
	conn, err := env.Conn(ctx, r.dev)
	if err != nil {
		return false, err
	}
	now, err := r.running(ctx, conn)
	if err != nil {
		return false, err
	}
	for _, f := range r.state.Rings {
		if !now[f].alive {
			return false, nil
		}
	}
	return true, r.remember(ctx, env, phaseRunning)
}

// look logs in and learns what the platform has.
func (r *ring) look(ctx context.Context, env operation.Env) error {
	session, err := env.Session(ctx, r.dev)
	if err != nil {
		return err
	}
	r.tools = session.Definition().Files
	return nil
}

// admit refuses what cannot be captured, before anything is begun.
func (r *ring) admit(ctx context.Context, env operation.Env) error {
	conn, err := env.Conn(ctx, r.dev)
	if err != nil {
		return err
	}
	points := r.spec.points(r.dev.Name)
	for _, p := range points {
		if r.found, err = ask(ctx, conn, r.dev, p.Interface, p.Filter, r.spec.Sudo); err != nil {
			return err
		}
		if err := r.found.check(r.dev, p.Interface, p.Filter); err != nil {
			return err
		}
	}
	overlap := 0
	if !r.found.takes("-W") {
		overlap = 1 // two files of a ring grow while one takes over from the other
	}
	if err := r.space(ctx, conn, r.spec.bytes(len(points), overlap)); err != nil {
		return err
	}
	if r.spec.Evidence {
		if err := r.lookBefore(ctx, conn, env); err != nil {
			return err
		}
	}
	if r.spec.UntilLog != "" {
		res, err := conn.Exec(ctx, device.ExecRequest{Args: r.sudo("test", "-f", r.spec.Log, "-a", "-r", r.spec.Log), MaxBytes: maxSaid})
		if err != nil {
			return err
		}
		if res.Status != 0 {
			return r.refuse(fault.Invalid, "follow "+r.spec.Log, "name another file with --log, or log in as a user who may read it", "it is no file that can be read there")
		}
	}
	return nil
}

func (r *ring) refuse(kind fault.Kind, act, next, format string, args ...any) error {
	return &fault.Error{Kind: kind, Act: act + " on " + r.dev.Name, Device: r.dev.Name, Stage: "check", Err: fmt.Errorf(format, args...), Next: next}
}

// space refuses rings that are larger than what may be used.
func (r *ring) space(ctx context.Context, conn device.Conn, need int64) error {
	files, err := conn.Files(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = files.Close() }()
	info, err := files.Stat(r.spec.Directory)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && !info.IsDir():
		return r.refuse(fault.Invalid, "capture to "+r.spec.Directory, "name another one with --dir", "there is no such directory")
	case err != nil:
		return err
	}
	have, known, err := transfer.Space(ctx, conn, files, r.tools, r.spec.Directory)
	if err != nil {
		return err
	}
	if !known {
		return r.refuse(fault.Unsupported, "capture to "+r.spec.Directory, "", "the device does not say how much space is free there")
	}
	keep := int64(float64(have.Total) * r.spec.MinFreePercent / 100)
	r.floor = keep >> 10
	if have.Available-need < keep {
		return r.refuse(fault.Conflict, "capture to "+r.spec.Directory, "free space there, make the ring smaller (--ring), or name another directory (--dir)",
			"the rings take up to %d bytes and %d bytes are to stay free (--min-free), but %d bytes are free", need, keep, have.Available)
	}
	return nil
}

// sudo puts sudo before a command where it was asked for.
func (r *ring) sudo(args ...string) []string {
	if r.spec.Sudo {
		return append([]string{"sudo", "-n"}, args...)
	}
	return args
}

// plan lays down what will be run, before it is.
func (r *ring) plan(env operation.Env) {
	var name [6]byte
	_, _ = rand.Read(name[:]) // it never fails
	run := "capfleet-" + hex.EncodeToString(name[:])
	r.state = ringState{Run: run, Directory: path.Join(r.spec.Directory, run), Version: r.found.version(), Began: env.Now(), Rotated: !r.found.takes("-W"), Floor: r.floor, Evidence: r.early}
	for i, p := range r.spec.points(r.dev.Name) {
		f := &ringFile{ID: fmt.Sprintf("ring-%s-%d", hex.EncodeToString(name[:]), i), Interface: p.Interface, Filter: p.Filter,
			Base: path.Join(r.state.Directory, fmt.Sprintf("%d_%s.pcap", i, fileName(p.Interface)))}
		f.Command = r.command(f)
		r.state.Rings = append(r.state.Rings, f)
	}
}

// fileName makes a part of a file's name of an interface's.
func fileName(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' {
			return c
		}
		return '_'
	}, s)
}

// command is tcpdump's command line. -C counts millions of bytes, as we do.
func (r *ring) command(f *ringFile) []string {
	args := []string{"tcpdump", "-i", f.Interface, "-s", strconv.Itoa(r.spec.SnapLen), "-w", f.Base}
	if !r.state.Rotated {
		args = append(args, "-C", strconv.Itoa(r.spec.Megabytes), "-W", strconv.Itoa(r.spec.Files))
	} else if r.found.flushes() {
		args = append(args, "-U") // so that the size tells when it is time
	}
	if r.found.takes("--immediate-mode") {
		// Without it the kernel hands packets over by the block, up to a second late,
		// and what it still has is lost at the end.
		args = append(args, "--immediate-mode")
	}
	if r.found.takes("-B size") {
		args = append(args, "-B", "16384") // KiB, for bursts
	}
	if r.found.takes("-Z user") && (r.spec.Sudo || r.dev.Credentials.Username == "root") {
		args = append(args, "-Z", "root") // another user could not open the next file
	}
	if f.Filter != "" {
		args = append(args, f.Filter)
	}
	return args
}

// keep is the process of a ring; turn is the number of its file with our own
// rotation.
func (r *ring) keep(f *ringFile, turn int) Keep {
	k := Keep{ID: f.ID, Args: f.Command, Limit: duration(r.spec.LimitSeconds), Floor: r.state.Floor, Place: r.state.Directory, Log: f.Base + ".log", Sudo: r.spec.Sudo}
	if r.state.Rotated {
		k.ID = turnID(f, turn)
		k.Args = append([]string{}, f.Command...)
		for i := range k.Args {
			if k.Args[i] == "-w" {
				k.Args[i+1] = r.turnFile(f, turn)
				break
			}
		}
	}
	return k
}

func turnID(f *ringFile, turn int) string { return f.ID + "-" + strconv.Itoa(turn) }

func (r *ring) turnFile(f *ringFile, turn int) string {
	return f.Base + strconv.Itoa(turn%r.spec.Files)
}

// ids names every process that may run.
func (r *ring) ids() []string {
	var ids []string
	for _, f := range r.state.Rings {
		if !r.state.Rotated {
			ids = append(ids, f.ID)
			continue
		}
		for turn := max(0, f.Turn-1); turn <= f.Turn+1; turn++ {
			ids = append(ids, turnID(f, turn))
		}
	}
	return ids
}

// begin starts all rings of the device and sees that they run.
func (r *ring) begin(ctx context.Context, env operation.Env) error {
	conn, err := env.Conn(ctx, r.dev)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // sessions of the connection are for others, too
	for _, f := range r.state.Rings {
		g.Go(func() error { return r.keep(f, 0).Start(gctx, conn) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.verify(ctx, conn)
}

// startPatience is how long a tcpdump may take to open its interface and file.
const startPatience = 20 * time.Second

// verify waits until each ring has its file and still runs.
func (r *ring) verify(ctx context.Context, conn device.Conn) error {
	wait, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	missing := r.state.Rings[0].Interface
	const first, most = 100 * time.Millisecond, time.Second
	for pause := first; ; pause = min(2*pause, most) {
		begun, err := r.begun(wait, conn)
		switch {
		case err != nil && wait.Err() != nil && ctx.Err() == nil:
			return r.late(missing)
		case err != nil:
			return err
		case begun == "":
			return nil
		}
		missing = begun
		// Each look costs the device several processes, which a busy one feels.
		if !rest(wait, pause) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return r.late(missing)
		}
	}
}

// begun names an interface whose ring has no file yet; none when all write. One whose
// tcpdump has ended is an error.
func (r *ring) begun(ctx context.Context, conn device.Conn) (missing string, err error) {
	now, err := r.running(ctx, conn)
	if err != nil {
		return "", err
	}
	for _, f := range r.state.Rings {
		switch {
		case now[f].gone && !now[f].alive:
			return "", r.died(ctx, conn, f)
		case !now[f].alive: // not recorded yet
			missing = f.Interface
		}
	}
	if missing != "" {
		return missing, nil
	}
	names, err := r.list(ctx, conn)
	if err != nil {
		return "", err
	}
	for _, f := range r.state.Rings {
		if !slices.ContainsFunc(names, func(name string) bool { return r.numbered(f, name) }) {
			missing = f.Interface
		}
	}
	return missing, nil
}

// late is a tcpdump that does not begin.
func (r *ring) late(iface string) error {
	return r.refuse(fault.Timeout, "start the capture of "+iface, "look at the load of the device", "tcpdump has no file after %v", startPatience)
}

// died says why a tcpdump is not there any more.
func (r *ring) died(ctx context.Context, conn device.Conn, f *ringFile) error {
	said, err := r.said(ctx, conn, f)
	if err != nil {
		return err
	}
	return &fault.Error{Kind: fault.Refused, Act: "capture " + f.Interface + " on " + r.dev.Name, Device: r.dev.Name, Stage: "start", Err: errors.New(complaint(said))}
}

// said is what the tcpdump of a ring wrote to its log.
func (r *ring) said(ctx context.Context, conn device.Conn, f *ringFile) (string, error) {
	res, err := conn.Exec(ctx, device.ExecRequest{Args: r.sudo("tail", "-c", strconv.Itoa(maxSaid/2), f.Base+".log"), MaxBytes: maxSaid})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(device.CleanText(res.Stdout)) {
		if !strings.HasPrefix(line, mark) {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

// health is what the device says of a ring's processes.
type health struct {
	alive bool
	gone  bool   // one has ended
	why   string // and the device's guard ended it: limit or floor
}

// running tells how the rings are; one of which nothing is recorded has no entry.
func (r *ring) running(ctx context.Context, conn device.Conn) (map[*ringFile]health, error) {
	runs, err := Runs(ctx, conn, r.spec.Sudo)
	if err != nil {
		return nil, err
	}
	all := map[*ringFile]health{}
	for _, f := range r.state.Rings {
		for _, run := range runs {
			if run.ID != f.ID && !strings.HasPrefix(run.ID, f.ID+"-") {
				continue
			}
			h := all[f]
			h.alive = h.alive || run.State == "alive"
			h.gone = h.gone || run.State != "alive"
			if run.Why != "" {
				h.why = run.Why
			}
			all[f] = h
		}
	}
	return all, nil
}

// list gives the names in the run's folder.
func (r *ring) list(ctx context.Context, conn device.Conn) ([]string, error) {
	const most = 1 << 20
	res, err := conn.Exec(ctx, device.ExecRequest{Args: r.sudo("ls", "-1", r.state.Directory), MaxBytes: most})
	if err != nil {
		return nil, err
	}
	if res.Status != 0 {
		return nil, r.refuse(fault.NotFound, "list "+r.state.Directory, "", "%s", clip(device.CleanText(res.Stderr)))
	}
	return strings.Fields(device.CleanText(res.Stdout)), nil
}

// numbered reports whether a name is that of a file of a ring.
func (r *ring) numbered(f *ringFile, name string) bool {
	number, ok := strings.CutPrefix(name, path.Base(f.Base))
	_, err := strconv.Atoi(number)
	return ok && err == nil
}

// end ends all processes of the rings, and notes which had ended by themselves.
func (r *ring) end(ctx context.Context, env operation.Env) error {
	conn, err := env.Conn(ctx, r.dev)
	if err != nil {
		return err
	}
	now, err := r.running(ctx, conn)
	if err != nil {
		return err
	}
	for _, f := range r.state.Rings {
		if f.Ended == "" {
			f.Ended = now[f].why
		}
	}
	_, err = Reap(ctx, conn, r.spec.Sudo, r.ids()...)
	return err
}

// discard takes back what an attempt had begun.
func (r *ring) discard(ctx context.Context, env operation.Env) error {
	if err := r.end(ctx, env); err != nil {
		return err
	}
	return r.remove(ctx, env)
}

// remove removes the run's folder from the device.
func (r *ring) remove(ctx context.Context, env operation.Env) error {
	conn, err := env.Conn(ctx, r.dev)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(path.Base(r.state.Directory), "capfleet-") {
		return fault.New(fault.Internal, "%q is no folder of ours", r.state.Directory)
	}
	res, err := conn.Exec(ctx, device.ExecRequest{Args: r.sudo("rm", "-rf", r.state.Directory), MaxBytes: maxSaid})
	if err == nil && res.Status != 0 {
		err = r.refuse(fault.Refused, "remove "+r.state.Directory, "", "%s", clip(device.CleanText(res.Stderr)))
	}
	return err
}

// folder makes the run's folder.
func (r *ring) folder(ctx context.Context, env operation.Env) error {
	conn, err := env.Conn(ctx, r.dev)
	if err != nil {
		return err
	}
	res, err := conn.Exec(ctx, device.ExecRequest{Args: r.sudo("mkdir", "-m", "700", r.state.Directory), MaxBytes: maxSaid})
	if err == nil && res.Status != 0 {
		err = r.refuse(fault.Denied, "make "+r.state.Directory, "name another directory with --dir", "%s", clip(device.CleanText(res.Stderr)))
	}
	return err
}
