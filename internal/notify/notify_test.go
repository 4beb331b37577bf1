package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/config"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
	"capfleet/internal/ledger"
	"capfleet/internal/secret"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// bench is a Notifier over a ledger of its own.
type bench struct {
	*Notifier
	t   *testing.T
	db  *ledger.DB
	cfg *config.Notifications
	now func() time.Time
}

func newBench(t *testing.T, receivers []config.Receiver, rules ...config.Rule) *bench {
	t.Helper()
	db, err := ledger.Open(filepath.Join(t.TempDir(), "l"), ledger.Options{Namespaces: Namespaces()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b := &bench{t: t, db: db, cfg: &config.Notifications{Receivers: receivers, Rules: rules}, now: time.Now}
	b.restart()
	return b
}

// restart forgets what is in memory.
func (b *bench) restart() {
	b.t.Helper()
	var err error
	b.Notifier, err = New(Options{Ledger: b.db, Config: b.cfg, Host: "hub.example", Now: func() time.Time { return b.now() },
		Result: func(_ context.Context, job string) (Result, error) {
			if job == "404" {
				return Result{}, fault.New(fault.NotFound, "gone")
			}
			return Result{CSV: []byte("Device\nlon-" + job + "\n"), Failures: []byte("Device,Stage\nx,login\n"), Failed: 1}, nil
		}})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) update(fn func(tx *ledger.Tx) error) {
	b.t.Helper()
	if err := b.db.Update(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
	b.Wake()
}

func (b *bench) tell(messages ...Message) {
	b.t.Helper()
	b.update(func(tx *ledger.Tx) error {
		for _, m := range messages {
			if err := b.Tell(tx, m); err != nil {
				return err
			}
		}
		return nil
	})
}

// run delivers until done says that it is enough.
func (b *bench) run(done func() bool) {
	b.t.Helper()
	ctx, stop := context.WithCancel(b.t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	until(b.t, done)
	stop()
	<-ended
}

// until waits for a condition, generously.
func until(t *testing.T, done func() bool) {
	t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatal("it did not come")
		}
	}
}

func (b *bench) waitingFor(name string) int {
	b.t.Helper()
	all, err := b.List(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			return s.Waiting
		}
	}
	b.t.Fatal("no receiver " + name)
	return 0
}

func alarm(n int) Message {
	return Message{ID: fmt.Sprintf("pci/%d", n), Condition: PCIError, Severity: Critical, Time: time.Date(2026, 3, 1, 2, 3, 4, 5e6, time.UTC),
		Device: "lon-probe-01", Job: "7", Summary: fmt.Sprintf("PCI SERR number %d", n), Details: json.RawMessage(`{"bus":128}`)}
}

// hook is a webhook's receiver.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	got    []*http.Request
	bodies []string
	answer func(n int, body string) int
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got, h.bodies = append(h.got, r), append(h.bodies, string(body))
		if h.answer != nil {
			w.WriteHeader(h.answer(len(h.got), string(body)))
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) ids() (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.got {
		ids = append(ids, r.Header.Get("Idempotency-Key"))
	}
	return ids
}

func (h *hook) receiver(name string) config.Receiver {
	return config.Receiver{Name: name, Webhook: &config.Webhook{URL: h.URL + "/secret-path"}}
}

func TestWebhook(t *testing.T) {
	h := newHook(t)
	t.Setenv("HOOK_TOKEN", "hunter2")
	r := h.receiver("ops")
	r.Webhook.Token = secret.Ref{Env: "HOOK_TOKEN"}
	b := newBench(t, []config.Receiver{r}, config.Rule{On: []string{"pci_error"}, To: []string{"ops"}})
	b.tell(alarm(1), alarm(2), alarm(1), Message{ID: "x", Condition: JobFailed}) // the first twice, and one that no rule is on
	b.update(func(tx *ledger.Tx) error {
		return b.Deliver(tx, Delivery{ID: "result/9", Job: "9", Schedule: "nightly", Time: time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)}, []string{"ops", "gone"})
	})
	b.run(func() bool { return b.waitingFor("ops") == 0 })
	if ids := h.ids(); !slices.Equal(ids, []string{"pci/1", "pci/2", "result/9"}) {
		t.Fatalf("%v", ids)
	}
	var m Message
	if err := json.Unmarshal([]byte(h.bodies[0]), &m); err != nil || m.Device != "lon-probe-01" || m.Condition != PCIError || string(m.Details) != `{"bus":128}` {
		t.Errorf("%s (%v)", h.bodies[0], err)
	}
	if got := h.got[0].Header.Get("Authorization"); got != "Bearer hunter2" {
		t.Errorf("%q", got)
	}
	last := h.got[2].Header
	if h.bodies[2] != "Device\nlon-9\n" || last.Get("X-Fleet-Failed-Devices") != "1" || !strings.Contains(last.Get("Content-Disposition"), "nightly_20260301T060000Z_job9.csv") {
		t.Errorf("%q %v", h.bodies[2], last)
	}
	// Told again, also by a process that knows nothing, it is not sent again.
	b.restart()
	b.tell(alarm(1), alarm(2))
	if n := b.waitingFor("ops"); n != 0 {
		t.Errorf("%d wait that were told before", n)
	}
	if all, err := b.List(t.Context()); err != nil || strings.Contains(fmt.Sprint(all), "secret") || all[0].Target != h.URL {
		t.Errorf("%v %v", all, err)
	}
}

