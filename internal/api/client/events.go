package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

const (
	// silence is how long a stream may say nothing at all. fleetd sends a comment
	// every 15 s, so three are missing then.
	silence = 45 * time.Second
	// patience is how long a stream that was cut is tried to be taken up again, as
	// when fleetd is restarted.
	patience = 30 * time.Second
	// pause between two tries.
	pauseMin = 100 * time.Millisecond
	pauseMax = 2 * time.Second
	// maxLine bounds one line of a stream.
	maxLine = 1 << 20
)

// Events gives what happens to a job, or with "" to all jobs: first what the
// ledger has after the sequence number, then what comes. A cut stream is taken
// up again where it broke, without a gap and with nothing twice.
//
// It ends by itself once the job has finished. Otherwise the last thing it gives
// is an error: ctx's (fault.Canceled), one that fleetd answered, or that fleetd
// could not be reached, at once at the start and after 30 s later on. Progress
// events have no place in the order and are lost with a cut.
func (c *Client) Events(ctx context.Context, job string, after uint64) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		connected := false
		var downSince time.Time
		pause := pauseMin
		for {
			began := time.Now()
			s, err := c.stream(ctx, job, after)
			for err == nil {
				connected = true
				var ev api.Event
				if ev, err = s.next(); err != nil {
					break
				}
				downSince, pause = time.Time{}, pauseMin
				if ev.Seq != 0 {
					after = ev.Seq
				}
				if !yield(ev, nil) {
					s.close()
					return
				}
			}
			if time.Since(began) > patience { // it stood, though nothing happened
				downSince, pause = time.Time{}, pauseMin
			}
			s.close()
			if errors.Is(err, errEnd) {
				return
			}
			if ctx.Err() != nil {
				yield(api.Event{}, fault.Wrap(fault.Canceled, "watch events", ctx.Err()))
				return
			}
			if downSince.IsZero() {
				downSince = time.Now()
			}
			if !connected || !takeUp(err) || time.Since(downSince) > patience {
				yield(api.Event{}, err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, pauseMax)
		}
	}
}

// takeUp reports whether a stream that ended with err can go on with a new
// connection.
func takeUp(err error) bool {
	return fault.Is(err, fault.Disconnected) || fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Timeout)
}

// errEnd is fleetd's word that a job's stream is complete.
var errEnd = errors.New("end of stream")

// stream is one connection's server-sent events.
type stream struct {
	at     endpoint
	cancel context.CancelFunc
	body   io.ReadCloser
	lines  *bufio.Scanner
	idle   *time.Timer
}

func (c *Client) stream(ctx context.Context, job string, after uint64) (*stream, error) {
	route := path(nil, "events")
	if job != "" {
		route = path(nil, "jobs", job, "events")
	}
	header := http.Header{"Accept": {"text/event-stream"}}
	if after != 0 {
		header.Set("Last-Event-ID", strconv.FormatUint(after, 10))
	}
	ctx, cancel := context.WithCancel(ctx)
	resp, err := c.do(ctx, http.MethodGet, route, nil, header) //nolint:bodyclose // the stream closes it
	if err != nil {
		cancel()
		return nil, err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	// The timer ends the request's context, which ends a read that waits.
	return &stream{at: c.at, cancel: cancel, body: resp.Body, lines: lines,
		idle: time.AfterFunc(silence, cancel)}, nil
}

// next gives the next event; errEnd once fleetd says that there are no more.
func (s *stream) next() (api.Event, error) {
	var name string
	var data strings.Builder
	for s.lines.Scan() {
		s.idle.Reset(silence)
		line := s.lines.Text()
		if line == "" {
			if name == api.EventEnd {
				return api.Event{}, errEnd
			}
			if data.Len() == 0 {
				name = ""
				continue
			}
			var ev api.Event
			if err := json.Unmarshal([]byte(data.String()), &ev); err != nil {
				return ev, fault.Wrap(fault.Internal, "read an event", err)
			}
			return ev, nil
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			if data.Len() > 0 {
				data.WriteByte('\n')
			}
			data.WriteString(value)
		}
	}
	err := s.lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return api.Event{}, fault.New(fault.TooLarge, "an event is larger than %d bytes", maxLine)
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return api.Event{}, &fault.Error{Kind: fault.Disconnected,
		Act: "stream of events from fleetd at " + s.at.String() + " broke", Err: err}
}

func (s *stream) close() {
	if s == nil {
		return
	}
	s.idle.Stop()
	s.cancel()
	_ = s.body.Close()
}
