package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// captureOut is the flag of commands that write a capture.
type captureOut struct {
	file string
}

func (o *captureOut) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.file, "out", "w", "", "write the capture to `file`, which is there complete or not at all; - is stdout")
	_ = cmd.MarkFlagRequired("out")
}

// damagedInput is the error of a capture that could not be read to its end; what
// was read before is written all the same.
type damagedInput struct{ error }

func (d damagedInput) Unwrap() error { return d.error }

// captureWritten reports whether a capture is in its place, be it of a damaged input.
func captureWritten(err error) bool {
	var damaged damagedInput
	return err == nil || errors.As(err, &damaged)
}

// writeCaptureTo gives fill the place for a capture. What fill returns as
// damagedInput is told after the file is in its place, everything else leaves no
// file.
func (a *app) writeCaptureTo(ctx context.Context, o *captureOut, fill func(io.Writer) error) error {
	if o.file == "-" && a.streams.OutTerminal {
		return &fault.Error{Kind: fault.Invalid, Act: "a capture is not for a terminal", Next: "use --out FILE, or a pipe such as | wireshark -k -i -"}
	}
	var damaged damagedInput
	write := func(w io.Writer) error {
		err := fill(w)
		if errors.As(err, &damaged) {
			return nil
		}
		return err
	}
	var err error
	if o.file == "-" {
		out := bufio.NewWriterSize(a.streams.Out, 64<<10)
		err = errors.Join(write(out), out.Flush())
	} else {
		err = output.WriteWith(o.file, write)
	}
	switch {
	case ctx.Err() != nil:
		return fault.Wrap(fault.Canceled, "write the capture", context.Cause(ctx))
	case err != nil && fault.KindOf(err) != fault.Internal:
		return err
	case err != nil:
		return fault.Wrap(fault.Storage, "write "+o.file, err)
	case damaged.error != nil:
		return fault.Wrap(fault.Invalid, "read the whole input", damaged)
	}
	return nil
}

// reportWritten prints what was written: as the command's result, or, where the capture
// itself goes to stdout, on stderr.
func (a *app) reportWritten(o *captureOut, flags *outputFlags, ans answer, summary string) error {
	if o.file != "-" {
		return a.print(flags, ans)
	}
	if flags.file != "" {
		return a.print(flags, ans)
	}
	a.remark("%s", summary)
	return nil
}

// ngWriter begins a pcapng file that says what made it.
func (a *app) ngWriter(w io.Writer) (*pcap.NGWriter, error) {
	return pcap.NewNGWriter(w, pcap.Section{Application: fmt.Sprintf("fleetctl %s", a.build.Version)})
}

// copyCapture reads a capture and writes its packets, each after change had it and
// where that says so, in the format that it has. What cannot be read is
// damagedInput, after what was before it is written.
func (a *app) copyCapture(ctx context.Context, in io.Reader, w io.Writer, change func(*pcap.Packet) bool) error {
	r, err := pcap.NewReader(in, pcap.ReaderOptions{})
	if err != nil {
		return fault.Wrap(fault.Invalid, "read the capture", err)
	}
	out, err := a.writerLike(r, w)
	if err != nil {
		return err
	}
	var p pcap.Packet
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := r.Next(&p)
		if err == nil {
			if change(&p) {
				err = out.Write(&p)
			}
			if err == nil {
				continue
			}
			return fault.Wrap(fault.Invalid, "write the capture", err)
		}
		if flushed := out.Flush(); flushed != nil {
			return flushed
		}
		if errors.Is(err, io.EOF) {
			if err = layers.Unknown(r); err == nil {
				return nil
			}
		}
		return damagedInput{err}
	}
}

// packetWriter writes either format.
type packetWriter interface {
	Write(p *pcap.Packet) error
	Flush() error
}

// writerLike begins a file of the format that r reads.
func (a *app) writerLike(r *pcap.Reader, w io.Writer) (packetWriter, error) {
	if r.Format() == pcap.FormatPcap {
		i := r.Interfaces()[0]
		unit := pcap.Microseconds
		if i.TicksPerSecond > 1e6 {
			unit = pcap.Nanoseconds
		}
		return pcap.NewWriterOf(w, i, unit)
	}
	out, err := a.ngWriter(w)
	return &ngCopy{NGWriter: out, from: r, ids: map[int]int{}}, err
}

// ngCopy describes each interface when its first packet comes.
type ngCopy struct {
	*pcap.NGWriter
	from *pcap.Reader
	ids  map[int]int
}

func (c *ngCopy) Write(p *pcap.Packet) error {
	id, ok := c.ids[p.Interface]
	if !ok {
		var err error
		if id, err = c.AddInterface(c.from.Interfaces()[p.Interface]); err != nil {
			return err
		}
		c.ids[p.Interface] = id
	}
	q := *p
	q.Interface = id
	return c.NGWriter.Write(&q)
}