// TestReceiverThatFails: one that is down gets everything once it is up, in order and
// each once; one that refuses a message gets those behind it.
func TestReceiverThatFails(t *testing.T) {
	h := newHook(t)
	h.answer = func(n int, body string) int {
		switch {
		case n <= 2:
			return http.StatusServiceUnavailable
		case strings.Contains(body, "number 2"):
			return http.StatusUnprocessableEntity
		}
		return http.StatusNoContent
	}
	b := newBench(t, []config.Receiver{h.receiver("ops")}, config.Rule{On: []string{"pci_error"}, To: []string{"ops"}})
	b.tell(alarm(1), alarm(2), alarm(3))
	b.run(func() bool { return b.waitingFor("ops") == 1 && len(h.ids()) >= 5 })
	ids := h.ids()
	if count(ids, "pci/3") != 1 || count(ids, "pci/2") == 0 || count(ids, "pci/1") != 3 {
		t.Errorf("%v", ids)
	}
	all, err := b.List(t.Context())
	if err != nil || !strings.Contains(all[0].LastError, "422") {
		t.Errorf("%+v %v", all, err)
	}
	// After a week it is given up.
	b.now = func() time.Time { return time.Now().Add(giveUp + time.Hour) }
	b.run(func() bool { return b.waitingFor("ops") == 0 })
}

func count(ids []string, id string) (n int) {
	for _, have := range ids {
		if have == id {
			n++
		}
	}
	return n
}

// TestSentAgainAfterACrash: a process that dies after the receiver took a message and
// before that was written sends it again, under the same id.
func TestSentAgainAfterACrash(t *testing.T) {
	h := newHook(t)
	b := newBench(t, []config.Receiver{h.receiver("ops")}, config.Rule{On: []string{"pci_error"}, To: []string{"ops"}})
	b.tell(alarm(1))
	due, _, err := b.waiting(t.Context(), "ops", 1)
	if err != nil || len(due) != 1 {
		t.Fatalf("%v %v", due, err)
	}
	if n, err := b.receivers["ops"].sender.send(t.Context(), []outgoing{{entry: &due[0]}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b.receivers["ops"].sender.close()
	b.restart()
	b.run(func() bool { return b.waitingFor("ops") == 0 })
	if ids := h.ids(); !slices.Equal(ids, []string{"pci/1", "pci/1"}) {
		t.Errorf("%v", ids)
	}
}

var rfc5424 = regexp.MustCompile(`^<130>1 2026-03-01T02:03:04\.005Z hub\.example fleetd \d+ pci_error \[fleet@32473 id="pci/(\d+)" device="lon-probe-01" job="7"\] \x{feff}PCI SERR number (\d+)$`)

// TestSyslog sends to a receiver of each transport.
func TestSyslog(t *testing.T) {
	const messages = 120 // more than a batch
	cert, ca := certificate(t)
	for name, listen := range map[string]func(t *testing.T, got func(string)) config.Syslog{
		"udp": func(t *testing.T, got func(string)) config.Syslog {
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			readPackets(t, conn, got)
			return config.Syslog{Network: "udp", Address: conn.LocalAddr().String()}
		},
		"unix datagram": func(t *testing.T, got func(string)) config.Syslog {
			path := filepath.Join(shortDir(t), "log")
			conn, err := net.ListenPacket("unixgram", path)
			if err != nil {
				t.Fatal(err)
			}
			readPackets(t, conn, got)
			return config.Syslog{Network: "unix", Address: path}
		},
		"unix stream": func(t *testing.T, got func(string)) config.Syslog {
			path := filepath.Join(shortDir(t), "log")
			ln, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			readStreams(t, ln, got)
			return config.Syslog{Network: "unix", Address: path}
		},
		"tcp": func(t *testing.T, got func(string)) config.Syslog {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			readStreams(t, ln, got)
			return config.Syslog{Network: "tcp", Address: ln.Addr().String()}
		},
		"tls": func(t *testing.T, got func(string)) config.Syslog {
			ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
			if err != nil {
				t.Fatal(err)
			}
			readStreams(t, ln, got)
			return config.Syslog{Network: "tls", Address: ln.Addr().String(), CA: ca}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			to := listen(t, func(s string) { mu.Lock(); defer mu.Unlock(); got = append(got, s) })
			to.Facility = 16
			b := newBench(t, []config.Receiver{{Name: "siem", Syslog: &to}}, config.Rule{On: []string{"pci_error"}, To: []string{"siem"}})
			for n := range messages {
				b.tell(alarm(n))
			}
			b.run(func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == messages })
			for n, text := range got {
				m := rfc5424.FindStringSubmatch(text)
				if m == nil || m[1] != strconv.Itoa(n) || m[2] != m[1] {
					t.Fatalf("message %d: %q", n, text)
				}
			}
		})
	}
}

