package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/capture/capturejob"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

type captureStartOptions struct {
	on                      []string
	ring, minFree, dir      string
	log, untilLog, untilSEL string
	untilJob                string
	snapLen                 int
	duration, after, limit  time.Duration
	allOrNone, sudo         bool
	analysis                analysisOptions
}

const ringKeysHelp = `device, interface, filter, file, sha256, bytes, packets, first_time, last_time,
captured_packets, received_packets, dropped_by_kernel, dropped_by_interface,
began_at, stopped_at, stopped_by, ended_by, manifest`

func (a *app) captureStartCommand() *cobra.Command {
	var opts captureStartOptions
	var sel selectionFlags
	var job jobFlags
	cmd := &cobra.Command{
		Use:   "start [DEVICE...] --on INTERFACE[=FILTER]...",
		Short: "rings of capture files on many devices, until something happens",
		Long: `Keeps a ring of capture files on each interface of each selected device until
something happens on one of them; then all stop, and the files are fetched,
compared by hash, put in order of time and kept with a manifest. The rings live
on the devices: they go on without fleetd, are found again by the next one, and
end by themselves at --limit and before the disk is full (--min-free).

Interfaces, filters, rights, log and space are tried on each device before
anything begins. A device that cannot take part is reported and the others go on
without it, unless --all-or-none.

--analyze keeps no packets at all: what comes is read by an analysis in fleetd,
and its findings are the rows, as those of fleetctl pcap with device and
interface; tls-audit also sums up the clients and takes --fail-on weak. It takes
--duration, --limit, -s and capture stop. For one device as it comes:
fleetctl capture live ... | fleetctl pcap tls-audit -o jsonl -

What stops the rings: --duration, a line in a log (--until-log, followed through
its rotations from now on; "last message repeated N times" after such a line
counts), a new record of the BMC's log (--until-sel), another job's failure or
end (--until-job), and fleetctl capture stop. --after is captured behind it.

` + selectionHelp + defaultNoneHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", ringKeysHelp) + `
` + failureKeysHelp + `

` + waitHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitSomeFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitFound, fault.ExitInterrupted),
		Example: `  fleetctl capture start -l role=cap --on eth1='tcp port 443' --on eth2 \
      --until-log 'no space left' --log /var/log/messages --after 5s
  fleetctl capture start lon-cap-01 lon-cap-02 --on eth0='host 192.0.2.7' --on lon-cap-02:eth0='host 10.9.9.7' --duration 10m
  fleetctl capture start -l site=lon --on eth0 --ring 10x100MB --detach
  fleetctl capture start -l role=web --on eth0=tcp --analyze tls-audit --duration 24h -o csv
  fleetctl capture start -l role=web --on eth0=tcp --analyze tls-audit --duration 1h --fail-on weak`,
		ValidArgsFunction: a.completeDevices,
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&opts.on, "on", nil, "`interface` or interface=filter, as often as needed; DEVICE: before it is for that device alone")
	fl.StringVar(&opts.ring, "ring", "4x15MB", "`files` of the ring of each interface and their size; MB are millions of bytes")
	fl.IntVarP(&opts.snapLen, "snap-length", "s", 0, "`bytes` to keep of each packet; 0 is all")
	fl.StringVar(&opts.dir, "dir", "/var/tmp", "`directory` on the devices")
	fl.StringVar(&opts.minFree, "min-free", "5%", "`share` of the devices' disk that stays free")
	fl.DurationVar(&opts.duration, "duration", 0, "stop after this `time`")
	fl.StringVar(&opts.untilLog, "until-log", "", "stop when a new line of the log matches this `regexp`")
	fl.StringVar(&opts.log, "log", "", "the log `file` (default /var/log/messages)")
	fl.StringVar(&opts.untilSEL, "until-sel", "", "stop when a new record of the BMC's event log matches this `regexp`")
	fl.StringVar(&opts.untilJob, "until-job", "", "stop when something in this `job` fails, or it ends")
	fl.DurationVar(&opts.after, "after", 5*time.Second, "go on for this `time` behind what stops the rings")
	fl.DurationVar(&opts.limit, "limit", 24*time.Hour, "stop after this `time` whatever happens, also on the devices alone")
	fl.BoolVar(&opts.allOrNone, "all-or-none", false, "start nothing when one device cannot take part")
	fl.BoolVar(&opts.sudo, "sudo", false, "run tcpdump as root through sudo -n")
	opts.analysis.register(cmd)
	_ = cmd.MarkFlagRequired("on")
	sel.register(a, cmd)
	job.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		spec, err := opts.request(cmd)
		if err != nil {
			return err
		}
		s, err := sel.selection(args, noneIsError)
		if err != nil {
			return err
		}
		if spec.Analyze != nil {
			return a.analyze(ctx, f, &job, spec.Analyze, s, opts.analysis.failOn)
		}
		return a.submit(ctx, f, &job, capturejob.Operation, spec, s)
	})
	return cmd
}

// request is the job's spec: rings, or an analysis.
func (o *captureStartOptions) request(cmd *cobra.Command) (capturejob.Spec, error) {
	ring, err := o.spec()
	if err != nil {
		return capturejob.Spec{}, err
	}
	analyze, err := o.analysis.spec(cmd, ring)
	if err != nil || analyze != nil {
		return capturejob.Spec{Analyze: analyze}, err
	}
	return capturejob.Spec{Ring: ring}, nil
}

func (o *captureStartOptions) spec() (*capturejob.Ring, error) {
	s := &capturejob.Ring{SnapLen: o.snapLen, Directory: o.dir, DurationSeconds: o.duration.Seconds(), UntilLog: o.untilLog, Log: o.log, UntilSEL: o.untilSEL,
		UntilJob: o.untilJob, LimitSeconds: o.limit.Seconds(), AfterSeconds: new(o.after.Seconds()), AllOrNone: o.allOrNone, Sudo: o.sudo}
	for _, on := range o.on {
		// An interface's name holds no =; a filter may.
		name, filter, _ := strings.Cut(on, "=")
		s.Points = append(s.Points, capturejob.Point{Interface: name, Filter: filter})
	}
	var err error
	if s.Files, s.Megabytes, err = parseRing(o.ring); err != nil {
		return nil, err
	}
	if s.MinFreePercent, err = strconv.ParseFloat(strings.TrimSuffix(o.minFree, "%"), 64); err != nil {
		return nil, fault.New(fault.Invalid, "--min-free %q is no share of a disk, such as 5%%", o.minFree)
	}
	return s, nil
}

// parseRing reads FILESxSIZE, such as 4x15MB.
func parseRing(text string) (files, megabytes int, err error) {
	number, size, ok := strings.Cut(strings.ToLower(text), "x")
	if ok {
		factor := 1
		switch {
		case strings.HasSuffix(size, "gb"):
			size, factor = strings.TrimSuffix(size, "gb"), 1000
		default:
			size = strings.TrimSuffix(size, "mb")
		}
		var ferr, serr error
		files, ferr = strconv.Atoi(number)
		megabytes, serr = strconv.Atoi(size)
		if ferr == nil && serr == nil && files >= 0 && megabytes >= 0 && megabytes <= 1_000_000 {
			return files, megabytes * factor, nil
		}
	}
	return 0, 0, fault.New(fault.Invalid, "--ring %q is not of the form FILESxSIZE, such as 4x15MB", text)
}

// captureAnswer is the answer of a capture, which depends on its kind.
func captureAnswer(ans *answer, res api.Results) error {
	var s capturejob.Spec
	switch err := json.Unmarshal(res.Job.Spec, &s); {
	case err == nil && s.Ring != nil:
		ans.view = ringView()
	case err == nil && s.Analyze != nil:
		return analyzeAnswer(ans, res, s.Analyze)
	default:
		ans.view = liveView()
	}
	return nil
}

func ringView(first ...output.Column) output.View {
	return output.View{Table: append(first,
		output.Column{Key: "device", Head: "DEVICE"},
		output.Column{Key: "interface", Head: "ON"},
		output.Column{Key: "packets", Head: "PACKETS", Kind: output.Number},
		output.Column{Key: "dropped_by_kernel", Head: "DROPS", Kind: output.Number},
		output.Column{Key: "first_time", Head: "FIRST", Kind: output.Instant},
		output.Column{Key: "last_time", Head: "LAST", Kind: output.Instant},
		output.Column{Key: "bytes", Head: "BYTES", Kind: output.Number, Wide: true},
		output.Column{Key: "sha256", Head: "SHA-256", Fixed: true, Wide: true},
		output.Column{Key: "file", Head: "FILE", Wide: true},
		output.Column{Key: "stopped_by", Head: "STOPPED BY", Wide: true},
	)}
}

func (a *app) captureStopCommand() *cobra.Command {
	var out jobFlags
	cmd := &cobra.Command{
		Use:   "stop JOB",
		Short: "stop rings or an analysis now, and collect what there is",
		Long: `Stops the rings of a capture job on all its devices together and waits until
they are collected; of an analysis the findings. It is no cancel: what was
captured is kept. --detach does not wait.

` + jsonHelp("job, rows, failures and warnings", "row", ringKeysHelp) + `
` + failureKeysHelp + `

` + workExits(),
		Example:           "  fleetctl capture stop 12",
		Args:              oneArg,
		ValidArgsFunction: a.completeJobs,
	}
	out.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		if _, err := out.format(); err != nil {
			return err
		}
		if err := stoppable(ctx, f, args[0]); err != nil {
			return err
		}
		job, err := f.Stop(ctx, args[0])
		if err != nil {
			return err
		}
		return a.attendOrLeave(ctx, f, &out, job)
	})
	return cmd
}

// stoppable refuses a job that is no capture with a stop of its own.
func stoppable(ctx context.Context, f fleet, id string) error {
	job, err := f.Job(ctx, id)
	if err != nil {
		return err
	}
	var s capturejob.Spec
	if job.Operation == capturejob.Operation && json.Unmarshal(job.Spec, &s) == nil && s.Analyze != nil {
		return nil
	}
	return ringJob(ctx, f, id)
}

// ringJob refuses a job that is no capture into rings.
func ringJob(ctx context.Context, f fleet, id string) error {
	job, err := f.Job(ctx, id)
	if err != nil {
		return err
	}
	if !isRing(job) {
		return &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("job %s is no capture into rings", id), Next: "fleetctl capture list has those"}
	}
	return nil
}

func isRing(job api.Job) bool {
	var s capturejob.Spec
	return job.Operation == capturejob.Operation && json.Unmarshal(job.Spec, &s) == nil && s.Ring != nil
}

func isLive(job api.Job) bool {
	var s capturejob.Spec
	return job.Operation == capturejob.Operation && json.Unmarshal(job.Spec, &s) == nil && s.Live != nil
}
