package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"capfleet/internal/fault"
)

func (a *app) pcapCommand() *cobra.Command {
	cmd := a.group("pcap", "captures on disk, without fleetd")
	cmd.Long = `Works with captures on disk: pcap and pcapng, plain or gzip. It needs no fleetd.

A damaged or truncated file gives what was read up to the damage, and an error
with the offset; the exit code is then 4. The file "-" is stdin.`
	cmd.AddCommand(a.pcapInfoCommand(), a.pcapMergeCommand(), a.pcapRewriteCommand(), a.pcapReplayCommand())
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
