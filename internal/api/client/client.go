// Package client speaks to fleetd over its Unix socket, here or through SSH on
// another host. It turns every error body back into a *fault.Error of the kind
// that it had in fleetd, and a fleetd that cannot be reached into
// fault.Unavailable with what was tried.
//
// fleetd is authoritative; the client keeps nothing.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

const (
	// answerTimeout bounds the wait for the head of an answer. fleetd answers at
	// once; work is a job that is watched.
	answerTimeout = 60 * time.Second
	// maxProblem bounds an error body.
	maxProblem = 64 << 10

	base = "http://fleetd"
)

// Client is a connection pool to one fleetd. It is safe for concurrent use.
type Client struct {
	at   endpoint
	http *http.Client
}

// New makes a client of a fleetd: the path of its Unix socket, as such or as
// unix:PATH, or ssh://[user@]host[:port][/socket] for one on another host. It does
// not connect.
func New(server string) (*Client, error) {
	at, err := parse(server)
	if err != nil {
		return nil, err
	}
	return newClient(at), nil
}

func newClient(at endpoint) *Client {
	return &Client{at: at, http: &http.Client{Transport: asking{&http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, stop := asked(ctx)
			defer stop()
			return at.dial(ctx)
		},
		ResponseHeaderTimeout: answerTimeout,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       30 * time.Second,
		DisableCompression:    true, // nothing to gain on a socket, and ssh has its own
	}}}}
}

// asking lets a dial know the request that it is for. net/http has a dial go on
// when its request has ended, for a later one to use; ours may be a process that
// nobody would wait for any more.
type asking struct{ *http.Transport }

type requestKey struct{}

func (a asking) RoundTrip(r *http.Request) (*http.Response, error) {
	return a.Transport.RoundTrip(r.WithContext(context.WithValue(r.Context(), requestKey{}, r.Context())))
}