func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "nf") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func readPackets(t *testing.T, conn net.PacketConn, got func(string)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			got(string(buf[:n]))
		}
	})
	t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
}

// readStreams reads octet-counted messages of many connections.
func readStreams(t *testing.T, ln net.Listener, got func(string)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				r := bufio.NewReader(conn)
				for {
					head, err := r.ReadString(' ')
					if err != nil {
						return
					}
					n, err := strconv.Atoi(strings.TrimSpace(head))
					if err != nil {
						got("no length: " + head)
						return
					}
					text := make([]byte, n)
					if _, err := io.ReadFull(r, text); err != nil {
						return
					}
					got(string(text))
				}
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
}

// certificate makes one for 127.0.0.1 that signs itself, and its file.
func certificate(t *testing.T) (tls.Certificate, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "siem"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// TestHostileText: nothing that a device or a person wrote ends a syslog message
// early, forges a field or reaches a terminal as an escape.
func TestHostileText(t *testing.T) {
	s := &syslog{host: "h", Syslog: config.Syslog{Facility: 16}}
	m := alarm(1)
	m.Device = "a\"] <0>1 - - forged \\"
	m.Summary = "x\n<0>1 2026 forged\x1b[2J\u202e"
	text := s.format(&m)
	if bytes.ContainsAny(text, "\n\x1b") || !bytes.Contains(text, []byte(`device="a\"\] <0>1 - - forged \\"`)) || bytes.Contains(text, []byte("\u202e")) {
		t.Errorf("%q", text)
	}
	if newHost := printable("a b\n]é", 255); newHost != "ab]" {
		t.Errorf("%q", newHost)
	}
}

// TestHostileIDs: an id holds what a device calls a ring, and is the value of a header
// field; one that is none holds nothing back.
func TestHostileIDs(t *testing.T) {
	h := newHook(t)
	b := newBench(t, []config.Receiver{h.receiver("ops")}, config.Rule{On: []string{"pci_error"}, To: []string{"ops"}})
	var want []string
	for _, id := range []string{"a\x1b[2J", "a\r\nX-Forged: 1", "a[2J", "\xff\x00", strings.Repeat("x", 300), strings.Repeat("x", 300) + "y", "plain/[\"ops\"]"} {
		m := alarm(1)
		m.ID = id
		b.tell(m)
		want = append(want, identifier(id))
	}
	b.run(func() bool { return b.waitingFor("ops") == 0 })
	ids := h.ids()
	if !slices.Equal(ids, want) || want[2] != "a[2J" || want[6] != "plain/[\"ops\"]" {
		t.Errorf("%q", ids)
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != len(want) {
		t.Errorf("two are one: %q", ids)
	}
	for _, id := range ids {
		if len(id) > longestID || printable(id, longestID) != id {
			t.Errorf("%q", id)
		}
	}
}

func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "reports")
	b := newBench(t, []config.Receiver{{Name: "files", Directory: &config.Directory{Path: dir, Keep: 3, Age: 30 * 24 * time.Hour}}})
	at := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	deliver := func(schedule string, job int, at time.Time) {
		b.update(func(tx *ledger.Tx) error {
			return b.Deliver(tx, Delivery{ID: fmt.Sprint(schedule, job), Job: fmt.Sprint(job), Schedule: schedule, Time: at}, []string{"files"})
		})
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine.csv", "nightly_x_job1.csv"} { // somebody else's
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	deliver("weekly", 1, at)
	deliver("gone", 404, at) // its job was removed
	for n := range 5 {
		deliver("nightly", 10+n, at.AddDate(0, 0, n))
	}
	b.run(func() bool { return b.waitingFor("files") == 0 })
	want := []string{"mine.csv",
		"nightly_20260303T060000Z_job12.csv", "nightly_20260303T060000Z_job12.failures.csv",
		"nightly_20260304T060000Z_job13.csv", "nightly_20260304T060000Z_job13.failures.csv",
		"nightly_20260305T060000Z_job14.csv", "nightly_20260305T060000Z_job14.failures.csv",
		"nightly_x_job1.csv", "weekly_20260301T060000Z_job1.csv", "weekly_20260301T060000Z_job1.failures.csv"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if text, err := os.ReadFile(filepath.Join(dir, want[1])); err != nil || string(text) != "Device\nlon-12\n" {
		t.Errorf("%q %v", text, err)
	}
	deliver("nightly", 20, at.AddDate(0, 0, 60))
	b.run(func() bool { return b.waitingFor("files") == 0 })
	if got := names(t, dir); len(got) != 6 || !slices.Contains(got, "nightly_20260430T060000Z_job20.csv") {
		t.Errorf("those of more than 30 days are there: %v", got)
	}
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSendTest(t *testing.T) {
	h := newHook(t)
	dir := t.TempDir()
	b := newBench(t, []config.Receiver{h.receiver("ops"), {Name: "files", Directory: &config.Directory{Path: dir}},
		{Name: "off", Syslog: &config.Syslog{Network: "unix", Address: filepath.Join(dir, "none")}}})
	for _, name := range []string{"ops", "files"} {
		if m, err := b.SendTest(t.Context(), name, "alice"); err != nil || m.Condition != Test {
			t.Errorf("%s: %v %v", name, m, err)
		}
	}
	if len(h.ids()) != 1 || len(names(t, dir)) != 0 {
		t.Errorf("%v %v", h.ids(), names(t, dir))
	}
	if _, err := b.SendTest(t.Context(), "off", "alice"); !fault.Is(err, fault.Unreachable) {
		t.Error(err)
	}
	if _, err := b.SendTest(t.Context(), "nobody", "alice"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	for name, want := range map[string]bool{"ops": true, "files": true, "off": false, "nobody": false} {
		if err := b.CheckDelivery([]string{name}); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range b.receivers {
		r.sender.close()
	}
}

func TestFell(t *testing.T) {
	b := newBench(t, nil)
	var got []bool
	for _, below := range []bool{false, true, true, false, true} {
		b.update(func(tx *ledger.Tx) error {
			fell, err := b.Fell(tx, "r", "ring", below)
			got = append(got, fell)
			return err
		})
	}
	if !slices.Equal(got, []bool{false, true, false, false, true}) {
		t.Errorf("%v", got)
	}
}

func TestPrune(t *testing.T) {
	h := newHook(t)
	b := newBench(t, []config.Receiver{h.receiver("ops"), h.receiver("old")}, config.Rule{On: []string{"pci_error"}, To: []string{"ops", "old"}})
	b.tell(alarm(1))
	b.cfg = &config.Notifications{Receivers: b.cfg.Receivers[:1]} // "old" is no receiver any more
	b.now = func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
	b.restart()
	if n, err := b.Prune(t.Context()); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	b.now = func() time.Time { return time.Now().Add(seenFor + 48*time.Hour) }
	if n, err := b.Prune(t.Context()); n != 2 || err != nil {
		t.Errorf("%d %v", n, err)
	}
}
