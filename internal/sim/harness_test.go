package sim_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"capfleet/internal/leaktest"
	"capfleet/internal/sim"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience bounds every wait for a device.
const patience = time.Minute

func startFleet(t *testing.T, opts sim.Options) *sim.Fleet {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	f, err := sim.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close fleet: %v", err)
		}
	})
	return f
}

func order(t *testing.T, f *sim.Fleet, device, what string) {
	t.Helper()
	if err := f.Order(device, what); err != nil {
		t.Fatal(err)
	}
}

func info(t *testing.T, f *sim.Fleet, name string) sim.DeviceInfo {
	t.Helper()
	for _, d := range f.Devices() {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no device %s", name)
	return sim.DeviceInfo{}
}

func secretOf(t *testing.T, f *sim.Fleet, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.Dir(), "secrets", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func clientKey(t *testing.T, f *sim.Fleet) ssh.Signer {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.Dir(), "id_ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.ParsePrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// clientConfig logs in with the fleet's key and checks the host key.
func clientConfig(t *testing.T, f *sim.Fleet, user string) *ssh.ClientConfig {
	t.Helper()
	check, err := knownhosts.New(filepath.Join(f.Dir(), "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	return &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(clientKey(t, f))},
		HostKeyCallback: check, HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: patience}
}

func connect(addr string, config *ssh.ClientConfig) (*ssh.Client, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// login connects to a device as the inventory's user, or another one.
func login(t *testing.T, f *sim.Fleet, name string, user ...string) *ssh.Client {
	t.Helper()
	d := info(t, f, name)
	as := d.Username
	if len(user) > 0 {
		as = user[0]
	}
	c, err := connect(d.Addr, clientConfig(t, f, as))
	if err != nil {
		t.Fatalf("log in to %s: %v", name, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// terminal is an interactive session as a person has it.
type terminal struct {
	t    *testing.T
	in   io.Writer
	sess *ssh.Session
	out  chan []byte
	seen bytes.Buffer
}

func openShell(t *testing.T, c *ssh.Client, cols, rows int) *terminal {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if cols > 0 {
		if err := s.RequestPty("vt100", rows, cols, ssh.TerminalModes{}); err != nil {
			t.Fatal(err)
		}
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, in: in, sess: s, out: make(chan []byte, 64)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(x.out)
		for {
			b := make([]byte, 32<<10)
			n, err := out.Read(b)
			if n > 0 {
				x.out <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.Close()
		for range x.out {
		}
		<-done
	})
	return x
}

// expect reads until pattern matches and gives what was read up to its end.
func (x *terminal) expect(pattern string) string {
	x.t.Helper()
	expr := regexp.MustCompile(pattern)
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		if loc := expr.FindIndex(x.seen.Bytes()); loc != nil {
			got := string(x.seen.Next(loc[1]))
			return got
		}
		select {
		case b, ok := <-x.out:
			if !ok {
				x.t.Fatalf("session ended while waiting for %q; got %q", pattern, x.seen.String())
			}
			x.seen.Write(b)
		case <-limit.C:
			x.t.Fatalf("no %q; got %q", pattern, x.seen.String())
		}
	}
}

// ended waits for the session's end and gives what came before it.
func (x *terminal) ended() string {
	x.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case b, ok := <-x.out:
			if !ok {
				return x.seen.String()
			}
			x.seen.Write(b)
		case <-limit.C:
			x.t.Fatalf("session does not end; got %q", x.seen.String())
		}
	}
}

func (x *terminal) send(text string) {
	x.t.Helper()
	if _, err := io.WriteString(x.in, text); err != nil {
		x.t.Fatalf("type %q: %v", text, err)
	}
}

// do types a line and gives what came before the prompt that ends the answer.
func (x *terminal) do(line, prompt string) string {
	x.t.Helper()
	x.send(line + "\r")
	end := regexp.QuoteMeta(prompt) + `\z`
	got := x.expect(end)
	got = strings.TrimSuffix(got, prompt)
	return strings.TrimPrefix(got, line+"\r\n")
}

// execute runs a command over exec.
func execute(t *testing.T, c *ssh.Client, line string) (stdout, stderr string, status int) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr = &out, &errs
	var exit *ssh.ExitError
	if err := s.Run(line); errors.As(err, &exit) {
		status = exit.ExitStatus()
	} else if err != nil {
		t.Fatalf("run %q: %v", line, err)
	}
	return out.String(), errs.String(), status
}

// eventually polls a condition that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

func journal(t *testing.T, f *sim.Fleet) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.Dir(), "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func quick(faults ...string) sim.Options {
	return sim.Options{Devices: 8, Faults: append([]string{"*:boot_time=20ms", "*:settle_time=0s"}, faults...)}
}
