package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/capture/capturejob"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/records"
)

func (a *app) captureCommand() *cobra.Command {
	cmd := a.group("capture", "packets from devices")
	cmd.AddCommand(a.captureLiveCommand(), a.captureStartCommand(), a.captureStopCommand(), a.captureListCommand(), a.captureGetCommand(), a.captureFilterCommand())
	return cmd
}

// streamFleet is what live captures need of fleetd.
type streamFleet interface {
	// Stream reads a live capture; the end of ctx or Close ends the capture.
	Stream(ctx context.Context, id string) (io.ReadCloser, error)
}

// liveSummary is a capture in a line or two for people.
func liveSummary(r *capturejob.LiveRow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s, %d bytes", r.Device, r.Interface, count(int(r.Packets), "packet"), r.Bytes)
	if r.FirstTime != nil && r.LastTime != nil {
		fmt.Fprintf(&b, " over %s", output.Short(r.LastTime.Sub(*r.FirstTime)))
	}
	fmt.Fprintf(&b, "; ended by %s", r.EndedBy)
	for _, c := range []struct {
		n    *int64
		what string
	}{{r.Received, "received by its filter"}, {r.DroppedByKernel, "dropped by its kernel"}, {r.DroppedByInterface, "dropped by its interface"}} {
		if c.n != nil {
			fmt.Fprintf(&b, "; %d %s", *c.n, c.what)
		}
	}
	if r.Keys {
		b.WriteString("\nthe capture holds keys of TLS sessions: keep it as you would keep the keys")
	}
	return b.String()
}

func liveView() output.View {
	return output.View{Table: []output.Column{
		{Key: "device", Head: "DEVICE"},
		{Key: "interface", Head: "ON"},
		{Key: "packets", Head: "PACKETS", Kind: output.Number},
		{Key: "bytes", Head: "BYTES", Kind: output.Number},
		{Key: "dropped_by_kernel", Head: "DROPS", Kind: output.Number},
		{Key: "ended_by", Head: "ENDED BY"},
		{Key: "filter", Head: "FILTER"},
	}}
}

// sink is where a capture goes: whole records, so that what is there can be read
// also when the disk is full. Only whole records are written to it.
type sink struct {
	w     io.Writer
	file  truncater // nil where nothing can be taken back
	whole int64
}

type truncater interface {
	io.Seeker
	Truncate(size int64) error
}

func newSink(w io.Writer) *sink {
	s := &sink{w: w}
	f, ok := w.(truncater)
	if !ok {
		return s
	}
	if at, err := f.Seek(0, io.SeekCurrent); err == nil {
		s.file, s.whole = f, at
	}
	return s
}

// Write implements io.Writer. What a failed write left behind is taken back.
func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil {
		s.whole += int64(n)
		return n, nil
	}
	if s.file != nil && n > 0 {
		if terr := s.file.Truncate(s.whole); terr != nil {
			err = errors.Join(err, terr)
		}
	}
	return n, &sinkError{err}
}

// sinkError is an error of the place that a capture is written to.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// settlePatience is how long a capture that was told to end is waited for.
const settlePatience = 60 * time.Second

// readLive reads the capture of a job into w and gives its result once it has
// ended: by itself, by ctx, or because w takes no more. The error is w's, or that
// fleetd was lost; that the capture failed is in the result.
func (a *app) readLive(ctx context.Context, f fleet, job api.Job, w io.Writer, notice func(string)) (api.Results, error) {
	// The result is waited for after an interrupt, too, but not for ever.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	reading, stop := context.WithCancel(own)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	var left atomic.Bool // the reader of w, which a capture without packets would not notice
	unwatch := watchReader(fileOf(w), func() {
		left.Store(true)
		stop()
	})
	defer unwatch()
	over := make(chan error, 1)
	go func() { over <- a.followLive(own, f, job, notice) }()

	var copied error
	r, err := f.Stream(reading, job.ID)
	if err == nil {
		_, copied = io.CopyBuffer(records.New(newSink(w), records.Limits{}), struct{ io.Reader }{r}, make([]byte, 256<<10))
		_ = r.Close()
	} else if reading.Err() != nil {
		// The reader went before there was a stream whose end would tell fleetd, which
		// ends a capture that nobody comes to read, but later.
		_, _ = f.Cancel(own, job.ID)
	}
	unwatch()
	if left.Load() {
		err, copied = nil, &sinkError{syscall.EPIPE}
	}
	stop()
	timer := time.AfterFunc(settlePatience, cancel)
	defer timer.Stop()
	if lost := <-over; lost != nil {
		if ctx.Err() == nil && own.Err() == nil {
			return api.Results{}, lost
		}
		return api.Results{}, fault.Wrap(fault.Canceled, "wait for the end of the capture", lost)
	}
	res, rerr := f.Results(own, job.ID)
	if rerr != nil {
		return res, rerr
	}
	var at *sinkError
	switch {
	case err != nil && !fault.Is(err, fault.Conflict) && ctx.Err() == nil:
		return res, err
	case errors.As(copied, &at):
		return res, copied
	case copied != nil && ctx.Err() == nil && len(res.Failures) == 0:
		return res, copied
	}
	return res, nil
}

