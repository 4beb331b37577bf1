package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"capfleet/internal/fault"
)

const (
	eventStream = "text/event-stream"
	// writeTimeout bounds one write to a watcher that does not read.
	writeTimeout = 10 * time.Second
)

type eventsInput struct {
	After       uint64 `query:"after" doc:"only events after this sequence number"`
	LastEventID string `header:"Last-Event-ID" doc:"as after; what a client that takes a cut stream up again sends, and wins"`
}

// The fields are written out: huma passes over those of an embedded type that is
// not exported.
type jobEventsInput struct {
	ID          string `path:"id" maxLength:"64" doc:"the job's id"`
	After       uint64 `query:"after" doc:"only events after this sequence number"`
	LastEventID string `header:"Last-Event-ID" doc:"as after; what a client that takes a cut stream up again sends, and wins"`
}

func startAfter(after uint64, lastEventID string) (uint64, error) {
	if lastEventID == "" {
		return after, nil
	}
	n, err := strconv.ParseUint(lastEventID, 10, 64)
	if err != nil {
		return 0, fault.New(fault.Invalid, "Last-Event-ID %q is not a sequence number", line(lastEventID))
	}
	return n, nil
}

func (s *Server) allEvents(ctx context.Context, in *eventsInput) (*streamed, error) {
	after, err := startAfter(in.After, in.LastEventID)
	if err != nil {
		return nil, err
	}
	return s.stream(ctx, "", after), nil
}

func (s *Server) jobEvents(ctx context.Context, in *jobEventsInput) (*streamed, error) {
	after, err := startAfter(in.After, in.LastEventID)
	if err != nil {
		return nil, err
	}
	if _, err := s.service.Job(ctx, in.ID); err != nil {
		return nil, err
	}
	return s.stream(ctx, in.ID, after), nil
}

// stream sends events until the watcher goes, the server stops or, for one job,
// the job has finished.
func (s *Server) stream(ctx context.Context, job string, after uint64) *streamed {
	return &streamed{func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		h := w.Header()
		h.Set("Content-Type", eventStream)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
		w.WriteHeader(http.StatusOK)
		out := &sse{w: w, control: http.NewResponseController(w)}
		// The connection is used again for other requests.
		defer func() { _ = out.control.SetWriteDeadline(time.Time{}) }()
		if err := out.comment("events follow"); err != nil {
			return
		}
		if err := s.follow(ctx, out, job, after); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "event stream ended", "job", job, "by", peer(ctx), "err", err)
		}
	}}
}

// follow copies events to a watcher. The events come from a goroutine of their
// own so that a silence between two can be filled with a comment; it is joined
// before follow returns.
func (s *Server) follow(ctx context.Context, out *sse, job string, after uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan Event)
	failed := make(chan error, 1)
	go func() {
		defer close(events)
		failed <- pump(ctx, s.service.Events(ctx, job, after), events)
	}()
	defer func() {
		cancel()
		for range events { // drained so that the goroutine ends
		}
	}()
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	for looked := false; ; {
		// Of a job that has finished there may be nothing more to come: the watcher had
		// seen its end when it asked. Silence alone says nothing: what is stored may take
		// long to be read, or the watcher to take it.
		if job != "" && !looked {
			if over, err := s.service.Over(ctx, job, after); err != nil || over {
				return orEnd(out, err)
			}
			looked = true
		}
		select {
		case ev, ok := <-events:
			if !ok {
				return <-failed
			}
			if err := out.event(ev); err != nil {
				return err
			}
			after = max(after, ev.Seq)
			if job == "" || ev.Type != "job_finished" {
				continue
			}
			if last, err := s.isLast(ctx, ev); err != nil || last {
				return orEnd(out, err)
			}
		case <-beat.C:
			looked = false
			if err := out.comment("still here"); err != nil {
				return err
			}
		case <-s.stopping:
			return nil
		}
		beat.Reset(s.heartbeat)
	}
}

func pump(ctx context.Context, seq iter.Seq2[Event, error], to chan<- Event) error {
	for ev, err := range seq {
		if err != nil {
			return err
		}
		select {
		case to <- ev:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// isLast reports whether a job's end was its last one: a job that was retried has
// ended before. The engine stamps a job and its event with one time; equal and not
// later, because clocks are set back, too.
func (s *Server) isLast(ctx context.Context, ev Event) (bool, error) {
	j, err := s.service.Job(ctx, ev.Job)
	if err != nil {
		return false, err
	}
	return j.FinishedAt != nil && ev.Time.Equal(*j.FinishedAt), nil
}

func orEnd(out *sse, err error) error {
	if err != nil {
		return err
	}
	return out.end()
}

// sse writes server-sent events, each flushed as a whole.
type sse struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

func (o *sse) event(ev Event) error {
	data, err := json.Marshal(ev) // one line: JSON escapes line ends
	if err != nil {
		return err
	}
	o.buf.Reset()
	if ev.Seq != 0 {
		fmt.Fprintf(&o.buf, "id: %d\n", ev.Seq)
	}
	fmt.Fprintf(&o.buf, "event: %s\ndata: %s\n\n", ev.Type, data)
	return o.flush()
}

func (o *sse) end() error {
	o.buf.Reset()
	fmt.Fprintf(&o.buf, "event: %s\ndata: {}\n\n", EventEnd)
	return o.flush()
}

func (o *sse) comment(text string) error {
	o.buf.Reset()
	fmt.Fprintf(&o.buf, ": %s\n\n", text)
	return o.flush()
}

func (o *sse) flush() error {
	// A recorder in a test has no deadlines; a connection has.
	_ = o.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := o.w.Write(o.buf.Bytes()); err != nil {
		return err
	}
	return o.control.Flush()
}
