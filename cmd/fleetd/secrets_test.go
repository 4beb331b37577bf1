package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"capfleet/internal/api"
	"capfleet/internal/childtest"
	"capfleet/internal/sim"
)

// passphraseVariable is where the operator puts the key's passphrase: fleetd's own
// environment.
const passphraseVariable = "FLEET_TEST_PASSPHRASE"

// scene is a simulated fleet whose inventory takes every secret from another kind of
// place, and the fleetd and fleetctl that work with it.
type scene struct {
	t         *testing.T
	dir       string // fleetd's: socket and state
	vault     string // the operator's: all secrets
	fleet     *sim.Fleet
	inventory string
	fleetctl  string
	canaries  canaries
	evidence  evidence
	fleetd    *process
	recipient age.Recipient
}

// TestSecretsStayWhereTheyAre takes the real programs through success and all sorts
// of failure and then looks for every secret in everything that they let out.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	s := newScene(t)
	s.start("--log-format", "json")

	s.ctl(0, "report", "filesystem", "--all", "-o", "json")
	s.ctl(0, "report", "software", "--all")
	s.ctl(-1, "device", "check", "--all")
	s.ctl(0, "command", "run", "lon-probe-01", "--", "show", "version")
	s.ctl(0, "device", "record", "lon-probe-01", "--", "show", "version")
	s.ctl(0, "device", "trust", "lon-probe-01", "--yes")

	for _, order := range []struct{ device, fault, kind string }{
		{"lon-probe-01", "auth_fail", "auth"},
		{"lon-probe-02", "enable_password", ""}, // the age file has it
		{"lon-probe-03", "flood=2MB", "unparsed"},
		{"lon-probe-04", "garbled", "unparsed"},
		{"lon-probe-05", "refuse_command", "refused"},
		{"lon-cap-01", "host_key_changed", "host_key"},
		{"nyc-probe-01", "banner", ""},
		{"nyc-probe-03", "auth_fail", "auth"},
		{"nyc-probe-04", "takeover", ""},
		{"nyc-probe-05", "split_escapes", ""},
		{"nyc-cap-01", "auth_fail", "auth"},
	} {
		if err := s.fleet.Order(order.device, order.fault); err != nil {
			t.Fatal(err)
		}
		s.report(order.device, order.kind)
	}
	s.ctl(-1, "device", "check", "--all")

	// What a command or age gave is remembered for a moment; a new fleetd asks anew.
	// The enable password is a wrong one.
	s.seal("enable", s.canaries["wrong enable password"])
	s.restart()
	s.report("lon-probe-02", "auth")
	// The command prints the secret, complains about it and fails.
	s.write("fail", "now")
	s.restart()
	s.report("nyc-probe-01", "invalid")
	s.write("fail", "")
	// A key that ends early, an age identity that does, a file that is not there.
	key, err := os.ReadFile(filepath.Join(s.vault, "key"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("key", string(key[:len(key)/2]))
	s.report("lon-ltm-01", "invalid")
	s.write("identity", string(s.canaries["age identity"][:40]))
	s.restart()
	s.report("lon-probe-02", "auth")
	if err := os.Rename(filepath.Join(s.vault, "f5-admin"), filepath.Join(s.vault, "gone")); err != nil {
		t.Fatal(err)
	}
	s.report("nyc-ltm-01", "invalid")
	s.ctl(-1, "doctor")
	if err := os.Rename(filepath.Join(s.vault, "gone"), filepath.Join(s.vault, "f5-admin")); err != nil {
		t.Fatal(err)
	}
	s.write("key", string(key))

	// Killed with work that hangs; the next fleetd takes it up, and it is cancelled.
	for device, fault := range map[string]string{"lon-ltm-01": "hang_command", "nyc-probe-02": "mute_after_login"} {
		if err := s.fleet.Order(device, fault); err != nil {
			t.Fatal(err)
		}
	}
	job := s.submit("lon-ltm-01", "nyc-probe-02", "lon-ltm-02")
	s.await(job, "task_step")
	s.processes()
	s.stop(syscall.SIGKILL)
	s.start("--log-format", "text")
	s.await(job, "task_step")
	s.processes()
	s.ctl(-1, "job", "cancel", job)
	s.fleetd.wait(job, nil)

	s.ctl(-1, "device", "list")
	s.ctl(-1, "device", "show", "--all")
	s.ctl(0, "job", "list")
	s.ctl(0, "audit")
	s.ctl(0, "artifact", "list")
	s.ctl(0, "schedule", "add", "nightly", "--cron", "0 6 * * *", "--", "report", "filesystem", "--all")
	s.ctl(4, "report", "filesystem", "nobody")
	s.routes()
	if err := s.fleetd.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.fleetd.logged("inventory reloaded")
	s.stop(syscall.SIGTERM)
	s.evidence.files(t, s.dir)
	s.evidence.files(t, filepath.Join(s.vault, "seen")) // what the command found around itself

	s.expect("backups/", "ledger", "artifacts/", "GET /v1/jobs", "/journal", "/events", "seen/", "/proc/", "fleetd log")
	for _, where := range slices.Sorted(maps.Keys(s.evidence)) {
		for _, leak := range s.canaries.leaks(s.evidence[where]) {
			t.Errorf("%s: %s", where, leak)
		}
	}
	s.deviceText()
}

func newScene(t *testing.T) *scene {
	t.Helper()
	dir := place(t)
	s := &scene{t: t, dir: dir, vault: place(t), fleet: fleet(t, sim.Options{Devices: 16}), evidence: evidence{}, canaries: canaries{}}
	s.fleetctl = filepath.Join(s.vault, "fleetctl")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", s.fleetctl, "capfleet/cmd/fleetctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Mkdir(filepath.Join(s.vault, "seen"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"endace", "endace-enable", "f5-admin"} {
		raw, err := os.ReadFile(filepath.Join(s.fleet.Dir(), "secrets", name))
		if err != nil {
			t.Fatal(err)
		}
		s.write(name, string(raw))
		s.canaries[name+" password"] = bytes.TrimSpace(raw)
	}
	s.canaries["enable password"] = s.canaries["endace-enable password"]
	delete(s.canaries, "endace-enable password")
	s.canaries["wrong enable password"] = []byte("canary-wrong/enable+word=&<\"\\é")
	s.canaries["key's passphrase"] = []byte("canary-pass/phrase+of=the&<key>\"\\é")
	s.canaries["secret's complaint"] = []byte("canary-complaint-about-a-secret")
	t.Setenv(passphraseVariable, string(s.canaries["key's passphrase"]))

	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s.recipient = identity.Recipient()
	s.canaries["age identity"] = []byte(identity.String())
	s.write("identity", identity.String()+"\n")
	s.seal("enable", s.canaries["enable password"])
	s.lockKey()

	// The command notes what it can see, so that this can be searched too.
	s.write("fail", "")
	give := filepath.Join(s.vault, "give")
	script := fmt.Sprintf(`#!/bin/sh
cat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/cmdline > %[1]s/seen/$$
cat %[1]s/endace
if [ -s %[1]s/fail ]; then cat %[1]s/endace >&2; echo %[2]s >&2; exit 1; fi
`, s.vault, s.canaries["secret's complaint"])
	childtest.Executable(t, give, strings.NewReader(script))
	s.rewriteInventory(give)
	return s
}

// lockKey puts the fleet's key, encrypted with the passphrase, into the vault.
func (s *scene) lockKey() {
	s.t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.fleet.Dir(), "id_ed25519"))
	if err != nil {
		s.t.Fatal(err)
	}
	parsed, err := ssh.ParseRawPrivateKey(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	key, ok := parsed.(*ed25519.PrivateKey)
	if !ok {
		s.t.Fatalf("the fleet's key is a %T", parsed)
	}
	s.canaries["private key"] = key.Seed()
	block, err := ssh.MarshalPrivateKeyWithPassphrase(*key, "canary", s.canaries["key's passphrase"])
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("key", string(pem.EncodeToMemory(block)))
	s.canaries["encrypted key"] = block.Bytes[len(block.Bytes)-64:]
}

// rewriteInventory makes each credential come from another place.
func (s *scene) rewriteInventory(give string) {
	s.t.Helper()
	raw, err := os.ReadFile(s.fleet.Inventory())
	if err != nil {
		s.t.Fatal(err)
	}
	text := string(raw)
	for from, to := range map[string]string{
		"{file: secrets/endace}":        "{command: [" + give + "]}",
		"{file: secrets/endace-enable}": fmt.Sprintf("{age: {file: %[1]s/enable, identity: %[1]s/identity}}", s.vault),
		"{file: secrets/f5-admin}":      "{file: " + s.vault + "/f5-admin}",
		"{file: id_ed25519}":            fmt.Sprintf("{file: %s/key}, passphrase: {env: %s}", s.vault, passphraseVariable),
		"known_hosts: known_hosts":      "known_hosts: " + s.fleet.Dir() + "/known_hosts",
	} {
		if !strings.Contains(text, from) {
			s.t.Fatalf("the simulator's inventory has no %s:\n%s", from, text)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	s.write("inventory.yaml", text)
	s.inventory = filepath.Join(s.vault, "inventory.yaml")
}

func (s *scene) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.vault, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) seal(name string, secret []byte) {
	s.t.Helper()
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, s.recipient)
	if err == nil {
		_, err = w.Write(secret)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(name, sealed.String())
}

func (s *scene) start(args ...string) {
	s.t.Helper()
	s.fleetd = start(s.t, s.dir, s.inventory, append([]string{"--log-level", "debug", "--backup-dir", filepath.Join(s.dir, "backups"), "--backup-interval", "1m"}, args...)...)
}

func (s *scene) stop(sig syscall.Signal) {
	s.t.Helper()
	code, _, log := s.fleetd.end(sig)
	if code != 0 && sig != syscall.SIGKILL {
		s.t.Errorf("fleetd ended with %d", code)
	}
	s.evidence.add("fleetd log", []byte(log))
}

func (s *scene) restart() {
	s.t.Helper()
	s.stop(syscall.SIGTERM)
	s.start("--log-format", "json")
}

// ctl runs fleetctl and gives what it printed. The passphrase is in fleetd's
// environment alone. A code of -1 stands for any.
func (s *scene) ctl(code int, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.fleetctl, args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, passphraseVariable+"=") }),
		"FLEET_SERVER="+s.fleetd.socket, "HOME="+s.vault)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("fleetctl %q: %v", args, err)
	}
	if got := cmd.ProcessState.ExitCode(); code >= 0 && got != code {
		s.t.Errorf("fleetctl %q: exit code %d, want %d\n%s", args, got, code, out)
	}
	s.evidence.add("fleetctl "+strings.Join(args, " "), out)
	return string(out)
}

