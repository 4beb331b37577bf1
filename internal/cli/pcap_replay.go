package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/replay"
)

type pcapReplayOptions struct {
	outputFlags
	to, iface string
	pace      replay.Pace
	bits      string
	port      uint16
	limit     uint64
}

func (a *app) pcapReplayCommand() *cobra.Command {
	var opts pcapReplayOptions
	cmd := &cobra.Command{
		Use:   "replay FILE {--to HOST:PORT | --interface IF}",
		Short: "send a capture again: UDP payloads to a receiver, or frames",
		Long: `Sends the packets of a capture again, with the timing that they had or at a
rate.

--to sends what UDP datagrams carry through a socket of this host, to any
receiver and without privileges: flow records, syslog, SNMP traps. Datagrams
that were captured in part or in fragments are counted and not sent.

--interface sends whole Ethernet frames on an interface of this host; it needs
Linux and the capability CAP_NET_RAW. A host does not receive its own frames, so
the receiver is another one; change addresses first with "pcap rewrite", and
remove trailers of a BIG-IP with "pcap f5 --strip".

A packet that cannot be sent is counted, and the next one tried; the exit code
is 1 then. Only protocols without connections can be replayed to a receiver.
FILE - is stdin.

` + jsonHelp("rows", "row", `file, packets (read), sent, sent_bytes, failed, first_failure, other (not what
is sent), cut, fragments, duration_seconds, latest_seconds (the most that one
was sent after its time), packets_per_second, bits_per_second, complete, error`) + `

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl pcap replay ipfix.pcap --to 10.9.9.9:4739 --port 4739
  fleetctl pcap replay trace.pcap --interface eth1 --speed 10
  fleetctl pcap replay trace.pcap --interface eth1 --bps 100M`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		Args:              oneArg,
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&opts.to, "to", "", "send UDP payloads to `HOST:PORT`")
	fl.StringVar(&opts.iface, "interface", "", "send whole frames on this `interface`")
	fl.Float64Var(&opts.pace.Speed, "speed", 0, "`times` the capture's own speed (default 1)")
	fl.Float64Var(&opts.pace.PacketsPerSecond, "pps", 0, "a steady `rate` in packets a second")
	fl.StringVar(&opts.bits, "bps", "", "a steady `rate` in bits a second, such as 5M or 1G")
	fl.BoolVar(&opts.pace.Flat, "flat", false, "as fast as it can be sent")
	fl.Uint16Var(&opts.port, "port", 0, "with --to: only datagrams that went to this UDP `port`")
	fl.Uint64Var(&opts.limit, "limit", 0, "end after so many `packets`")
	cmd.RunE = a.local(func(ctx context.Context, args []string) error { return a.pcapReplay(ctx, &opts, args[0]) })
	return cmd
}

// replayedRow is a row of pcap replay.
type replayedRow struct {
	File string `json:"file"`
	replay.Result
	PacketsPerSecond *float64 `json:"packets_per_second"`
	BitsPerSecond    *float64 `json:"bits_per_second"`
	Complete         bool     `json:"complete"`
	Error            string   `json:"error,omitempty"`
}

