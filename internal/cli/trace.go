package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/capture/capturejob"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/path"
)

type traceOptions struct {
	outputFlags
	hops     []string
	filter   string
	maps     []string
	duration time.Duration
	ring     string
	snapLen  int
	dir      string
	ladder   int
	list     int
	failOn   string
	sudo     bool
}

func (a *app) traceCommand() *cobra.Command {
	var opts traceOptions
	cmd := &cobra.Command{
		Use:   "trace --hop NAME=DEVICE:INTERFACE --hop ... --duration TIME",
		Short: "where on a path packets are lost: capture everywhere, then compare",
		Long: `Captures at several places of a path at the same time, all or none, and then
says at which place packets were seen last and where they were missing. Give the
hops in the order of the path, from the client's side to the server's; a device
may be two hops, with an interface each.

--map NAME:FROM=TO tells a translation that is in force from that hop on; the
filter is put in terms of it there. Others are looked for.

What the captures themselves dropped is counted against the verdict. Neighbours,
routes, listeners and interface counters of each device are gathered beside it,
and kept with the job: fleetctl artifact list --job JOB.

Ctrl-C stops the captures on all devices and gives up the trace.

The output is that of "fleetctl pcap path", which does the same on files; JSON
has "job" and "evidence" (device, interface_counters, evidence) besides.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitSomeFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitFound, fault.ExitInterrupted),
		Example: `  fleetctl trace --hop client=web-01:eth0 --hop fw-in=fw-01:eth1 \
      --hop fw-out=fw-01:eth2 --hop server=db-01:eth0 \
      -f 'host 10.1.1.1 and tcp port 5432' --duration 30s
  fleetctl trace --hop in=lb-01:1.1 --hop out=lb-01:1.2 --map out:10.1.1.1=10.2.2.2 \
      -f 'host 10.1.1.1' --duration 1m --fail-on lost -o json`,
		Args: cobra.NoArgs,
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&opts.hops, "hop", nil, "`NAME=DEVICE:INTERFACE`, in the order of the path (repeatable)")
	fl.StringVarP(&opts.filter, "filter", "f", "", "a libpcap `filter`, as before all translations")
	fl.StringArrayVar(&opts.maps, "map", nil, "`NAME:FROM=TO`: an address that is another from this hop on (repeatable)")
	fl.DurationVar(&opts.duration, "duration", 30*time.Second, "capture for this `time`")
	fl.StringVar(&opts.ring, "ring", "4x25MB", "`files` of the ring of each hop and their size; older packets than it holds are no part of it")
	fl.IntVarP(&opts.snapLen, "snap-length", "s", 192, "`bytes` to keep of each packet; 0 is all")
	fl.StringVarP(&opts.dir, "directory", "d", "", "keep captures and evidence in this `folder`, too")
	fl.IntVar(&opts.ladder, "ladder", 0, "draw so many `packets` of the first conversation with a loss")
	fl.IntVar(&opts.list, "list", 100, "list at most so many lost `packets`")
	fl.StringVar(&opts.failOn, "fail-on", "", "exit with 6 on this `finding`: lost, or problem for everything but complete")
	fl.BoolVar(&opts.sudo, "sudo", false, "run tcpdump as root through sudo -n")
	_ = cmd.MarkFlagRequired("hop")
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"lost", "problem"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.with(func(ctx context.Context, f fleet, _ []string) error { return a.trace(ctx, f, &opts) })
	return cmd
}

// hop is one place of a trace.
type hop struct {
	name, device, iface string
	maps                []path.Map
}

// traceRow is what is used of a capture's row.
type traceRow struct {
	Device    string          `json:"device"`
	Interface string          `json:"interface"`
	File      string          `json:"file"`
	SHA256    string          `json:"sha256"`
	Dropped   *uint64         `json:"dropped_by_kernel"`
	Lost      *uint64         `json:"dropped_by_interface"`
	From      time.Time       `json:"running_from"`
	To        time.Time       `json:"running_to"`
	Offset    *float64        `json:"clock_offset_seconds"`
	Within    *float64        `json:"clock_offset_within_seconds"`
	Packets   uint64          `json:"packets"`
	First     *time.Time      `json:"first_time"`
	Captured  *uint64         `json:"captured_packets"`
	EndedBy   string          `json:"ended_by"`
	Counters  json.RawMessage `json:"interface_counters,omitempty"`
	Evidence  string          `json:"evidence,omitempty"`
}

// traceEvidence is what a device had beside its captures.
type traceEvidence struct {
	Hop      string          `json:"hop"`
	Device   string          `json:"device"`
	Counters json.RawMessage `json:"interface_counters"`
	Evidence string          `json:"evidence"` // digest of the artifact
}

// traceDocument is the JSON of a trace.
type traceDocument struct {
	*path.Result
	Job      string          `json:"job"`
	Evidence []traceEvidence `json:"evidence"`
}

func (a *app) trace(ctx context.Context, f fleet, opts *traceOptions) error {
	if _, err := opts.format(); err != nil {
		return err
	}
	if err := checkFailOn(opts.failOn); err != nil {
		return err
	}
	hops, err := opts.read()
	if err != nil {
		return err
	}
	spec, devices, err := opts.request(hops)
	if err != nil {
		return err
	}
	job, err := a.start(ctx, f, capturejob.Operation, capturejob.Spec{Ring: spec}, api.Selection{Names: devices})
	if err != nil {
		return err
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		if ctx.Err() == nil {
			return err
		}
		return errors.Join(a.giveUp(ctx, f, job), status(fault.ExitInterrupted))
	}
	a.reportFailures(res)
	if code := jobCode(res.Job); code != fault.ExitDone {
		a.say("not every hop could be captured, so that nothing can be said of the path; see: fleetctl job show %s", job.ID)
		return statusOf(code)
	}
	return a.concludeTrace(ctx, f, opts, hops, res)
}

// giveUp cancels the captures of a trace that was interrupted.
func (a *app) giveUp(ctx context.Context, f fleet, job api.Job) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if _, err := f.Cancel(ctx, job.ID); err != nil {
		return fmt.Errorf("job %s may go on until its time is over: %w", job.ID, err)
	}
	a.say("the captures of job %s are stopped", job.ID)
	return nil
}

// read reads hops and translations.
func (o *traceOptions) read() ([]hop, error) {
	var hops []hop
	for _, arg := range o.hops {
		name, place, ok := strings.Cut(arg, "=")
		device, iface, ok2 := strings.Cut(place, ":")
		switch {
		case !ok || !ok2 || name == "" || device == "" || iface == "":
			return nil, fault.New(fault.Invalid, "--hop %q is not of the form NAME=DEVICE:INTERFACE", arg)
		case slices.ContainsFunc(hops, func(h hop) bool { return h.name == name }):
			return nil, fault.New(fault.Invalid, "hop %s is given twice", name)
		case slices.ContainsFunc(hops, func(h hop) bool { return h.device == device && h.iface == iface }):
			return nil, fault.New(fault.Invalid, "%s:%s is given twice", device, iface)
		}
		hops = append(hops, hop{name: name, device: device, iface: iface})
	}
	if len(hops) < 2 {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "a path has at least two hops", Next: "give another --hop NAME=DEVICE:INTERFACE"}
	}
	for _, arg := range o.maps {
		name, rule, _ := strings.Cut(arg, ":")
		i := slices.IndexFunc(hops, func(h hop) bool { return h.name == name })
		if i < 0 {
			return nil, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--map %q names no hop", arg), Next: "write one of the NAMEs of --hop before it"}
		}
		m, err := readMap(rule)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, fmt.Sprintf("--map %q", arg), err)
		}
		hops[i].maps = append(hops[i].maps, m)
	}
	switch {
	case o.duration <= 0:
		return nil, fault.New(fault.Invalid, "--duration %v: a trace takes some time", o.duration)
	case o.ladder < 0 || o.list < 1:
		return nil, fault.New(fault.Invalid, "--ladder and --list are numbers of packets")
	}
	return hops, nil
}

// request makes captures of hops: each with its filter, for the same time.
func (o *traceOptions) request(hops []hop) (*capturejob.Ring, []string, error) {
	s := &capturejob.Ring{SnapLen: o.snapLen, Directory: "/var/tmp", MinFreePercent: 5, DurationSeconds: o.duration.Seconds(),
		LimitSeconds: (o.duration + time.Minute).Seconds(), AllOrNone: true, Sudo: o.sudo, Evidence: true, AfterSeconds: new(0.0)}
	var err error
	if s.Files, s.Megabytes, err = parseRing(o.ring); err != nil {
		return nil, nil, err
	}
	var devices []string
	filter := o.filter
	for _, h := range hops {
		filter = translated(filter, h.maps)
		s.Points = append(s.Points, capturejob.Point{Interface: h.device + ":" + h.iface, Filter: filter})
		if !slices.Contains(devices, h.device) {
			devices = append(devices, h.device)
		}
	}
	return s, devices, nil
}

// translated puts a filter in terms of translations: what it meant before, or the
// same with the addresses that are in force now.
func translated(filter string, maps []path.Map) string {
	now := filter
	for _, m := range maps {
		now = replaceWord(now, m.From.String(), m.To.String())
	}
	if now == filter {
		return filter
	}
	return "(" + filter + ") or (" + now + ")"
}

// replaceWord replaces an address where it stands alone.
func replaceWord(text, from, to string) string {
	part := func(b byte) bool {
		return b == '.' || b == ':' || b == '/' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
	}
	var b strings.Builder
	for {
		i := strings.Index(text, from)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := i + len(from)
		b.WriteString(text[:i])
		if i > 0 && part(text[i-1]) || end < len(text) && part(text[end]) {
			b.WriteString(from)
		} else {
			b.WriteString(to)
		}
		text = text[end:]
	}
}

// concludeTrace fetches the captures and says what they show.
func (a *app) concludeTrace(ctx context.Context, f fleet, opts *traceOptions, hops []hop, res api.Results) error {
	dir := opts.dir
	if dir == "" {
		tmp, err := os.MkdirTemp("", "fleetctl-trace-")
		if err != nil {
			return fault.Wrap(fault.Storage, "make a folder for the captures", err)
		}
		defer func() { _ = os.RemoveAll(tmp) }()
		dir = tmp
	} else if err := os.MkdirAll(dir, 0o750); err != nil {
		return fault.Wrap(fault.Storage, "make "+dir, err)
	}
	rows := map[string]traceRow{}
	for _, raw := range res.Rows {
		var row traceRow
		if err := json.Unmarshal(raw, &row); err != nil {
			return fault.Wrap(fault.Internal, "read the result", err)
		}
		rows[row.Device+":"+row.Interface] = row
	}
	doc := traceDocument{Job: res.Job.ID, Evidence: []traceEvidence{}}
	var places []path.Hop
	var closers []io.Closer
	defer func() {
		for _, c := range closers {
			_ = c.Close()
		}
	}()
	for i, h := range hops {
		row, ok := rows[h.device+":"+h.iface]
		if !ok {
			return fault.New(fault.Internal, "job %s has no capture of %s:%s", res.Job.ID, h.device, h.iface)
		}
		file, err := a.traceFile(ctx, f, row, filepath.Join(dir, strconv.Itoa(i+1)+"_"+filepath.Base(row.File)))
		if err != nil {
			return err
		}
		closers = append(closers, file)
		places = append(places, row.place(h, file))
		doc.Evidence = append(doc.Evidence, traceEvidence{Hop: h.name, Device: h.device, Counters: row.Counters, Evidence: row.Evidence})
	}
	result, failed := path.Analyze(ctx, places, path.Options{Lost: opts.list, Ladder: opts.ladder})
	if ctx.Err() != nil {
		return status(fault.ExitInterrupted)
	}
	if result == nil {
		return fault.Wrap(fault.Internal, "follow the packets", failed)
	}
	doc.Result = result
	if err := a.printPath(&opts.outputFlags, result, doc); err != nil {
		return err
	}
	a.remark("the captures and what was beside them are kept with job %s: fleetctl artifact list --job %s", res.Job.ID, res.Job.ID)
	if failed != nil {
		return fault.Wrap(fault.Internal, "read the captures", failed)
	}
	return foundOnPath(result, opts.failOn)
}

// traceFile fetches a capture and opens it.
func (a *app) traceFile(ctx context.Context, f fleet, row traceRow, name string) (*os.File, error) {
	list, err := findArtifact(ctx, f, row.SHA256)
	if err != nil {
		return nil, err
	}
	if err := a.fetchArtifact(ctx, f, list[0], name); err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	return file, fault.Wrap(fault.Storage, "read "+name, err)
}

// place gives a hop with its capture. When it ran is told in its own clock, as far as
// that is sure: what is told of the clock has an error, and a ring that came round has
// no more than its newest packets.
func (r *traceRow) place(h hop, file io.Reader) path.Hop {
	p := path.Hop{Name: h.name, Maps: h.maps, Captures: []path.Capture{{Name: r.File, Reader: file}}, DropsUnknown: r.Dropped == nil}
	for _, n := range []*uint64{r.Dropped, r.Lost} {
		if n != nil {
			p.Drops += *n
		}
	}
	if r.Offset == nil || r.Within == nil {
		return p
	}
	offset, within := time.Duration(*r.Offset*float64(time.Second)), time.Duration(*r.Within*float64(time.Second))
	p.Clock, p.ClockWithin = &offset, within
	if r.EndedBy != "" {
		return p // earlier than all others, nobody saw when
	}
	began, ended := r.From.Add(offset+within), r.To.Add(offset-within)
	switch {
	case r.Captured != nil && *r.Captured == r.Packets:
		p.Began = &began
	case r.Captured != nil && r.First != nil && r.First.After(began):
		p.Began = r.First
	case r.Captured != nil:
		p.Began = &began
	}
	p.Ended = &ended
	return p
}
