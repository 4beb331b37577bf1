package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// target is a route of the OpenAPI document.
type target struct{ method, path string }

func targets(tb testing.TB, s *api.Server) []target {
	tb.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(s.OpenAPI(), &doc); err != nil {
		tb.Fatal(err)
	}
	var out []target
	for path, methods := range doc.Paths {
		for method := range methods {
			out = append(out, target{strings.ToUpper(method), path})
		}
	}
	slices.SortFunc(out, func(a, b target) int { return strings.Compare(a.path+" "+a.method, b.path+" "+b.method) })
	return out
}

// FuzzRequest: whatever is sent to whatever route, the answer is what the route
// promises or a Problem that says which sort of mistake it was, in one line; never a
// defect of ours, and never a redirect.
func FuzzRequest(f *testing.F) {
	events := newEventLog()
	events.steps(3)
	events.add(api.Event{Type: "job_finished"})
	svc := &fake{log: events, kept: map[string]string{}}
	s := api.New(api.Options{Service: svc})
	all := targets(f, s)
	if len(all) < 20 {
		f.Fatalf("%d routes", len(all))
	}
	bodies := []string{
		``, `null`, `[]`, `{}`, `{"operation":"report","spec":{"report":"filesystem"},"selection":{"all":true},"request_id":"r1"}`,
		`{"operation":"command","spec":{"line":"show version","mode":"config"},"selection":{"names":["lon-*"],"selector":"site in (lon"}}`,
		`{"keys":[{"device":"a","host":"[h]:22","type":"ssh-ed25519","sha256":"SHA256:x","public_key":"ssh-ed25519 AAAA"}],"replace":true}`,
		`{"text":"Value A (.*)\n\nStart\n  ^${A}\n","base":"","sample":{"case":"../x","raw":"\u001b[2J","origin":""}}`,
		`{"operation":"report","spec":` + strings.Repeat(`[`, 2000) + strings.Repeat(`]`, 2000) + `}`,
		`{"operation":"a","operation":"b","Selection":{"ALL":true}}`, "{\"operation\":\"\xff\"}", `{"selection":{"names":null}} trailing`,
	}
	for i := range all {
		for j, body := range bodies {
			if j > 0 && all[i].method == http.MethodGet {
				break
			}
			f.Add(uint8(i), "8", "", "application/json", "", []byte(body))
		}
		f.Add(uint8(i), "../..%2f\x00", "limit=0&limit=2&before=%00&device=a&job=8&name=x", "text/plain", "20", []byte("x"))
		f.Add(uint8(i), strings.Repeat("a", 64), "limit=-1&after=18446744073709551616&all=perhaps&selector=%ff&name=..%2f&digest=ZZ", "", "-1", []byte(nil))
	}
	f.Add(uint8(0), "8", "after=1", "application/json; charset=\"", "99", []byte("{}"))
	f.Fuzz(func(t *testing.T, route uint8, id, query, mediaType, lastEvent string, body []byte) {
		if len(id)+len(query)+len(mediaType)+len(lastEvent)+len(body) > 64<<10 {
			return
		}
		to := all[int(route)%len(all)]
		path := &strings.Builder{}
		for part := range strings.SplitSeq(strings.TrimPrefix(to.path, "/"), "/") {
			if strings.HasPrefix(part, "{") {
				part = url.PathEscape(id)
			}
			path.WriteString("/" + part)
		}
		// A stream that nothing ends is ended by its watcher, who has seen all or waits
		// for what never comes.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		w := &watcher{ResponseRecorder: httptest.NewRecorder(), left: cancel}
		u, err := url.ParseRequestURI(path.String())
		if err != nil {
			return
		}
		u.RawQuery = query
		req := (&http.Request{Method: to.method, URL: u, Host: "fleetd", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, RequestURI: u.RequestURI(), ContentLength: int64(len(body)), Body: http.NoBody}).WithContext(ctx)
		if len(body) > 0 {
			req.Body = readCloser{bytes.NewReader(body)}
		}
		if mediaType != "" {
			req.Header.Set("Content-Type", mediaType)
		}
		if lastEvent != "" {
			req.Header.Set("Last-Event-ID", lastEvent)
		}
		svc.take() // what was asked by earlier inputs is of no interest
		s.ServeHTTP(w, req)
		res := w.Result()
		if w.Code >= 500 {
			t.Fatalf("%s %s?%s: %d %s", to.method, path, query, w.Code, w.Body)
		}
		if res.Header.Get("Location") != "" && w.Code != http.StatusAccepted && !strings.Contains(path.String(), "//") && !strings.Contains(path.String(), "/.") {
			t.Fatalf("%s %s?%s: %d leads to %s", to.method, path, query, w.Code, res.Header.Get("Location"))
		}
		if w.Code < 400 {
			return
		}
		kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
		if err != nil || kind != "application/problem+json" {
			t.Fatalf("%s %s?%s: %d as %q: %s", to.method, path, query, w.Code, res.Header.Get("Content-Type"), w.Body)
		}
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Kind == "" || p.Kind == string(fault.Internal) {
			t.Fatalf("%s %s?%s: %d %s: %v", to.method, path, query, w.Code, w.Body, err)
		}
		if p.Detail == "" || strings.ContainsAny(p.Detail, "\n\r\x1b") {
			t.Fatalf("%s %s?%s: detail %q", to.method, path, query, p.Detail)
		}
	})
}

// watcher is a recorder whose client leaves when it has seen all events that are
// there.
type watcher struct {
	*httptest.ResponseRecorder
	left context.CancelFunc
}

func (w *watcher) Write(b []byte) (int, error) {
	n, err := w.ResponseRecorder.Write(b)
	if bytes.Contains(b, []byte("job_finished")) {
		w.left()
	}
	return n, err
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
