package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/fault"
)

// Every method of the client reaches the method of the service that it is named
// for, with its arguments and, where it matters, with who asks.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	sel := api.Selection{Names: []string{"lon-*", "nyc,1"}, Selector: "site in (lon,nyc)", All: true}
	req := api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"filesystem","n":1}`), Selection: sel, RequestID: "r1"}
	pin := api.PinRequest{Keys: []api.HostKey{{Device: "a", Host: "[h]:22", Type: "ssh-ed25519", SHA256: "SHA256:x", PublicKey: "ssh-ed25519 AAAA"}}, Replace: true}
	sum := sha256.Sum256([]byte("content"))
	digest := hex.EncodeToString(sum[:])

	f := &fake{job: api.Job{ID: "8", Operation: "report", Spec: json.RawMessage(`{"a":1}`)}, kept: map[string]string{digest: "content"}}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	for name, tc := range map[string]struct {
		call func(context.Context) (any, error)
		want any
		ask  []any
	}{
		"Version": {
			func(ctx context.Context) (any, error) { return c.Version(ctx) },
			api.Version{Version: "1.2.3"}, []any{"version"}},
		"Devices": {
			func(ctx context.Context) (any, error) { return c.Devices(ctx, sel) },
			[]api.Device{}, []any{sel}},
		"DevicesAll": {
			func(ctx context.Context) (any, error) { return c.Devices(ctx, api.Selection{}) },
			[]api.Device{}, []any{api.Selection{}}},
		"Device": {
			func(ctx context.Context) (any, error) { return c.Device(ctx, "a/b c?d") },
			api.Device{Name: "a/b c?d"}, []any{"a/b c?d"}},
		"Submit": {
			func(ctx context.Context) (any, error) { return c.Submit(ctx, req) },
			f.job, []any{me.Username, req}},
		"Jobs": {
			func(ctx context.Context) (any, error) {
				return c.Jobs(ctx, api.JobQuery{Before: "9", Limit: 3, Active: true})
			},
			api.JobList{Rows: []api.Job{f.job}, Next: "7"}, []any{api.JobQuery{Before: "9", Limit: 3, Active: true}}},
		"JobsDefault": {
			func(ctx context.Context) (any, error) { return c.Jobs(ctx, api.JobQuery{}) },
			api.JobList{Rows: []api.Job{f.job}, Next: "7"}, []any{api.JobQuery{Limit: 50}}},
		"Job": {
			func(ctx context.Context) (any, error) { return c.Job(ctx, "8") },
			f.job, []any{"job", "8"}},
		"Tasks": {
			func(ctx context.Context) (any, error) { return c.Tasks(ctx, "8") },
			[]api.Task{}, []any{"tasks", "8"}},
		"Journal": {
			func(ctx context.Context) (any, error) { return c.Journal(ctx, "8", "a b") },
			[]api.JournalEntry{}, []any{"journal", "8", "a b"}},
		"Cancel": {
			func(ctx context.Context) (any, error) { return c.Cancel(ctx, "8") },
			f.job, []any{"cancel", "8", me.Username}},
		"Retry": {
			func(ctx context.Context) (any, error) { return c.Retry(ctx, "8") },
			f.job, []any{"retry", "8", me.Username}},
		"Pause": {
			func(ctx context.Context) (any, error) { return c.Pause(ctx, "8") },
			f.job, []any{"pause", "8", me.Username}},
		"Resume": {
			func(ctx context.Context) (any, error) { return c.Resume(ctx, "8") },
			f.job, []any{"resume", "8", me.Username}},
		"Approve": {
			func(ctx context.Context) (any, error) { return c.Approve(ctx, "8") },
			f.job, []any{"approve", "8", me.Username}},
		"Plan": {
			func(ctx context.Context) (any, error) { return c.Plan(ctx, req) },
			api.Plan{Operation: req.Operation, Rows: []api.PlannedUnit{}, Warnings: []string{}, Refusals: []string{}},
			[]any{"plan", me.Username, req}},
		"Audit": {
			func(ctx context.Context) (any, error) {
				return c.Audit(ctx, api.AuditQuery{Before: 9, Limit: 5, By: "a b", Action: "job.submit", Job: "8", Device: "d"})
			},
			api.AuditList{Rows: []api.AuditEntry{}, Next: 3},
			[]any{api.AuditQuery{Before: 9, Limit: 5, By: "a b", Action: "job.submit", Job: "8", Device: "d"}}},
		"AuditDefault": {
			func(ctx context.Context) (any, error) { return c.Audit(ctx, api.AuditQuery{}) },
			api.AuditList{Rows: []api.AuditEntry{}, Next: 3}, []any{api.AuditQuery{Limit: 100}}},
		"PinHostKeys": {
			func(ctx context.Context) (any, error) { return c.PinHostKeys(ctx, pin) },
			api.PinResult{Added: pin.Keys, Unchanged: []api.HostKey{}}, []any{me.Username, pin}},
		"Artifacts": {
			func(ctx context.Context) (any, error) { return c.Artifacts(ctx, "8") },
			[]api.Artifact{}, []any{"artifacts", "8"}},
		"Artifact": {
			func(ctx context.Context) (any, error) {
				r, err := c.Artifact(ctx, digest)
				if err != nil {
					return nil, err
				}
				defer func() { _ = r.Close() }()
				b, err := io.ReadAll(r)
				return string(b), err
			},
			"content", []any{"artifact", digest}},
	} {
		t.Run(name, func(t *testing.T) {
			f.take()
			got, err := tc.call(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.ask, f.take()); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// An error keeps its kind, device, stage, text and next step from the service to
// the caller of the client.
func TestErrorsKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	f := &fake{}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	for _, kind := range fault.Kinds() {
		for name, err := range map[string]*fault.Error{
			"full":   {Kind: kind, Act: "run show version", Device: "lon-1", Stage: "command", Next: "look at it", Err: errors.New("no answer")},
			"plain":  fault.New(kind, "it is so"),
			"nested": {Kind: kind, Act: "start job", Err: &fault.Error{Kind: kind, Act: "open session", Device: "lon-1", Stage: "auth", Err: errors.New("refused")}},
		} {
			t.Run(string(kind)+"/"+name, func(t *testing.T) {
				f.err = err
				_, got := c.Version(t.Context())
				var e *fault.Error
				if !errors.As(got, &e) {
					t.Fatalf("got %#v, want a *fault.Error", got)
				}
				if e.Kind != kind {
					t.Errorf("kind %s became %s", kind, e.Kind)
				}
				if got.Error() != err.Error() {
					t.Errorf("text\n  %s\nbecame\n  %s", err, got)
				}
				if e.Stage != fault.StageOf(err) || e.Next != err.Next {
					t.Errorf("stage %q next %q of %#v", e.Stage, e.Next, err)
				}
			})
		}
	}
	t.Run("foreign error", func(t *testing.T) {
		f.err = errors.New("bits\x1b[31m fell\nout\u202e")
		_, got := c.Version(t.Context())
		if !fault.Is(got, fault.Internal) || got.Error() != "bits[31m fell out" {
			t.Errorf("got %v %q", fault.KindOf(got), got)
		}
	})
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	const good = `{"operation":"report","selection":{"all":true}}`
	f := &fake{job: api.Job{ID: "1"}}
	socket, _ := serve(t, f)
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		kind               fault.Kind
		detail             string // must be in the detail
	}{
		"good":                 {"POST", "/v1/jobs", good, 202, "", ""},
		"unknown key":          {"POST", "/v1/jobs", `{"operation":"x","selection":{},"opration":1}`, 422, fault.Invalid, "opration"},
		"unknown nested key":   {"POST", "/v1/jobs", `{"operation":"x","selection":{"al":true}}`, 422, fault.Invalid, "al"},
		"wrong type":           {"POST", "/v1/jobs", `{"operation":1,"selection":{}}`, 422, fault.Invalid, "operation"},
		"missing":              {"POST", "/v1/jobs", `{"operation":"x"}`, 422, fault.Invalid, "selection"},
		"no body":              {"POST", "/v1/jobs", "", 400, fault.Invalid, "body"},
		"not JSON":             {"POST", "/v1/jobs", "{", 400, fault.Invalid, "body"},
		"two values":           {"POST", "/v1/jobs", good + good, 400, fault.Invalid, "body"},
		"too large":            {"POST", "/v1/jobs", good + strings.Repeat(" ", 1<<20), 413, fault.TooLarge, ""},
		"unknown query":        {"GET", "/v1/devices?selctor=x", "", 422, fault.Invalid, "selctor"},
		"bad limit":            {"GET", "/v1/jobs?limit=0", "", 422, fault.Invalid, "limit"},
		"bad number":           {"GET", "/v1/jobs?limit=ten", "", 422, fault.Invalid, "limit"},
		"bad digest":           {"GET", "/v1/artifacts/..%2F..%2Fetc%2Fpasswd", "", 422, fault.Invalid, "sha256"},
		"short digest":         {"GET", "/v1/artifacts/abc", "", 422, fault.Invalid, "sha256"},
		"journal of nothing":   {"GET", "/v1/jobs/1/journal", "", 422, fault.Invalid, "device"},
		"unknown route":        {"GET", "/v1/job", "", 404, fault.NotFound, "/v1/job"},
		"wrong method":         {"DELETE", "/v1/jobs", "", 405, fault.Invalid, "DELETE"},
		"wrong method on sub":  {"POST", "/v1/jobs/1/tasks", "", 405, fault.Invalid, "POST"},
		"bad Last-Event-ID":    {"GET", "/v1/events?after=x", "", 422, fault.Invalid, "after"},
		"id of absurd length":  {"GET", "/v1/jobs/" + strings.Repeat("1", 100), "", 422, fault.Invalid, "id"},
		"device name too long": {"GET", "/v1/devices/" + strings.Repeat("a", 300), "", 422, fault.Invalid, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			resp := raw(t, socket, tc.method, tc.path, tc.body)
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status {
				t.Fatalf("status %d, want %d: %s", resp.StatusCode, tc.status, b)
			}
			if tc.kind == "" {
				return
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %q", ct)
			}
			var p api.Problem
			if err := json.Unmarshal(b, &p); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			if fault.Kind(p.Kind) != tc.kind || p.Status != tc.status || !strings.Contains(p.Detail, tc.detail) {
				t.Errorf("got %+v, want kind %s, status %d, detail with %q", p, tc.kind, tc.status, tc.detail)
			}
			if len(p.Detail) > 8<<10 {
				t.Errorf("detail of %d bytes", len(p.Detail))
			}
		})
	}
}

// raw sends a request past the client.
func raw(t *testing.T, socket, method, path, body string) *http.Response {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://fleetd"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	socket, _ := serve(t, &fake{panics: true})
	c := dial(t, socket)
	for range 2 { // the server goes on
		_, err := c.Version(t.Context())
		if !fault.Is(err, fault.Internal) || strings.Contains(err.Error(), "index out") {
			t.Errorf("got %v", err)
		}
	}
}

func TestResultsOfTenThousandDevices(t *testing.T) {
	t.Parallel()
	const devices, perDevice = 10_000, 8
	f := &fake{job: api.Job{ID: "1", Warnings: []string{"of the job"}}}
	var want []string
	for i := range devices {
		task := api.Task{Device: fmt.Sprintf("dev-%05d", i), State: "succeeded"}
		r := row{device: task.Device}
		for j := range perDevice {
			r.rows = append(r.rows, json.RawMessage(fmt.Sprintf(`{"device":%q,"n":%d,"text":"<&>"}`, task.Device, j)))
		}
		switch i % 1000 {
		case 7:
			task.State, task.Failure = "failed", &api.Failure{Device: task.Device, Stage: "dial", Kind: "unreachable", Message: "no route"}
		case 8:
			task.State, task.Reason = "canceled", "stopped by joe"
		case 9:
			task.State = "running" // its rows are of an attempt that is not over
		case 10:
			task.State, task.Warnings = "unchanged", []string{"careful"}
			fallthrough
		default:
			for _, x := range r.rows {
				want = append(want, string(x))
			}
		}
		f.tasks = append(f.tasks, task)
		f.rows = append(f.rows, r)
	}
	socket, _ := serve(t, f)
	res, err := dial(t, socket).Results(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range res.Rows {
		got = append(got, string(r))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows differ: %.500s", diff)
	}
	if len(res.Failures) != 20 || len(res.Warnings) != 11 || res.Warnings[1] != "dev-00010: careful" {
		t.Errorf("%d failures, %d warnings", len(res.Failures), len(res.Warnings))
	}
	if diff := cmp.Diff(api.Failure{Device: "dev-00008", Kind: "canceled", Message: "stopped by joe"}, res.Failures[1]); diff != "" {
		t.Error(diff)
	}
}

func TestResultsWithoutRows(t *testing.T) {
	t.Parallel()
	socket, _ := serve(t, &fake{job: api.Job{ID: "1"}})
	b, err := io.ReadAll(raw(t, socket, "GET", "/v1/jobs/1/results", "").Body)
	if err != nil {
		t.Fatal(err)
	}
	var res map[string]json.RawMessage
	if err := json.Unmarshal(b, &res); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	for _, key := range []string{"rows", "failures", "warnings"} {
		if string(res[key]) != "[]" {
			t.Errorf("%s is %s", key, res[key])
		}
	}
}

// Rows that cannot be read to the end must not look like all rows.
func TestResultsCutShortAreAnError(t *testing.T) {
	t.Parallel()
	f := &fake{job: api.Job{ID: "1"}, tasks: []api.Task{{Device: "a", State: "succeeded"}}, rowsErr: fault.New(fault.Storage, "bad page"),
		rows: []row{{"a", []json.RawMessage{json.RawMessage(`{}`)}}}}
	socket, _ := serve(t, f)
	if res, err := dial(t, socket).Results(t.Context(), "1"); !fault.Is(err, fault.Disconnected) || res.Rows != nil {
		t.Errorf("got %v rows, %v", res.Rows, err)
	}
}

func TestArtifactWithOtherContentIsAnError(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("0", 64)
	socket, _ := serve(t, &fake{kept: map[string]string{digest: "rotten"}})
	r, err := dial(t, socket).Artifact(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.ReadAll(r); !fault.Is(err, fault.Storage) {
		t.Errorf("got %v", err)
	}
}

func TestNotReachable(t *testing.T) {
	t.Parallel()
	socket, stop := serve(t, &fake{})
	stop() // closing a Unix listener takes its file away
	_, err := dial(t, socket).Version(t.Context())
	want := "cannot reach fleetd at unix socket " + socket + ": no such file (start it with: fleetd --inventory F, or set --server/FLEET_SERVER)"
	if !fault.Is(err, fault.Unavailable) || err.Error() != want {
		t.Errorf("got %q", err)
	}
	if _, err := client.New(""); !fault.Is(err, fault.Invalid) {
		t.Errorf("empty server: %v", err)
	}
}

// Stopping ends streams at once and lets an answer under way be finished.
func TestServeStops(t *testing.T) {
	t.Parallel()
	log := newEventLog()
	log.add(api.Event{Type: "job_created"})
	socket, stop := serve(t, &fake{log: log})
	resp := raw(t, socket, "GET", "/v1/events", "")
	buf := make([]byte, 1)
	if _, err := resp.Body.Read(buf); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop()
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("stopping took %v with a watcher", d)
	}
	rest, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("watcher: %v", err)
	}
	if bytes.Contains(rest, []byte("event: "+api.EventEnd)) {
		t.Error("a stopping server said that the job was over")
	}
}
