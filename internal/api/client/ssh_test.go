package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"capfleet/internal/childtest"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
)

// The test binary plays two other programs.
const (
	asFleetctl = "CLIENT_TEST_FLEETCTL" // fleetctl on the other host
	asWatcher  = "CLIENT_TEST_WATCHER"  // a fleetctl here that watches events
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asFleetctl) != "":
		server := os.Getenv(asFleetctl)
		if len(os.Args) == 4 && os.Args[1] == "proxy" && os.Args[2] == "--server" {
			server = os.Args[3]
		}
		if err := Proxy(context.Background(), server, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "fleetctl: %v\n", err)
			os.Exit(fault.KindOf(err).ExitCode())
		}
		os.Exit(0)
	case os.Getenv(asWatcher) != "":
		host, program, _ := strings.Cut(os.Getenv(asWatcher), " ")
		c := newClient(&sshServer{program: program, host: host, name: "ssh://" + host})
		for _, err := range c.Events(context.Background(), "", 0) {
			fmt.Println(err)
		}
		os.Exit(0)
	}
	leaktest.Main(m)
}

// far is a fleetd on a host that real OpenSSH leads to.
type far struct {
	sshd   *sshdtest.Server
	socket string
	dir    string
	open   chan struct{} // an event stream was opened
	ended  chan struct{} // and has ended
}

// host is the name that the ssh configuration here has for it.
const host = "capture-hub"

func newFar(t *testing.T, sshdConfig ...string) *far {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cf") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &far{dir: dir, socket: filepath.Join(dir, "it's a socket"), open: make(chan struct{}, 8), ended: make(chan struct{}, 8)}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"version":"far","socket":"`+f.socket+`"}`)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: 1\ndata: {\"seq\":1,\"job\":\"7\"}\n\n")
		_ = http.NewResponseController(w).Flush()
		f.open <- struct{}{}
		<-r.Context().Done()
		f.ended <- struct{}{}
	})
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-served })

	bin := filepath.Join(dir, "bin")
	f.script(t, "bin/fleetctl", fmt.Sprintf("%s='%s' exec '%s' \"$@\"", asFleetctl, f.defaultSocket(t), self(t)))
	f.sshd = sshdtest.Start(t, sshdtest.Options{Config: append(sshdConfig, "SetEnv PATH="+bin+":/usr/bin:/bin")})
	return f
}

// defaultSocket is where the fleetctl over there looks when nothing is said.
func (f *far) defaultSocket(t *testing.T) string {
	t.Helper()
	link := filepath.Join(f.dir, "default")
	if err := os.Symlink(f.socket, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *far) script(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	childtest.Executable(t, path, strings.NewReader("#!/bin/sh\n"+text+"\n"))
	return path
}

// ssh is the user's ssh with a configuration; what is set first wins.
func (f *far) ssh(t *testing.T, settings ...string) (program string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "ssh_config")
	text := strings.Join(settings, "\n") + fmt.Sprintf(`
Host %s
  HostName %s
  Port %d
Host *
  User %s
  IdentityFile %s
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile %s
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
`, host, f.sshd.Host, f.sshd.Port, f.sshd.User, f.sshd.ClientKey, f.sshd.KnownHosts)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f.script(t, "ssh-"+rest(config), "exec /usr/bin/ssh -F '"+config+"' \"$@\"")
}

// rest makes a name of a path that is different for each test.
func rest(path string) string { return strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "-") }

func (f *far) client(t *testing.T, server, program string) *Client {
	t.Helper()
	at, err := parse(server)
	if err != nil {
		t.Fatal(err)
	}
	at.(*sshServer).program = program
	c := newClient(at)
	t.Cleanup(c.Close)
	return c
}

func TestThroughSSH(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	program := f.ssh(t)
	for _, server := range []string{
		"ssh://" + host,
		"ssh://" + host + (&pathURL{f.socket}).String(),
		fmt.Sprintf("ssh://%s@%s:%d", f.sshd.User, f.sshd.Host, f.sshd.Port),
	} {
		c := f.client(t, server, program)
		v, err := c.Version(t.Context())
		if err != nil || v.Version != "far" {
			t.Errorf("%s: %+v %v", server, v, err)
		}
		if c.Server() != server {
			t.Errorf("it is called %s", c.Server())
		}
		// The same connection serves again.
		if _, err := c.Version(t.Context()); err != nil {
			t.Errorf("%s again: %v", server, err)
		}
		c.Close()
	}
	if peak := f.sshd.Peak(); peak > 2 {
		t.Errorf("%d connections at once for one request after another", peak)
	}
}

type pathURL struct{ path string }

func (p *pathURL) String() string {
	return strings.NewReplacer(" ", "%20").Replace(p.path)
}