// asked has a dial's context end with its request's.
func asked(ctx context.Context) (context.Context, func()) {
	request, ok := ctx.Value(requestKey{}).(context.Context)
	if !ok {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(request, cancel)
	return ctx, func() { stop(); cancel() }
}

// Server is the fleetd that New was given, a path in absolute form.
func (c *Client) Server() string { return c.at.server() }

// Close ends the idle connections. The client can be used again after it.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Version tells which fleetd answers.
func (c *Client) Version(ctx context.Context) (api.Version, error) {
	return get[api.Version](ctx, c, "/v1/version")
}

// Devices lists the selected devices in order of name; an empty selection is
// the whole inventory.
func (c *Client) Devices(ctx context.Context, sel api.Selection) ([]api.Device, error) {
	q := url.Values{}
	for _, n := range sel.Names {
		q.Add("name", n)
	}
	if sel.Selector != "" {
		q.Set("selector", sel.Selector)
	}
	if sel.All {
		q.Set("all", "true")
	}
	return listed[api.Device](ctx, c, path(q, "devices"))
}

// Device gives one device by its exact name.
func (c *Client) Device(ctx context.Context, name string) (api.Device, error) {
	return get[api.Device](ctx, c, path(nil, "devices", name))
}

// Submit makes a job. A request without an id is given a random one, so that it
// can be sent once more after a cut connection and still starts one job only.
func (c *Client) Submit(ctx context.Context, req api.JobRequest) (api.Job, error) {
	if req.RequestID == "" {
		req.RequestID = rand.Text()
	}
	job, err := post[api.Job](ctx, c, path(nil, "jobs"), req)
	if fault.Is(err, fault.Disconnected) && ctx.Err() == nil {
		job, err = post[api.Job](ctx, c, path(nil, "jobs"), req)
	}
	return job, err
}

// Jobs lists jobs, newest first.
func (c *Client) Jobs(ctx context.Context, query api.JobQuery) (api.JobList, error) {
	q := url.Values{}
	if query.Before != "" {
		q.Set("before", query.Before)
	}
	if query.Limit != 0 {
		q.Set("limit", strconv.Itoa(query.Limit))
	}
	if query.Active {
		q.Set("active", "true")
	}
	return get[api.JobList](ctx, c, path(q, "jobs"))
}

// Job gives a job by its id.
func (c *Client) Job(ctx context.Context, id string) (api.Job, error) {
	return get[api.Job](ctx, c, path(nil, "jobs", id))
}

// Tasks gives a job's tasks in order of device.
func (c *Client) Tasks(ctx context.Context, id string) ([]api.Task, error) {
	return listed[api.Task](ctx, c, path(nil, "jobs", id, "tasks"))
}

// Journal gives what a job did to a device, oldest first.
func (c *Client) Journal(ctx context.Context, id, device string) ([]api.JournalEntry, error) {
	l, err := get[api.JournalList](ctx, c, path(url.Values{"device": {device}}, "jobs", id, "journal"))
	return l.Rows, err
}

// Cancel asks a job to stop.
func (c *Client) Cancel(ctx context.Context, id string) (api.Job, error) {
	return post[api.Job](ctx, c, path(nil, "jobs", id, "cancel"), nil)
}

// Retry takes the failed tasks of a job up again.
func (c *Client) Retry(ctx context.Context, id string) (api.Job, error) {
	return post[api.Job](ctx, c, path(nil, "jobs", id, "retry"), nil)
}

// PinHostKeys makes fleetd trust host keys.
func (c *Client) PinHostKeys(ctx context.Context, req api.PinRequest) (api.PinResult, error) {
	return post[api.PinResult](ctx, c, path(nil, "host-keys"), req)
}

// Artifacts lists a job's artifacts, or with "" all.
func (c *Client) Artifacts(ctx context.Context, job string) ([]api.Artifact, error) {
	q := url.Values{}
	if job != "" {
		q.Set("job", job)
	}
	l, err := get[api.ArtifactList](ctx, c, path(q, "artifacts"))
	return l.Rows, err
}

// path builds a route's path; every part is escaped.
func path(q url.Values, parts ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, p := range parts {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(p))
	}
	if len(q) > 0 {
		b.WriteByte('?')
		b.WriteString(q.Encode())
	}
	return b.String()
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return exchange[T](ctx, c, http.MethodGet, path, nil)
}

func post[T any](ctx context.Context, c *Client, path string, body any) (T, error) {
	return exchange[T](ctx, c, http.MethodPost, path, body)
}

func exchange[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	resp, err := c.do(ctx, method, path, body, nil)
	if err != nil {
		return out, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		var zero T
		return zero, c.broken(ctx, fmt.Errorf("read the answer: %w", err))
	}
	return out, nil
}

// do sends a request and gives a good answer; any other is an error of its kind.
func (c *Client) do(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "write the request", err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, r)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "write the request", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem(resp)
	}
	return resp, nil
}

// broken gives the error of a connection that could not be made or was cut.
func (c *Client) broken(ctx context.Context, err error) error {
	var have *fault.Error
	if errors.As(err, &have) {
		return have // from the dialer; without the URL that net/http puts before it
	}
	if cause := ctx.Err(); cause != nil {
		return fault.Wrap(fault.KindOf(cause), "ask fleetd", cause)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return &fault.Error{Kind: fault.Timeout, Act: "fleetd at " + c.at.String() + " does not answer", Err: err}
	}
	return &fault.Error{Kind: fault.Disconnected, Act: "connection to fleetd at " + c.at.String() + " broke", Err: err}
}

// problem reads an error body. Something else than a Problem can only come from
// something else than fleetd, and the status has to do.
func problem(resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p api.Problem
	if err == nil && mt == "application/problem+json" && json.Unmarshal(b, &p) == nil {
		p.Status = resp.StatusCode
		return p.Err()
	}
	return fault.New(api.KindOfStatus(resp.StatusCode), "the server answered %s", resp.Status)
}