// late is in the unit of progress of a capture whose packets show late.
const late = "shown late"

// followLive waits for a job to end and passes on what shows while it runs.
func (a *app) followLive(ctx context.Context, f fleet, job api.Job, notice func(string)) error {
	watching, over := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { tellWait(watching, f, job, notice) })
	defer watch.Wait()
	defer over()
	said := false
	for {
		for ev, err := range f.Events(ctx, job.ID, 0) {
			if err != nil {
				return err
			}
			if strings.Contains(ev.Unit, late) && !said {
				said = true
				notice("the device's tcpdump has no -U: packets show when its buffer is full; add \"or icmp\" to the filter and run a ping to push them through")
			}
		}
		now, err := f.Job(ctx, job.ID)
		if err != nil || now.FinishedAt != nil {
			return err
		}
	}
}

// fileOf gives the file behind a writer of captures, nil where there is none.
func fileOf(w io.Writer) *os.File {
	switch w := w.(type) {
	case *os.File:
		return w
	case *liveFile:
		return w.file
	}
	return nil
}

// waitPatience is how long a capture may take to begin before it is said why.
const waitPatience = 2 * time.Second

// tellWait says what a capture waits for that does not begin: a reader sees nothing
// of it otherwise.
func tellWait(ctx context.Context, f fleet, job api.Job, notice func(string)) {
	timer := time.NewTimer(waitPatience)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	tasks, err := f.Tasks(ctx, job.ID)
	if err != nil {
		return // whoever waits for the job hears of it
	}
	for _, t := range tasks {
		if (t.State == "pending" || t.State == "waiting") && t.Reason != "" {
			notice("it waits: " + t.Reason)
		}
	}
}

// liveFile is a file that a capture is written to. What it held before goes with
// the first byte of the capture: a device that refuses costs nobody an older file.
type liveFile struct {
	file    *os.File
	regular bool // a device or a FIFO has nothing to take back
	made    bool // it was not there before
	begun   bool
}

// newCaptureFile opens the file that a capture is written to. A capture may hold
// anything, so it is its owner's alone.
func newCaptureFile(name string) (*liveFile, error) {
	const act = "open the file for the capture"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	made := err == nil
	if errors.Is(err, os.ErrExist) {
		f, err = os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, act, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, act, errors.Join(err, f.Close()))
	}
	return &liveFile{file: f, regular: info.Mode().IsRegular(), made: made}, nil
}

// Write implements io.Writer.
func (c *liveFile) Write(p []byte) (int, error) {
	if !c.begun && c.regular {
		if err := c.file.Truncate(0); err != nil {
			return 0, err
		}
	}
	c.begun = true
	return c.file.Write(p)
}

// Seek and Truncate are a truncater's.
func (c *liveFile) Seek(offset int64, whence int) (int64, error) {
	return c.file.Seek(offset, whence)
}

func (c *liveFile) Truncate(size int64) error { return c.file.Truncate(size) }

// Close closes the file, and removes one that was made for a capture of which
// nothing came.
func (c *liveFile) Close() error {
	err := c.file.Close()
	if c.made && !c.begun {
		err = errors.Join(err, os.Remove(c.file.Name()))
	}
	return err
}

// writeFault words that a capture could not be written further.
func writeFault(name string, err error) error {
	e := &fault.Error{Kind: fault.Storage, Act: "write the capture to " + name, Err: err}
	if errors.Is(err, syscall.ENOSPC) {
		e.Next = "the disk is full; what is there is whole and can be read"
	}
	return e
}