// A jump host, and a far side whose login scripts talk.
func TestThroughSSHWithObstacles(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	jump := sshdtest.Start(t, sshdtest.Options{})
	known := sshdtest.KnownHosts(t, f.sshd, jump)
	inner := f.ssh(t, "UserKnownHostsFile "+known, "Host jump", "  Port "+strconv.Itoa(jump.Port), "  HostName "+jump.Host, "  IdentityFile "+jump.ClientKey)
	// ssh starts itself for the jump, without our -F: it is told by a ProxyCommand.
	program := f.script(t, "jumping", "exec '"+inner+"' -o \"ProxyCommand='"+inner+"' -W %h:%p jump\" \"$@\"")
	if v, err := f.client(t, "ssh://"+host, program).Version(t.Context()); err != nil || v.Version != "far" {
		t.Errorf("with a jump host: %+v %v", v, err)
	}
	if jump.Peak() != 1 {
		t.Errorf("the jump host saw %d connections", jump.Peak())
	}
	f.script(t, "bin/fleetctl", fmt.Sprintf("echo welcome; printf 'no newline \\033[31m'; seq 3000; printf half; %s='%s' exec '%s' \"$@\"", asFleetctl, filepath.Join(f.dir, "default"), self(t)))
	if v, err := f.client(t, "ssh://"+host, f.ssh(t)).Version(t.Context()); err != nil || v.Version != "far" {
		t.Errorf("with a talking login: %+v %v", v, err)
	}
}

func TestNotThroughSSH(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	other := sshdtest.Start(t, sshdtest.Options{})
	for name, tc := range map[string]struct {
		server  string
		program string
		says    []string
	}{
		"no ssh":       {"", "/nowhere/ssh", []string{"no program", "/nowhere/ssh", "install OpenSSH"}},
		"auth":         {"", f.ssh(t, "PubkeyAuthentication no"), []string{"Permission denied", "agent"}},
		"unknown key":  {"", f.ssh(t, "UserKnownHostsFile "+other.KnownHosts), []string{"host key is unknown or changed", "ssh " + host}},
		"no host":      {"ssh://127.0.0.1:1", f.ssh(t), []string{"Connection refused", "ssh -p 1 127.0.0.1"}},
		"no socket":    {"ssh://" + host + "/nowhere/s", f.ssh(t), []string{"on " + host + ": cannot reach fleetd at unix socket /nowhere/s: no such file"}},
		"not a fleetd": {"ssh://" + host + "/etc/passwd", f.ssh(t), []string{"on " + host, "/etc/passwd"}},
	} {
		server := tc.server
		if server == "" {
			server = "ssh://" + host
		}
		_, err := f.client(t, server, tc.program).Version(t.Context())
		checkUnavailable(t, name, server, err, tc.says...)
	}
}

// What the far side can be instead of a fleetctl that knows its part.
func TestFarSideWithoutFleetctl(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		script string
		says   []string
	}{
		"none":      {"", []string{"fleetctl is not found on " + host, "install it there"}},
		"older":     {`echo 'fleetctl: unknown command "proxy"' >&2; exit 4`, []string{`unknown command "proxy"`, "same version"}},
		"nologin":   {`echo 'This account is currently not available.'; exit 1`, []string{"not available"}},
		"flood":     {`yes`, []string{"ssh " + host}},
		"escapes":   {`printf 'fleetctl: \033[2Jred\n' >&2; exit 5`, []string{"[2Jred"}},
		"no word":   {`exit 3`, []string{"ended with 3 and no word"}},
		"long word": {`head -c 5000 /dev/zero | tr '\0' x >&2; exit 1`, []string{"xxx..."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFar(t)
			path := f.script(t, "bin/fleetctl", tc.script)
			if tc.script == "" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			_, err := f.client(t, "ssh://"+host, f.ssh(t)).Version(t.Context())
			checkUnavailable(t, name, "ssh://"+host, err, tc.says...)
		})
	}
}

func checkUnavailable(t *testing.T, name, server string, err error, says ...string) {
	t.Helper()
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("%s: %v (%s)", name, err, fault.KindOf(err))
		return
	}
	text := err.Error()
	for _, part := range append(says, "cannot reach fleetd at "+server) {
		if !strings.Contains(text, part) {
			t.Errorf("%s: %q lacks %q", name, text, part)
		}
	}
	if strings.ContainsAny(text, "\n\r\x1b") {
		t.Errorf("%s: %q is not one plain line", name, text)
	}
}

// A connection in use that is cut is told as such, and a stream is taken up again.
func TestSSHCut(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	c := f.client(t, "ssh://"+host, f.ssh(t))
	n := 0
	for ev, err := range c.Events(t.Context(), "", 0) {
		if err != nil || ev.Seq != 1 {
			t.Fatalf("%+v %v", ev, err)
		}
		<-f.open
		if n++; n == 3 {
			break
		}
		killSSH(t, f)
		<-f.ended
	}
	<-f.ended // leaving the loop ends the far side as well
}

