package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// server answers in place of a connection.
type server func(*http.Request) (*http.Response, error)

func (s server) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

func with(s server) *Client {
	return &Client{at: unixSocket("/run/s"), http: &http.Client{Transport: s}}
}

func answer(status int, contentType, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {contentType}},
		Body: io.NopCloser(strings.NewReader(body))}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]string{
		"/run/s": "/run/s", "unix:/run/s": "/run/s", "unix:///run/s": "/run/s",
		"": "", "unix:": "", "http://127.0.0.1:80": "", "ftp://host": "",
		"ssh://joe@host": "ssh://joe@host",
	} {
		c, err := New(server)
		if want == "" {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: got %v", server, err)
			}
			continue
		}
		if err != nil || c.Server() != want {
			t.Errorf("%q: %v, %v", server, c, err)
		}
	}
}

// What does not come from this version of fleetd is understood as far as it can be.
func TestStrangeAnswers(t *testing.T) {
	t.Parallel()
	const problem = "application/problem+json"
	for name, tc := range map[string]struct {
		status int
		ct     string
		body   string
		kind   fault.Kind
		says   string
	}{
		"newer kind":   {404, problem, `{"kind":"sad","detail":"so sad"}`, fault.NotFound, "so sad"},
		"no kind":      {409, problem, `{"detail":"no"}`, fault.Conflict, "no"},
		"no detail":    {500, problem, `{}`, fault.Internal, "Internal Server Error"},
		"a proxy":      {502, "text/html", `<h1>oops</h1>`, fault.Unreachable, "Bad Gateway"},
		"not JSON":     {503, problem, `oops`, fault.Unavailable, "Service Unavailable"},
		"not a body":   {200, "application/json", `{"version":`, fault.Disconnected, "broke"},
		"hostile text": {422, problem, `{"kind":"invalid","detail":"a\u001b[31mb\nc"}`, fault.Invalid, "a[31mb c"},
	} {
		_, err := with(func(*http.Request) (*http.Response, error) { return answer(tc.status, tc.ct, tc.body), nil }).Version(t.Context())
		if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v (%s)", name, err, fault.KindOf(err))
		}
	}
}

// A submission whose answer was cut off is sent once more, with the same id.
func TestSubmitAgain(t *testing.T) {
	t.Parallel()
	var ids []string
	c := with(func(r *http.Request) (*http.Response, error) {
		var req api.JobRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		ids = append(ids, req.RequestID)
		if len(ids) == 1 {
			return nil, io.ErrUnexpectedEOF
		}
		return answer(202, "application/json", `{"id":"7"}`), nil
	})
	job, err := c.Submit(t.Context(), api.JobRequest{Operation: "report"})
	if err != nil || job.ID != "7" || len(ids) != 2 || ids[0] != ids[1] || ids[0] == "" {
		t.Errorf("job %+v, %v, ids %q", job, err, ids)
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := with(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}).Version(ctx)
	if !fault.Is(err, fault.Timeout) {
		t.Errorf("got %v", err)
	}
}

func TestEventsOfAServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	c := with(func(*http.Request) (*http.Response, error) {
		return nil, unreachable(unixSocket("/run/s"), errors.New("gone"))
	})
	n := 0
	for _, err := range c.Events(t.Context(), "1", 0) {
		n++
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d answers, want the error at once", n)
	}
}

// A server that went away is waited for, but not for ever; one that comes back is
// asked for what is missing.
func TestEventsWaitForTheServer(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]time.Duration{"back in time": 20 * time.Second, "gone": 2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var asked []string
				c := with(func(r *http.Request) (*http.Response, error) {
					asked = append(asked, r.Header.Get("Last-Event-ID"))
					switch {
					case len(asked) == 1:
						return answer(200, "text/event-stream", ": hello\n\nid: 3\nevent: task_step\ndata: {\"seq\":3}\n\nid: 4\nevent: ta"), nil
					case time.Since(began) < away:
						return nil, unreachable(unixSocket("/run/s"), errors.New("gone"))
					}
					return answer(200, "text/event-stream", "id: 4\nevent: job_finished\ndata: {\"seq\":4}\n\nevent: end\ndata: {}\n\n"), nil
				})
				var got []uint64
				var last error
				for ev, err := range c.Events(t.Context(), "1", 0) {
					if err != nil {
						last = err
						continue
					}
					got = append(got, ev.Seq)
				}
				if name == "gone" {
					if !fault.Is(last, fault.Unavailable) || time.Since(began) > 2*patience {
						t.Errorf("after %v: %v", time.Since(began), last)
					}
					return
				}
				if diff := cmp.Diff([]uint64{3, 4}, got); diff != "" || last != nil {
					t.Errorf("%v\n%s", last, diff)
				}
				if asked[0] != "" || asked[len(asked)-1] != "3" {
					t.Errorf("asked after %q", asked)
				}
			})
		})
	}
}

// A stream on which nothing comes at all, not even a comment, is a dead one.
func TestEventsOfASilentServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := with(func(r *http.Request) (*http.Response, error) {
			if asked++; asked > 1 {
				return answer(200, "text/event-stream", "event: end\ndata: {}\n\n"), nil
			}
			pr, pw := io.Pipe()
			context.AfterFunc(r.Context(), func() { _ = pw.CloseWithError(r.Context().Err()) })
			resp := answer(200, "text/event-stream", "")
			resp.Body = pr
			return resp, nil
		})
		began := time.Now()
		for _, err := range c.Events(t.Context(), "1", 0) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(began); asked != 2 || d < silence || d > 2*silence {
			t.Errorf("asked %d times in %v", asked, d)
		}
	})
}

func TestEventsTooLarge(t *testing.T) {
	t.Parallel()
	c := with(func(*http.Request) (*http.Response, error) {
		return answer(200, "text/event-stream", "data: "+strings.Repeat("x", 2*maxLine)), nil
	})
	for _, err := range c.Events(t.Context(), "1", 0) {
		if !fault.Is(err, fault.TooLarge) {
			t.Errorf("got %v", err)
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add("id: 3\nevent: task_step\ndata: {\"seq\":3}\n\nevent: end\ndata: {}\n\n")
	f.Add(": c\n\ndata:\ndata: {\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		asked := 0
		c := with(func(*http.Request) (*http.Response, error) {
			if asked++; asked > 1 {
				return answer(404, "text/plain", ""), nil
			}
			return answer(200, "text/event-stream", text), nil
		})
		errs := 0
		for _, err := range c.Events(t.Context(), "1", 0) {
			if err != nil {
				errs++
			}
		}
		if errs > 1 {
			t.Fatalf("%d errors", errs)
		}
	})
}
