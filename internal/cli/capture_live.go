package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/capture/capturejob"
	"capfleet/internal/fault"
)

type captureLiveOptions struct {
	iface, filter, write, f5 string
	snapLen                  int
	packets, bytes           int64
	duration                 time.Duration
	noPromiscuous, sudo, yes bool
}

func (a *app) captureLiveCommand() *cobra.Command {
	var opts captureLiveOptions
	cmd := &cobra.Command{
		Use:   "live DEVICE -i INTERFACE [-f FILTER]",
		Short: "packets of one device as they come, for a pipe into Wireshark",
		Long: `Captures on one device and writes pcap to stdout, or with -w to a file, as the
packets come. The device's own tcpdump does the work; interface and filter are
tried there before anything starts, and our own SSH sessions are left out by the
addresses that the device sees, whatever the filter says.

A capture always has a limit: an hour where nothing else is said. It ends with
Ctrl-C, and when whoever reads the output goes; nothing stays on the device then
or after any other end. Only whole packets are written. tcpdump's counts, the
packets it dropped among them, are on stderr at the end.

On a BIG-IP the interface 0.0 is all of TMM, and :n, :nn, :nnn add details and p
the other side of each flow, as in 0.0:nnnp. --f5 ssl adds the keys of TLS
sessions: the device is changed while it runs and put back afterwards, and the
capture is as secret as the keys are.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitInterrupted),
		Example: `  fleetctl capture live lon-cap-01 -i eth0 -f 'tcp port 443' | wireshark -k -i -
  fleetctl capture live lon-cap-01 -i eth0 -f 'tcp port 443' | tshark -r -
  fleetctl capture live lon-ltm-01 -i 0.0:nnnp -f 'host 192.0.2.10' -w flow.pcap
  fleetctl capture live lon-cap-01 -i eth0 --packets 1000 --duration 30s -w x.pcap`,
		Args:              oneArg,
		ValidArgsFunction: a.completeDevices,
	}
	fl := cmd.Flags()
	fl.StringVarP(&opts.iface, "interface", "i", "", "`interface` to capture on, as the device calls it")
	fl.StringVarP(&opts.filter, "filter", "f", "", "`filter` in tcpdump's language; see fleetctl capture filter")
	fl.IntVarP(&opts.snapLen, "snap-length", "s", 0, "`bytes` to keep of each packet; 0 is all")
	fl.Int64Var(&opts.packets, "packets", 0, "end after this `number` of packets")
	fl.Int64Var(&opts.bytes, "bytes", 0, "end before this `number` of bytes, headers included")
	fl.DurationVar(&opts.duration, "duration", time.Hour, "end after this `time`; at most 24h")
	fl.StringVarP(&opts.write, "write", "w", "", "write to this `file` instead of stdout")
	fl.StringVar(&opts.f5, "f5", "", "`details` that a BIG-IP adds to each packet, such as n,ssl:v")
	fl.BoolVarP(&opts.noPromiscuous, "no-promiscuous-mode", "p", false, "leave the interface out of promiscuous mode")
	fl.BoolVar(&opts.sudo, "sudo", false, "run tcpdump as root through sudo -n")
	fl.BoolVarP(&opts.yes, "yes", "y", false, "with --f5 ssl, do not ask")
	_ = cmd.MarkFlagRequired("interface")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		return a.captureLive(ctx, f, &opts, opts.spec(cmd.Flags().Changed), args[0])
	})
	return cmd
}

// spec makes the request. A limit that was given is sent, also when it is 0, which
// fleetd refuses: it would be none.
func (o *captureLiveOptions) spec(given func(string) bool) *capturejob.Live {
	s := &capturejob.Live{Interface: o.iface, Filter: o.filter, SnapLen: o.snapLen, F5: o.f5, NoPromiscuous: o.noPromiscuous, Sudo: o.sudo}
	if given("packets") {
		s.Packets = &o.packets
	}
	if given("bytes") {
		s.Bytes = &o.bytes
	}
	d := o.duration.Seconds()
	s.DurationSeconds = &d
	return s
}

func (a *app) captureLive(ctx context.Context, f fleet, opts *captureLiveOptions, spec *capturejob.Live, device string) (err error) {
	if opts.write == "" && a.streams.OutTerminal {
		return &fault.Error{Kind: fault.Invalid, Act: "a capture is not for a terminal", Next: "pipe it, as in | wireshark -k -i -, or write it to a file with -w"}
	}
	if spec.HoldsKeys() {
		question := fmt.Sprintf("%s is changed while it captures (tcpdump.sslprovider), and the capture will hold the keys of TLS sessions. Go on?", device)
		if err := a.confirm(ctx, opts.yes, question); err != nil {
			return err
		}
	}
	out, name := a.streams.Out, "stdout"
	// Without this the process ends before it can say what it has captured.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	job, err := a.start(ctx, f, capturejob.Operation, capturejob.Spec{Live: spec}, api.Selection{Names: []string{device}})
	if err != nil {
		return err
	}
	if opts.write != "" {
		// Only now: a capture that is refused here makes no file.
		file, ferr := newCaptureFile(opts.write)
		if ferr != nil {
			_, cerr := f.Cancel(context.WithoutCancel(ctx), job.ID)
			return errors.Join(ferr, cerr)
		}
		defer func() {
			if cerr := file.Close(); cerr != nil && err == nil {
				err = writeFault(opts.write, cerr)
			}
		}()
		out, name = file, opts.write
	}
	res, err := a.readLive(ctx, f, job, out, func(text string) { a.note(job.ID, text) })
	if err := a.reportLive(res, name, err); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return status(fault.ExitInterrupted)
	}
	return statusOf(jobCode(res.Job))
}

// reportLive says how a capture ended. A reader of the output that went is no
// failure: it is how such a capture ends.
func (a *app) reportLive(res api.Results, name string, err error) error {
	a.reportFailures(res)
	for _, raw := range res.Rows {
		var row capturejob.LiveRow
		if jerr := json.Unmarshal(raw, &row); jerr != nil {
			return fault.Wrap(fault.Internal, "read the result", jerr)
		}
		a.remark("%s", liveSummary(&row))
	}
	var at *sinkError
	switch {
	case errors.As(err, &at) && (errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)):
		return nil
	case errors.As(err, &at):
		return writeFault(name, at.err)
	}
	return err
}
