//go:build linux

package capture_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// analysis is a capture start --analyze that runs, and its job.
type analysis struct {
	*fleet
	job string
}

// analyze starts an analysis and waits until its tcpdump runs.
func (f *fleet) analyze(t *testing.T, args ...string) *analysis {
	t.Helper()
	r := f.fleetctl(t, append([]string{"capture", "start", "bed", "--detach", "-o", "json", "--analyze"}, args...)...)
	if code := r.run(t); code != 0 {
		t.Fatalf("%v ends with %d: %s", args, code, r.err.String())
	}
	var doc struct{ Rows []struct{ ID string } }
	if err := json.Unmarshal(r.out.bytes(), &doc); err != nil || len(doc.Rows) != 1 {
		t.Fatalf("%v: %s", err, r.out.bytes())
	}
	f.WaitRuns(t, "tcpdump", 1)
	return &analysis{fleet: f, job: doc.Rows[0].ID}
}

// until makes traffic again and again until the findings that are written down hold a
// text.
func (a *analysis) until(t *testing.T, text string, traffic func()) {
	t.Helper()
	late := time.After(time.Minute)
	for !strings.Contains(a.written(t), text) {
		select {
		case <-late:
			t.Fatalf("no %q in %s", text, a.written(t))
		case <-time.After(20 * time.Millisecond):
			traffic()
		}
	}
}

func (a *analysis) written(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(a.dir, "state", "captures", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// stop stops the analysis and gives its rows; there must be nothing left on the
// device, and no capture anywhere.
func (a *analysis) stop(t *testing.T) []map[string]any {
	t.Helper()
	rows := a.ringRows(t, "capture", "stop", a.job)
	a.WaitGone(t, "tcpdump")
	for _, row := range rows {
		if row["device"] != "bed" || row["interface"] != "eth0" {
			t.Errorf("%v", row)
		}
	}
	r := a.fleetctl(t, "artifact", "list", "-o", "json")
	var list struct{ Rows []any }
	if code := r.run(t); code != 0 || json.Unmarshal(r.out.bytes(), &list) != nil || len(list.Rows) > 0 {
		t.Errorf("files were kept: %d %s %s", code, r.out.bytes(), r.err.String())
	}
	return rows
}

// tlsServer listens inside and gives its address.
func (f *fleet) tlsServer(t *testing.T) string {
	t.Helper()
	l := f.Listen(t, 0)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}}
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS10} //nolint:gosec // what an audit looks for
	s.StartTLS()
	t.Cleanup(s.Close)
	return l.Addr().String()
}

func shake(t *testing.T, addr string, version uint16, name string) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, ServerName: name}}).DialContext(t.Context(), "tcp", addr) //nolint:gosec // see above
	if err != nil {
		t.Error(err)
		return
	}
	_ = conn.Close()
}

// An audit finds what real clients negotiate, also over a kill of fleetd and a cut of
// its connection, and keeps no packets.
func TestAnalyzeTLSOverRestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	server := f.tlsServer(t)
	a := f.analyze(t, "tls-audit", "--on", "eth0=tcp", "--weak", "tls1.1", "--limit", "10m")
	a.until(t, "old.example", func() { shake(t, server, tls.VersionTLS10, "old.example") })

	if err := f.daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = f.daemon.Wait()
	f.start(t)
	a.until(t, "new.example", func() { shake(t, server, tls.VersionTLS13, "new.example") })

	for _, pid := range f.Processes(t, "sshd") {
		_ = syscall.Kill(pid, syscall.SIGKILL) // some end with their parents
	}
	a.until(t, "cut.example", func() { shake(t, server, tls.VersionTLS12, "cut.example") })

	seen := map[any]bool{}
	for _, row := range a.stop(t) {
		if row["sni"] == nil || row["negotiated"] == nil {
			continue // the capture began, or was cut, within a handshake
		}
		want := map[any]string{"old.example": "tls1.0", "new.example": "tls1.3", "cut.example": "tls1.2"}[row["sni"]]
		if row["negotiated"] != want || row["weak"] != (want == "tls1.0") || row["server_ip"] != f.Inner.String() || row["client_ip"] != f.Outer.String() {
			t.Errorf("%v", row)
		}
		seen[row["sni"]] = true
	}
	if len(seen) != 3 {
		t.Errorf("%v", seen)
	}
}

