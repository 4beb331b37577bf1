package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// pcapStream is the media type of a live capture.
const pcapStream = "application/vnd.tcpdump.pcap"

// streamPatience bounds one write to a reader of a live capture that does not
// read. Someone may stop a Wireshark for a while.
const streamPatience = 10 * time.Minute

// StreamService hands out what a job makes as it goes.
type StreamService interface {
	// Stream takes the reading side of a live capture: fault.Invalid when the job is
	// none, fault.Conflict when it has ended or somebody reads it. Reading ends with
	// io.EOF when the capture or its job does; Close ends the capture and may be called
	// while a Read waits.
	Stream(ctx context.Context, id string) (io.ReadCloser, error)
}

func (s *Server) streamRoutes() []route {
	return []route{
		handle(s, "GET", "/v1/jobs/{id}/stream", "read-stream",
			"A live capture as it comes; it starts when it is read, has one reader, and ends with him", s.liveStream,
			body[[]byte](pcapStream)),
	}
}

// liveStream copies a capture to its reader, each piece flushed. The end of the
// reader, of the server or of the request closes the stream, and with it the
// capture.
func (s *Server) liveStream(ctx context.Context, in *idInput) (*streamed, error) {
	r, err := s.service.Stream(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &streamed{func(hc huma.Context) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			select {
			case <-s.stopping:
			case <-ctx.Done():
			}
			_ = r.Close()
		})
		defer wg.Wait()
		defer cancel()
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", pcapStream)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// In one piece up to the end of the connection: chunks would cost three writes
		// for each of ours. How a capture ended is in the result of its job.
		w.Header().Set("Transfer-Encoding", "identity")
		w.WriteHeader(http.StatusOK)
		out := &flushed{w: w, control: http.NewResponseController(w)}
		if err := out.control.Flush(); err != nil {
			return // the head tells the reader that the capture may begin
		}
		if _, err := io.CopyBuffer(out, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil && ctx.Err() == nil {
			s.log.InfoContext(ctx, "live capture was not read to its end", "job", in.ID, "by", peer(ctx), "err", err)
			if !errors.Is(err, io.ErrClosedPipe) {
				panic(http.ErrAbortHandler)
			}
		}
	}}, nil
}

// flushed sends each piece at once.
type flushed struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (f *flushed) Write(p []byte) (int, error) {
	_ = f.control.SetWriteDeadline(time.Now().Add(streamPatience))
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.control.Flush()
}