// report runs a report on one device, which ends with a failure of the kind, or well.
func (s *scene) report(device, kind string) {
	s.t.Helper()
	if kind == "" {
		s.ctl(0, "report", "filesystem", device, "-o", "json")
		return
	}
	if out := s.ctl(1, "report", "filesystem", device, "-o", "json"); !strings.Contains(out, `"kind": "`+kind+`"`) {
		s.t.Errorf("%s: nothing fails as %q:\n%s", device, kind, out)
	}
}

func (s *scene) submit(devices ...string) (job string) {
	s.t.Helper()
	j, err := s.fleetd.client.Submit(s.t.Context(), api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"filesystem"}`), Selection: api.Selection{Names: devices}})
	if err != nil {
		s.t.Fatal(err)
	}
	return j.ID
}

// await follows a job up to an event of the type.
func (s *scene) await(job, event string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for ev, err := range s.fleetd.client.Events(ctx, job, 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		if ev.Type == event {
			return
		}
	}
	s.t.Fatalf("job %s ended without %s", job, event)
}

// processes adds the command lines of all processes, and the environments of those
// that fleetd started.
func (s *scene) processes() {
	s.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		s.t.Fatalf("no processes: %v", err)
	}
	for _, file := range lines {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		s.evidence.add(file, raw)
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(file), "stat"))
		if err != nil {
			continue
		}
		// man 5 proc: the parent is the second field behind the name in brackets.
		if fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(fields) > 1 && fields[1] == fmt.Sprint(s.fleetd.cmd.Process.Pid) {
			env, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "environ"))
			s.evidence.add(filepath.Join(filepath.Dir(file), "environ"), env)
		}
	}
}

// routes asks every GET route about every job, device and artifact.
func (s *scene) routes() {
	s.t.Helper()
	hc := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.fleetd.socket)
	}}}
	defer hc.CloseIdleConnections()
	get := func(path string) []byte {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
		if strings.HasPrefix(path, "/v1/events") {
			ctx, cancel = context.WithTimeout(s.t.Context(), 500*time.Millisecond) // it does not end by itself
		}
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://fleetd"+path, http.NoBody)
		if err != nil {
			s.t.Fatal(err)
		}
		res, err := hc.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		raw, err := io.ReadAll(res.Body)
		want := http.StatusOK
		if strings.HasSuffix(path, "/stream") {
			want = http.StatusUnprocessableEntity // none of the jobs is a capture
		}
		if res.StatusCode != want || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			s.t.Errorf("GET %s: %d %v: %.300s", path, res.StatusCode, err, raw)
		}
		s.evidence.add("GET "+path, raw)
		return raw
	}
	var doc struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(get("/openapi.json"), &doc); err != nil {
		s.t.Fatal(err)
	}
	get("/metrics")
	ids := func(path, key string) (out []string) {
		var list struct{ Rows []map[string]any }
		if err := json.Unmarshal(get(path), &list); err != nil {
			s.t.Fatal(err)
		}
		for _, row := range list.Rows {
			out = append(out, fmt.Sprint(row[key]))
		}
		if len(out) == 0 {
			s.t.Fatalf("GET %s gives nothing", path)
		}
		return out
	}
	jobs, devices, artifacts := ids("/v1/jobs?limit=1000", "id"), ids("/v1/devices", "name"), ids("/v1/artifacts", "sha256")
	schedules := ids("/v1/schedules", "name")
	for path, methods := range doc.Paths {
		if methods["get"] == nil {
			continue
		}
		fill := func(name string, values []string) {
			for _, v := range values {
				get(strings.ReplaceAll(path, name, url.PathEscape(v)))
			}
		}
		switch {
		case strings.HasSuffix(path, "/journal"):
			for _, job := range jobs {
				tasks := "/v1/jobs/" + job + "/tasks"
				for _, device := range ids(tasks, "device") {
					get("/v1/jobs/" + job + "/journal?device=" + url.QueryEscape(device))
				}
			}
		case strings.Contains(path, "{id}"):
			fill("{id}", jobs)
		case strings.HasPrefix(path, "/v1/schedules/{name}"):
			fill("{name}", schedules)
		case strings.Contains(path, "{name}"):
			fill("{name}", devices)
		case strings.Contains(path, "{sha256}"):
			fill("{sha256}", artifacts)
		case strings.Contains(path, "{platform}"):
			get("/v1/templates/endace_osm/filesystem")
		case strings.Contains(path, "{"):
			s.t.Errorf("nothing is known to ask %s about", path)
		default:
			get(path)
		}
	}
}

// expect makes sure that the evidence has what was to be searched.
func (s *scene) expect(parts ...string) {
	s.t.Helper()
	for _, part := range parts {
		n := 0
		for where, text := range s.evidence {
			if strings.Contains(where, part) && len(text) > 0 {
				n++
			}
		}
		if n == 0 {
			s.t.Errorf("no evidence from %s", part)
		}
	}
}

// deviceText makes sure that what devices printed is in no log above debug: it would
// fill the disk of whoever keeps the log, and lie to whoever reads it.
func (s *scene) deviceText() {
	s.t.Helper()
	lines := map[string]bool{}
	for where, text := range s.evidence {
		if !strings.Contains(where, "/artifacts/") {
			continue
		}
		for line := range bytes.Lines(text[bytes.IndexByte(text, '\n')+1:]) {
			if line := string(bytes.TrimSpace(line)); len(line) >= 16 && len(lines) < 2000 {
				lines[line] = true
			}
		}
	}
	lines["% Unrecognized command"] = true // what a refused command gets
	if len(lines) < 5 {
		s.t.Fatalf("no device text to look for: %q", slices.Sorted(maps.Keys(lines)))
	}
	for where, text := range s.evidence {
		if !strings.HasPrefix(where, "fleetd log") {
			continue
		}
		seen := false
		for record := range strings.Lines(string(text)) {
			if strings.Contains(record, "level=DEBUG") || strings.Contains(record, `"level":"DEBUG"`) {
				seen = true
				continue
			}
			for line := range lines {
				if strings.Contains(record, line) || strings.ContainsAny(record, "\x1b\x00") {
					s.t.Errorf("%s: device text %q in %s", where, line, record)
				}
			}
		}
		if !seen {
			s.t.Errorf("%s: nothing at debug level", where)
		}
	}
}
