package tlsaudit_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/tlsaudit"
)

// background starts a program, and waits for a line on its output that matches.
func background(t *testing.T, output func(*exec.Cmd) (io.ReadCloser, error), line *regexp.Regexp, name string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // at its end a server hangs up
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan []string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(found)
		scanner := bufio.NewScanner(out)
		sent := false
		for scanner.Scan() {
			if m := line.FindStringSubmatch(scanner.Text()); m != nil && !sent {
				sent = true
				found <- m
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = cmd.Wait()
	})
	m, ok := <-found
	if !ok {
		t.Fatalf("%s %s ended", name, strings.Join(args, " "))
	}
	return m
}

// Handshakes of openssl in every version that it speaks, captured by tcpdump.
func TestRealHandshakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=test").CombinedOutput(); err != nil {
		t.Fatalf("openssl req: %v\n%s", err, out)
	}
	type handshake struct {
		server, client []string
		want           summary
		alert          uint8
		retried        bool
	}
	cases := map[string]handshake{
		"tls1.0":         {server: []string{"-tls1"}, client: []string{"-tls1"}, want: summary{Offered: "tls1.0", Negotiated: "tls1.0"}},
		"tls1.1":         {server: []string{"-tls1_1"}, client: []string{"-tls1_1"}, want: summary{Offered: "tls1.1", Negotiated: "tls1.1"}},
		"tls1.2":         {client: []string{"-tls1_2"}, want: summary{Offered: "tls1.2", Negotiated: "tls1.2"}},
		"tls1.3":         {client: []string{"-tls1_3"}, want: summary{Offered: "tls1.3", Negotiated: "tls1.3"}},
		"old server":     {server: []string{"-tls1"}, client: []string{"-min_protocol", "TLSv1"}, want: summary{Offered: "tls1.3", Negotiated: "tls1.0"}},
		"newer server":   {server: []string{"-tls1_2"}, want: summary{Offered: "tls1.3", Negotiated: "tls1.2"}},
		"server name":    {client: []string{"-servername", "www.example.net"}, want: summary{Offered: "tls1.3", Negotiated: "tls1.3", ServerName: "www.example.net"}},
		"retry":          {server: []string{"-groups", "P-384"}, client: []string{"-groups", "X25519:P-384"}, want: summary{Offered: "tls1.3", Negotiated: "tls1.3"}, retried: true},
		"refused":        {server: []string{"-tls1_3"}, client: []string{"-tls1_2"}, want: summary{Offered: "tls1.2"}, alert: 70},
		"refused tls1.0": {server: []string{"-tls1_2"}, client: []string{"-tls1"}, want: summary{Offered: "tls1.0"}, alert: 70},
	}
	servers, ports := map[uint16]string{}, map[string]uint16{}
	var filter []string
	for name, c := range cases {
		args := append([]string{"s_server", "-accept", "127.0.0.1:0", "-key", key, "-cert", cert, "-cipher", "ALL:@SECLEVEL=0", "-naccept", "1"}, c.server...)
		m := background(t, (*exec.Cmd).StdoutPipe, regexp.MustCompile(`^ACCEPT .*:(\d+)$`), "openssl", args...)
		port, err := strconv.ParseUint(m[1], 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		servers[uint16(port)], ports[name] = name, uint16(port)
		filter = append(filter, "tcp port "+m[1])
	}
	path := filepath.Join(dir, "lo.pcap")
	tcpdump, args := "tcpdump", []string{"-Z", "root"}
	if os.Geteuid() != 0 {
		tcpdump, args = "sudo", []string{"-n", "tcpdump", "-Z", strconv.Itoa(os.Geteuid())}
	}
	args = append(args, "-i", "lo", "-U", "--immediate-mode", "-w", path, strings.Join(filter, " or "))
	background(t, (*exec.Cmd).StderrPipe, regexp.MustCompile("listening on"), tcpdump, args...)
	for name, c := range cases {
		args := append([]string{"s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", ports[name]), "-cipher", "ALL:@SECLEVEL=0"}, c.client...)
		if c.want.ServerName == "" {
			args = append(args, "-noservername")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		out, err := exec.CommandContext(ctx, "openssl", args...).CombinedOutput()
		cancel()
		if (err != nil) != (c.alert != 0) {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	got := map[string]tlsaudit.Session{}
	waitFor(t, func() bool {
		clear(got)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		a := tlsaudit.New(func(s *tlsaudit.Session) {
			if name := servers[s.Server.Port()]; name != "" {
				got[name] = *s
			}
		})
		_, _ = pcap.Scan(context.Background(), bytes.NewReader(content), pcap.ReaderOptions{}, a) // it may end in a record that is being written
		a.Close()
		for name, c := range cases {
			if s, ok := got[name]; !ok || !s.HasNegotiated && !s.HasAlert || c.alert != 0 && !s.HasAlert {
				return false
			}
		}
		return true
	})
	for name, c := range cases {
		s := got[name]
		have := summaries([]tlsaudit.Session{s})[s.Client]
		have.Client, have.Server = c.want.Client, c.want.Server
		if have != c.want || s.Alert != c.alert || s.Retried != c.retried || s.Truncated || s.Gap {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come to that within two minutes")
		}
	}
}