// killSSH ends the ssh that leads to f, as a lost network does.
func killSSH(t *testing.T, f *far) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pgrep", "-f", "-x", ".*/usr/bin/ssh -F .* "+host+" fleetctl proxy").Output()
	if err != nil {
		t.Fatalf("no ssh is found: %v", err)
	}
	for _, pid := range strings.Fields(string(out)) {
		args, err := os.ReadFile("/proc/" + pid + "/cmdline")
		n, _ := strconv.Atoi(pid)
		parent, perr := parentOf(n)
		if err != nil || perr != nil || parent != os.Getpid() || !strings.Contains(string(args), "TestSSHCut") {
			continue
		}
		p, err := os.FindProcess(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	}
}

func parentOf(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return 0, errors.New("odd stat")
	}
	return strconv.Atoi(fields[1])
}

// mute is a host that takes connections and says nothing.
func mute(t *testing.T) (port string, taken <-chan net.Conn) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := ln.Accept(); err == nil {
			conns <- conn
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port), conns
}

// A dial ends with its context, and ssh with the dial.
func TestSSHDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	port, taken := mute(t)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	c := f.client(t, "ssh://127.0.0.1:"+port, f.ssh(t))
	go func() { _, err := c.Version(ctx); asked <- err }()
	conn := <-taken
	began := time.Now()
	cancel()
	if err := <-asked; !fault.Is(err, fault.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	_, _ = io.Copy(io.Discard, conn) // returns once ssh is gone
	_ = conn.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ssh was there for another %v", took)
	}
}

// No ssh is left when a fleetctl dies, whether it was connected or still trying.
func TestNoSSHIsLeft(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	port, taken := mute(t)
	watcher := func(where string, settings ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), self(t))
		cmd.Env = append(os.Environ(), asWatcher+"="+where+" "+f.ssh(t, settings...))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	connected := watcher(host)
	<-f.open
	if err := connected.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-f.ended
	_ = connected.Wait()

	trying := watcher("127.0.0.1", "Port "+port)
	conn := <-taken
	began := time.Now()
	if err := trying.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // returns once ssh is gone
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ssh was there for another %v", took) // its own ConnectTimeout ended it
	}
	_ = conn.Close()
	_ = trying.Wait()
}

func TestParseSSH(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]string{
		"ssh://h":                           "-- h fleetctl proxy",
		"ssh://h/":                          "-- h fleetctl proxy",
		"ssh://joe@h":                       "-l joe -- h fleetctl proxy",
		"ssh://joe@h:2222/run/fleetd/s":     "-l joe -p 2222 -- h fleetctl proxy --server '/run/fleetd/s'",
		"ssh://[2001:db8::1]:22":            "-p 22 -- 2001:db8::1 fleetctl proxy",
		"ssh://h/a'b$(c)":                   `-- h fleetctl proxy --server '/a'\''b$(c)'`,
		"ssh://":                            "",
		"ssh:///run/s":                      "",
		"ssh://-oProxyCommand=x":            "",
		"ssh://-l@h":                        "",
		"ssh://@h":                          "",
		"ssh://joe;id@h":                    "",
		"ssh://h$(id)":                      "",
		"ssh://joe:hunter2@h":               "",
		"ssh://h/a/../b":                    "",
		"ssh://h//a":                        "",
		"ssh://h/a%0Ab":                     "",
		"ssh://h?x=y":                       "",
		"ssh://h/s#x":                       "",
		"ssh://h:port":                      "",
		"ssh://h:99999999999999999999/run/": "",
	} {
		at, err := parse(server)
		if want == "" {
			if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v %v", server, at, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", server, err)
			continue
		}
		args := strings.Join(at.(*sshServer).args(), " ")
		if !strings.HasSuffix(args, "LogLevel=ERROR "+want) {
			t.Errorf("%s: %s", server, args)
		}
	}
}

// The far side alone, without ssh between.
func TestProxy(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- Proxy(t.Context(), f.socket, theirs, theirs) }()
	r := bufio.NewReader(ours)
	if line, err := r.ReadString('\n'); err != nil || line != "\n" {
		t.Fatalf("%q %v", line, err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != greeting+"\n" {
		t.Fatalf("%q %v", line, err)
	}
	_, _ = io.WriteString(ours, "GET /v1/version HTTP/1.0\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v %v", resp, err)
	}
	_ = ours.Close()
	// Which direction notices first is open; both mean that the other side has gone.
	if err := <-done; err != nil && !fault.Is(err, fault.Disconnected) {
		t.Errorf("got %v", err)
	}
	if err := Proxy(t.Context(), "ssh://"+host, strings.NewReader(""), io.Discard); !fault.Is(err, fault.Invalid) {
		t.Errorf("a far side that goes further: %v", err)
	}
}
