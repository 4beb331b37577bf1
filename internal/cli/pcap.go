package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

func (a *app) pcapCommand() *cobra.Command {
	cmd := a.group("pcap", "captures on disk, without fleetd")
	cmd.Long = `Works with captures on disk: pcap and pcapng, plain or gzip. It needs no fleetd.

A damaged or truncated file gives what was read up to the damage, and an error
with the offset; the exit code is then 4. The file "-" is stdin.`
	cmd.AddCommand(a.pcapInfoCommand(), a.pcapTLSAuditCommand(), a.pcapXFFCommand(), a.pcapMergeCommand(), a.pcapRewriteCommand(), a.pcapReplayCommand(), a.pcapIPFIXCommand(), a.pcapF5Command(), a.pcapKeylogCommand(), a.pcapPathCommand(), a.pcapDiffCommand())
	return cmd
}

// openCapture opens a capture to be read once from its beginning; - is stdin.
// Reading ends with ctx.
func (a *app) openCapture(ctx context.Context, name string) (io.ReadCloser, error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "open the capture", err)
		}
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
		return follow(ctx, file, file.Close), nil
	}
	if a.streams.InTerminal {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "a capture cannot be typed", Next: "name a file, or pipe a capture to stdin"}
	}
	return follow(ctx, a.streams.In, nil), nil
}

// follow makes reads of a pipe or device end with ctx. A read that waits for
// bytes cannot be interrupted everywhere, so another goroutine does it; it ends
// with its read, at the latest with the process.
func follow(ctx context.Context, src io.Reader, closeSource func() error) io.ReadCloser {
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
	go func() {
		defer stop()
		_, err := io.CopyBuffer(w, struct{ io.Reader }{src}, make([]byte, 256<<10))
		_ = w.CloseWithError(err)
		if closeSource != nil {
			_ = closeSource()
		}
	}()
	return r
}

// captureRead is what became of reading one capture.
type captureRead struct {
	File    string `json:"file"`
	Packets uint64 `json:"packets"`
	// Complete is false when reading ended before the end of the capture.
	Complete    bool   `json:"complete"`
	Error       string `json:"error,omitempty"`
	ErrorOffset *int64 `json:"error_offset,omitempty"`
}

// scanCaptures hands the packets of each capture to an analysis of its own, whatever
// becomes of the others. End is called behind the last packet that could be read.
func (a *app) scanCaptures(ctx context.Context, files []string, begin func(name string) (analysis pcap.Analysis, end func())) ([]captureRead, error) {
	// What lives is small beside what passes through.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var reads []captureRead
	var failed error
	for _, name := range files {
		read := captureRead{File: name}
		err := a.scanCapture(ctx, &read, begin)
		if ctx.Err() != nil {
			return reads, captureFault(name, ctx.Err())
		}
		if err != nil {
			read.Error = err.Error()
			var bad *pcap.Error
			if errors.As(err, &bad) {
				read.ErrorOffset = &bad.Offset
			}
			failed = errors.Join(failed, captureFault(name, err))
		}
		read.Complete = err == nil
		reads = append(reads, read)
	}
	return reads, failed
}

func (a *app) scanCapture(ctx context.Context, read *captureRead, begin func(name string) (pcap.Analysis, func())) error {
	file, err := a.openCapture(ctx, read.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	analysis, end := begin(read.File)
	r, err := pcap.Scan(ctx, file, pcap.ReaderOptions{}, analysis)
	end()
	read.Packets = r.Packets()
	if err == nil {
		err = layers.Unknown(r)
	}
	return err
}

// endpointColumn is a table's column of an address with its port.
func endpointColumn(head, address, port string) output.Column {
	return output.Column{Key: address, Head: head, Says: func(row map[string]any) string {
		host, _ := row[address].(string)
		number, _ := row[port].(json.Number)
		if host == "" || number == "" {
			return host
		}
		return net.JoinHostPort(host, number.String())
	}}
}

// captureTime gives a packet's time; nil where there is none that RFC 3339 can write.
func captureTime(t pcap.Timestamp, has bool) *time.Time {
	if !has {
		return nil
	}
	return t.Moment()
}

// captureFault gives what went wrong with a capture as an error of the command.
func captureFault(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Canceled, "read "+name, err)
	}
	return fault.Wrap(fault.Invalid, "read "+name, err)
}