func TestAnalyzeXFF(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := f.Listen(t, 0)
	s := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	get := func(client string) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nx-forwarded-for: 10.0.0.1, %s\r\nConnection: close\r\n\r\n", client)
		_, _ = io.Copy(io.Discard, conn)
	}
	a := f.analyze(t, "xff", "--ip", "203.0.113.7", "--on", "eth0=tcp", "--max-rows", "2")
	a.until(t, "x-forwarded-for", func() { get("203.0.113.77"); get("203.0.113.7") })
	get("203.0.113.7")
	rows := a.stop(t)
	if len(rows) < 1 || len(rows) > 2 {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		if row["header"] != "x-forwarded-for" || row["dst_ip"] != f.Inner.String() || row["src_ip"] != f.Outer.String() {
			t.Errorf("%v", row)
		}
	}
}

// With a duration it ends by itself; the own SSH session is no part of it.
func TestAnalyzeInfo(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() { sent <- f.Send(ctx, 9, 1<<30, 100, 10*time.Millisecond) }()
	r := f.fleetctl(t, "capture", "start", "bed", "--analyze", "info", "--on", "eth0", "--duration", "3s", "-o", "json")
	code := r.run(t)
	cancel()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	var doc struct {
		Rows []struct {
			Device, Interface, Format string
			Packets                   uint64
		}
	}
	if err := json.Unmarshal(r.out.bytes(), &doc); err != nil || code != 0 || len(doc.Rows) != 1 {
		t.Fatalf("%d %v %s %s", code, err, r.out.bytes(), r.err.String())
	}
	if row := doc.Rows[0]; row.Device != "bed" || row.Interface != "eth0" || row.Format != "pcap" || row.Packets == 0 {
		t.Errorf("%+v", row)
	}
	f.WaitGone(t, "tcpdump")
}

func TestAnalyzeRefuses(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, test := range []struct{ args, said string }{
		{"--analyze virus", "not known"},
		{"--analyze xff", "--ip"},
		{"--analyze xff --ip 1.2.3", "--ip"},
		{"--analyze tls-audit --weak tls9", "no version"},
		{"--analyze tls-audit --ip 192.0.2.1", "--ip"},
		{"--analyze info --ring 4x15MB", "--ring"},
		{"--analyze info --until-log x", "--until-log"},
		{"--ip 192.0.2.1", "--analyze"},
		{"--analyze info --max-rows 0", "--max-rows"},
		{"--analyze info --max-rows 100000000", "rows"},
	} {
		r := f.fleetctl(t, append([]string{"capture", "start", "bed", "--on", "eth0"}, strings.Fields(test.args)...)...)
		if code := r.run(t); code != 4 || !bytes.Contains(r.err.Bytes(), []byte(test.said)) {
			t.Errorf("%s: %d %s", test.args, code, r.err.String())
		}
	}
	r := f.fleetctl(t, "capture", "start", "bed", "--on", "eth7", "--analyze", "info", "--duration", "1s")
	if code := r.run(t); code == 0 || !bytes.Contains(r.err.Bytes(), []byte("eth7")) {
		t.Errorf("%d %s", code, r.err.String())
	}
}

// A tcpdump that ends by itself takes nothing of what was found with it.
func TestAnalyzeEndsByItself(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	server := f.tlsServer(t)
	r := f.fleetctl(t, "capture", "start", "bed", "--analyze", "tls-audit", "--on", "eth0=tcp", "--limit", "10m", "-o", "json")
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	(&analysis{fleet: f}).until(t, "found.example", func() { shake(t, server, tls.VersionTLS12, "found.example") })
	for _, pid := range f.Processes(t, "tcpdump") {
		_ = syscall.Kill(pid, syscall.SIGINT)
	}
	if code := r.wait(t); code != 0 || !bytes.Contains(r.out.bytes(), []byte("found.example")) || !bytes.Contains(r.err.Bytes(), []byte("before its time")) {
		t.Errorf("%d %s %s", code, r.out.bytes(), r.err.String())
	}
}
