package sim_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestLoginMethods(t *testing.T) {
	f := startFleet(t, simOptions24())
	password := func(name string) ssh.AuthMethod { return ssh.Password(secretOf(t, f, name)) }
	interactive := func(name string) ssh.AuthMethod {
		return ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
			if len(questions) != 1 || questions[0] != "Password: " || echos[0] {
				return nil, errors.New("not the question that was expected")
			}
			return []string{secretOf(t, f, name)}, nil
		})
	}
	key := ssh.PublicKeys(clientKey(t, f))
	for _, c := range []struct {
		name, device, user string
		auth               ssh.AuthMethod
		ok                 bool
	}{
		{"password", "lon-probe-01", "fleet", password("endace"), true},
		{"interactive", "lon-probe-01", "fleet", interactive("endace"), true},
		{"key", "lon-probe-01", "fleet", key, true},
		{"another's password", "lon-probe-01", "fleet", password("f5-root"), false},
		{"unknown user", "lon-probe-01", "root", password("endace"), false},
		{"unknown user with the key", "lon-probe-01", "root", key, false},
		{"interactive only, password", "nyc-probe-01", "fleet", password("endace"), false},
		{"interactive only, key", "nyc-probe-01", "fleet", key, false},
		{"interactive only", "nyc-probe-01", "fleet", interactive("endace"), true},
		{"root", "nyc-ltm-01", "root", password("f5-root"), true},
		{"admin", "nyc-ltm-01", "admin", password("f5-admin"), true},
		{"linux", "lon-cap-01", "capture", password("linux"), true},
	} {
		config := clientConfig(t, f, c.user)
		config.Auth = []ssh.AuthMethod{c.auth}
		client, err := connect(info(t, f, c.device).Addr, config)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			_ = client.Close()
		}
	}
	order(t, f, "lon-probe-01", "auth_fail")
	if _, err := connect(info(t, f, "lon-probe-01").Addr, clientConfig(t, f, "fleet")); err == nil {
		t.Error("auth_fail lets the key in")
	}
	if !strings.Contains(journal(t, f), `"device":"nyc-probe-01","event":"login","detail":"user=fleet method=keyboard-interactive from=127.0.0.1:`) {
		t.Error("the journal lacks a login")
	}
}

func TestSessionLimit(t *testing.T) {
	f := startFleet(t, quick("lon-cap-01:session_limit=2"))
	for name, limit := range map[string]int{"lon-ltm-01": 10, "lon-cap-01": 2} {
		c := login(t, f, name)
		open := make([]*ssh.Session, 0, limit)
		for range limit {
			s, err := c.NewSession()
			if err != nil {
				t.Fatalf("%s: session %d: %v", name, len(open)+1, err)
			}
			open = append(open, s)
		}
		var refused *ssh.OpenChannelError
		if _, err := c.NewSession(); !errors.As(err, &refused) || refused.Reason != ssh.ConnectionFailed {
			t.Errorf("%s: session %d gives %v", name, limit+1, err)
		}
		if err := open[0].Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "room again", func() bool {
			s, err := c.NewSession()
			if err == nil {
				_ = s.Close()
			}
			return err == nil
		})
	}
}

func TestRequests(t *testing.T) {
	f := startFleet(t, quick())
	c := login(t, f, "lon-cap-01")
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); ok || err != nil {
		t.Errorf("keepalive: %v, %v", ok, err)
	}
	if ok, _, err := c.SendRequest("tcpip-forward", true, ssh.Marshal(struct {
		Host string
		Port uint32
	}{"0.0.0.0", 0})); ok || err != nil {
		t.Errorf("remote forwarding: %v, %v", ok, err)
	}
	if _, _, err := c.OpenChannel("x11", nil); err == nil {
		t.Error("an x11 channel is opened")
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Setenv("LC_ALL", "C.UTF-8"); err != nil {
		t.Error(err)
	}
	if err := s.Setenv("LD_PRELOAD", "x"); err == nil {
		t.Error("any variable can be set")
	}
	if err := s.RequestSubsystem("netconf"); err == nil {
		t.Error("a subsystem that is not there starts")
	}
	if ok, err := s.SendRequest("auth-agent-req@openssh.com", true, nil); ok || err != nil {
		t.Errorf("agent forwarding: %v, %v", ok, err)
	}
	out, err := s.Output("echo $LC_ALL$LD_PRELOAD")
	if string(out) != "C.UTF-8\n" || err != nil {
		t.Errorf("environment gives %q, %v", out, err)
	}

	s, err = c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("sleep 3600"); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) {
		t.Errorf("a signalled command ends with %v", err)
	}
}

// A command that runs ends when its channel, connection or device does.
func TestNothingOutlivesItsConnection(t *testing.T) {
	f := startFleet(t, quick())
	c := login(t, f, "lon-cap-01")
	for range 5 {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start("sleep 3600 & sleep 3600"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	x := openShell(t, login(t, f, "lon-probe-02"), 80, 24)
	x.expect(`> \z`)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	x.ended()
}

func TestBastion(t *testing.T) {
	f := startFleet(t, simOptions24())
	behind := info(t, f, "sgp-probe-01")
	if behind.Jump != "sgp-bastion" {
		t.Fatalf("sgp-probe-01 is behind %q", behind.Jump)
	}
	if _, err := connect(behind.Addr, clientConfig(t, f, "fleet")); err == nil {
		t.Error("a device behind a bastion can be reached directly")
	}
	bastion := login(t, f, "sgp-bastion")
	for _, addr := range []string{behind.Addr, strings.Replace(behind.Addr, "127.0.0.1", "localhost", 1)} {
		conn, err := bastion.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		inner, channels, requests, err := ssh.NewClientConn(conn, behind.Addr, clientConfig(t, f, "fleet"))
		if err != nil {
			t.Fatal(err)
		}
		c := ssh.NewClient(inner, channels, requests)
		x := openShell(t, c, 80, 24)
		x.expect(`sgp-probe-01 > \z`)
	}
	if !strings.Contains(journal(t, f), `"device":"sgp-probe-01","event":"login","detail":"user=fleet method=publickey from=sgp-bastion"`) {
		t.Error("the journal does not show a login through the bastion")
	}

	// Towards anything but the fleet, and through anything but a Linux host: no.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, addr := range []string{l.Addr().String(), "192.0.2.1:22", "localhost:1", "example.net:22"} {
		if _, err := bastion.Dial("tcp", addr); err == nil {
			t.Errorf("the bastion connects to %s", addr)
		}
	}
	if _, err := login(t, f, "lon-ltm-01").Dial("tcp", behind.Addr); err == nil {
		t.Error("a BIG-IP forwards")
	}
	order(t, f, "sgp-probe-01", "down")
	if _, err := bastion.Dial("tcp", behind.Addr); err == nil {
		t.Error("the bastion reaches a device that is down")
	}
}
