package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"capfleet/internal/api"
)

// FuzzRequest is what the real service makes of requests whose form the API takes:
// names, selectors, ids, specs of operations, host keys, templates. A mistake is
// the caller's, said in one line, and nothing is written outside fleetd's places.
// The daemon accepts jobs and works on none.
func FuzzRequest(f *testing.F) {
	dir, err := os.MkdirTemp("/tmp", "cf") // short: it holds a socket
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "inventory.yaml"), []byte(minimal), 0o600); err != nil {
		f.Fatal(err)
	}
	d, err := New(context.Background(), Options{StateDir: filepath.Join(dir, "state"), Inventory: filepath.Join(dir, "inventory.yaml"),
		Socket: filepath.Join(dir, "s"), Overrides: filepath.Join(dir, "overrides"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := d.Close(); err != nil {
			f.Error(err)
		}
	})
	ours := []string{"inventory.yaml", "known_hosts", "overrides", "s", "state"}

	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0eoBLhZnE9f4yzUfQBF3q8RdIWjXHaeaxfx6Ez1Ua6"
	for _, seed := range [][3]string{
		{"POST", "/v1/jobs", `{"operation":"report","spec":{"report":"filesystem"},"selection":{"all":true},"request_id":"r1"}`},
		{"POST", "/v1/jobs", `{"operation":"report","spec":{"report":"filesystem","record":true,"blank":["","\u0000","("]},"selection":{"names":["a"]}}`},
		{"POST", "/v1/jobs", `{"operation":"command","spec":{"line":"show version; reboot","mode":"x"},"selection":{"names":["*","[","a/../b"]}}`},
		{"POST", "/v1/jobs", `{"operation":"command","spec":{"line":"uptime","unsafe":true,"timeout_seconds":-1},"selection":{"selector":"site in (lon"}}`},
		{"POST", "/v1/jobs", `{"operation":"check","spec":{"x":1},"selection":{"all":true}}`},
		{"POST", "/v1/jobs", `{"operation":"hostkeys","spec":null,"selection":{"selector":"tier=core,!x"},"request_id":"\u0000"}`},
		{"POST", "/v1/host-keys", `{"keys":[{"device":"a","host":"[127.0.0.1]:1","type":"ssh-ed25519","sha256":"SHA256:x","public_key":"` + key + `"}],"replace":true}`},
		{"POST", "/v1/host-keys", `{"keys":[{"device":"a","host":"*\n@revoked","type":"","sha256":"","public_key":"` + key + `\nb ` + key + `"}]}`},
		{"PUT", "/v1/templates/linux/kernel", `{"text":"Value Release (.*)\n\nStart\n  ^${Release}\n","base":"0","sample":{"case":"../../x","raw":"6.1\n","origin":""}}`},
		{"PUT", "/v1/templates/linux/kernel", `{"text":"Value Release (\\S+)\n\nStart\n  ^${Release}\n","sample":{"case":"own","raw":"6.1\n","origin":"verified"}}`},
		{"PUT", "/v1/templates/..%2f../x", `{"text":"Value A (((((x+)+)+)+)+)\n\nStart\n  ^${A}\n"}`},
		{"POST", "/v1/artifacts?name=..%2f..%2fcron.d%2fx", "\x00\xff"},
		{"DELETE", "/v1/artifacts/" + strings.Repeat("0", 64), ""},
		{"GET", "/v1/devices?name=%5b&selector=a%3d%3d%3d", ""}, {"GET", "/v1/devices/%00", ""}, {"GET", "/v1/jobs?before=-1", ""},
		{"GET", "/v1/jobs/%ff%00", ""}, {"GET", "/v1/jobs/1/journal?device=..", ""}, {"GET", "/v1/jobs/18446744073709551616/tasks", ""}, {"GET", "/v1/jobs/1/results", ""},
		{"POST", "/v1/jobs/1/cancel", ""}, {"POST", "/v1/jobs/1/retry", ""}, {"POST", "/v1/jobs/1/pause", ""}, {"POST", "/v1/jobs/01/resume", ""},
		{"GET", "/v1/events?after=18446744073709551615", ""}, {"GET", "/v1/audit?by=%00&before=1&action=x", ""}, {"GET", "/v1/artifacts?job=%00&digest=a", ""},
	} {
		f.Add(seed[0], seed[1], []byte(seed[2]))
	}
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		if len(path)+len(body) > 16<<10 || !slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, method) {
			return
		}
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		// A stream without an end is left by its watcher.
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if strings.HasSuffix(u.Path, "/events") {
			ctx, cancel = context.WithTimeout(ctx, 10*time.Millisecond)
			defer cancel()
		}
		req := (&http.Request{Method: method, URL: u, Host: "fleetd", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RequestURI: path,
			Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}).WithContext(ctx)
		w := httptest.NewRecorder()
		d.server.ServeHTTP(w, req)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Fatalf("%s %s %q: %d %s", method, path, body, w.Code, w.Body)
		}
		if w.Code >= 400 {
			var p api.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Kind == "" || p.Detail == "" || strings.ContainsFunc(p.Detail, unicode.IsControl) {
				t.Fatalf("%s %s %q: %d %q: %v", method, path, body, w.Code, w.Body, err)
			}
		}
		if method == "GET" {
			return
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !slices.Contains(ours, e.Name()) {
				t.Fatalf("%s %s %q: wrote %s", method, path, body, e.Name())
			}
		}
	})
}