func (a *app) pcapReplay(ctx context.Context, opts *pcapReplayOptions, name string) (err error) {
	if _, err := opts.format(); err != nil {
		return err
	}
	if (opts.to == "") == (opts.iface == "") {
		return &fault.Error{Kind: fault.Invalid, Act: "a replay needs one place to send to", Next: "give --to HOST:PORT or --interface IF"}
	}
	if opts.port != 0 && opts.to == "" {
		return fault.New(fault.Invalid, "--port is for --to: frames are sent whole")
	}
	if opts.bits != "" {
		if opts.pace.BitsPerSecond, err = bitRate(opts.bits); err != nil {
			return err
		}
	}
	file, err := a.openCapture(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r, err := pcap.NewReader(file, pcap.ReaderOptions{})
	if err != nil {
		return captureFault(name, err)
	}
	sender, err := opts.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fault.Wrap(fault.Internal, "end the replay", sender.Close())) }()
	show := a.newReplayLine(name)
	result, failed := replay.Run(ctx, r, sender, replay.Options{Pace: opts.pace, Payloads: opts.to != "", Port: opts.port, Limit: opts.limit, Progress: show.set})
	show.Close()
	row := replayedRow{File: name, Result: result, Complete: failed == nil}
	if failed != nil {
		row.Error = failed.Error()
	}
	if result.Seconds > 0 && result.Sent > 1 {
		packets, bits := float64(result.Sent)/result.Seconds, 8*float64(result.Bytes)/result.Seconds
		row.PacketsPerSecond, row.BitsPerSecond = &packets, &bits
	}
	if err := list(a, &opts.outputFlags, replayView(), []replayedRow{row}); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return fault.Wrap(fault.Canceled, "replay "+name, context.Cause(ctx))
	case failed != nil:
		return captureFault(name, failed)
	case result.Failed > 0:
		return fault.New(fault.Disconnected, "%d packets could not be sent; the first: %s", result.Failed, result.FirstFailure)
	case result.Sent == 0:
		return &fault.Error{Kind: fault.Invalid, Act: "nothing in " + name + " can be sent this way", Next: "see the counts, and --help"}
	}
	return nil
}

func (o *pcapReplayOptions) open(ctx context.Context) (replay.Sender, error) {
	if o.to != "" {
		s, err := replay.UDP(ctx, o.to)
		return s, fault.Wrap(fault.Invalid, "send to "+o.to, err)
	}
	s, err := replay.Frames(o.iface)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Denied, Act: "send frames on " + o.iface, Err: err,
			Next: "run it as root or with CAP_NET_RAW, or send UDP payloads with --to"}
	}
	return s, nil
}

// bitRate reads a number with an optional k, M or G, which are powers of 1000.
func bitRate(text string) (float64, error) {
	number, factor := text, 1.0
	for suffix, f := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9} {
		if cut, ok := strings.CutSuffix(text, suffix); ok {
			number, factor = cut, f
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v > 0) || v > 1e15 {
		return 0, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("--bps %q is no rate", text), Next: "write bits a second, such as 500k, 5M or 1G"}
	}
	return v * factor, nil
}

// replayLine shows how far a replay is, on a terminal.
type replayLine struct {
	name string
	line *liveLine
	mu   sync.Mutex
	now  replay.Result
}

func (a *app) newReplayLine(name string) *replayLine {
	r := &replayLine{name: name}
	if a.live() {
		r.line = startLiveLine(a.streams.Err, a.width, a.streams.Now, r.draw)
	}
	return r
}

func (r *replayLine) set(now replay.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = now
}

func (r *replayLine) draw(elapsed time.Duration, width int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := fmt.Sprintf("replay %s: %d sent, %s", r.name, r.now.Sent, output.Short(elapsed))
	if r.now.Failed > 0 {
		line += fmt.Sprintf(", %d failed", r.now.Failed)
	}
	return runewidth.Truncate(output.Clean(line), max(width, 1), "…")
}

func (r *replayLine) Close() {
	if r.line != nil {
		r.line.Close()
	}
}

func replayView() output.View {
	return output.View{Table: []output.Column{
		{Key: "file", Head: "FILE", Fixed: true},
		{Key: "packets", Head: "PACKETS", Kind: output.Number},
		{Key: "sent", Head: "SENT", Kind: output.Number},
		{Key: "failed", Head: "FAILED", Kind: output.Number},
		{Key: "other", Head: "OTHER", Kind: output.Number},
		{Key: "cut", Head: "CUT", Kind: output.Number},
		{Key: "fragments", Head: "FRAGMENTS", Kind: output.Number},
		{Key: "duration_seconds", Head: "SECONDS", Kind: output.Number},
		{Key: "packets_per_second", Head: "PACKETS/S", Kind: output.Number, Wide: true},
		{Key: "bits_per_second", Head: "BIT/S", Kind: output.Number, Wide: true},
		{Key: "latest_seconds", Head: "LATEST S", Kind: output.Number, Wide: true},
	}}
}
