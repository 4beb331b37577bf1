package api

import (
	"context"
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
	// none, fault.Conflict when it has ended or somebody reads it.
	Stream(ctx context.Context, id string) (LiveStream, error)
}

// LiveStream is the reading side of a live capture. WriteTo writes it to a place until
// the capture or its job ends, which is no error, or the place fails, which is the
// error; another goroutine may do the writing, but none does after WriteTo has
// returned. Close ends the capture and may be called while WriteTo waits.
type LiveStream interface {
	io.WriterTo
	io.Closer
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
		_, w := humago.Unwrap(hc)
		out := &flushed{w: w, control: http.NewResponseController(w)}
		var wg sync.WaitGroup
		wg.Go(func() {
			select {
			case <-s.stopping:
				defer out.cut()
			case <-ctx.Done():
			}
			_ = r.Close()
		})
		defer wg.Wait()
		defer cancel()
		w.Header().Set("Content-Type", pcapStream)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// In one piece up to the end of the connection: chunks would cost three writes
		// for each of ours. How a capture ended is in the result of its job.
		w.Header().Set("Transfer-Encoding", "identity")
		w.WriteHeader(http.StatusOK)
		if err := out.control.Flush(); err != nil {
			return // the head tells the reader that the capture may begin
		}
		if _, err := r.WriteTo(out); err != nil && ctx.Err() == nil {
			s.log.InfoContext(ctx, "live capture was not read to its end", "job", in.ID, "by", peer(ctx), "err", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

// flushed sends each piece at once.
type flushed struct {
	w       http.ResponseWriter
	control *http.ResponseController

	mu   sync.Mutex
	over bool
	set  time.Time // when the deadline was put off last
}

// Write implements io.Writer.
func (f *flushed) Write(p []byte) (int, error) {
	if !f.putOff() {
		return 0, io.ErrClosedPipe
	}
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.control.Flush()
}

// putOff gives the writes that follow their time; false when there is none any more.
func (f *flushed) putOff() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return false
	}
	if now := time.Now(); now.Sub(f.set) >= time.Second {
		f.set = now
		_ = f.control.SetWriteDeadline(now.Add(streamPatience)) // a writer without deadlines is a test's
	}
	return true
}

// cut ends the write under way, and lets no other begin.
func (f *flushed) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	_ = f.control.SetWriteDeadline(time.Now())
}
