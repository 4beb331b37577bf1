package sshconn_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
)

func TestJumpThroughRealSSHD(t *testing.T) {
	outer, inner := sshdtest.Start(t, sshdtest.Options{}), sshdtest.Start(t, sshdtest.Options{})
	target := sshdtest.Start(t, sshdtest.Options{Config: boxConfig(t)})
	dev := target.Device("probe")
	dev.Jump = []device.Hop{outer.Hop("bastion"), inner.Hop("site-gw")}
	dev.KnownHosts = sshdtest.KnownHosts(t, outer, inner, target)
	d := newDialer(t, sshconn.Options{HopIdle: -1})

	var wg sync.WaitGroup
	gate := make(chan struct{})
	var open atomic.Int32
	const devices = 12
	for i := range devices {
		wg.Go(func() {
			conn, err := d.Dial(t.Context(), dev)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			res, err := conn.Exec(t.Context(), device.ExecRequest{Raw: fmt.Sprintf("echo %d; head -c 1000000 /dev/zero | wc -c", i)})
			if want := fmt.Sprintf("%d\n1000000\n", i); err != nil || string(res.Stdout) != want {
				t.Errorf("%q, %v", res.Stdout, err)
			}
			if a := conn.Facts().LocalAddress; a != "" {
				t.Errorf("local address %q behind a jump host", a)
			}
			if open.Add(1) == devices {
				close(gate)
			}
			<-gate // all are open at once
		})
	}
	wg.Wait()
	if o, i := outer.Peak(), inner.Peak(); o != 1 || i != 1 {
		t.Errorf("%d connections to the first hop and %d to the second, want one each", o, i)
	}
	// With the last device gone the hops are left.
	eventually(t, "the hops are closed", func() bool { return outer.Conns() == 0 && inner.Conns() == 0 && target.Conns() == 0 })

	conn := dial(t, d, dev)
	sh, err := conn.Shell(t.Context(), linuxDefinition(t))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := sh.Run(t.Context(), device.Command{Line: "echo through two"}); err != nil || out.Text != "through two\n" {
		t.Errorf("%q, %v", out.Text, err)
	}
	soon(t, 100*time.Millisecond, "closing through hops", func() { _ = conn.Close() })
}

func TestJumpFailuresNameTheHop(t *testing.T) {
	bastion, target := newServer(t).start(t), newServer(t).start(t)
	wrong, targetOnly, bastionOnly := passwordOf(t, "wrong"), target.knownHosts(t), bastion.knownHosts(t)
	tests := map[string]struct {
		change func(*device.Device)
		kind   fault.Kind
		stage  string
		text   []string
	}{
		"password refused": {func(d *device.Device) { d.Jump[0].Credentials = wrong },
			fault.Auth, "jump", []string{"connect to probe-1: connect to jump host lon-bastion: user fleet", "asked again after 1m0s"}},
		"unknown host key": {func(d *device.Device) { d.KnownHosts = targetOnly },
			fault.HostKey, "jump", []string{"jump host lon-bastion", "fleetctl device trust lon-bastion"}},
		"unknown host key of a hop that is no device": {func(d *device.Device) {
			d.KnownHosts = targetOnly
			d.Jump[0].Name = "fleet@127.0.0.1:22"
		}, fault.HostKey, "jump", []string{"jump host fleet@127.0.0.1:22", "then add its key to"}},
		"secret missing": {func(d *device.Device) { d.Jump[0].Credentials.Password.File = "/nonexistent/pw" },
			fault.Invalid, "jump", []string{"jump host lon-bastion", "/nonexistent/pw"}},
		"hop down": {func(d *device.Device) { d.Jump[0].Port = 1 },
			fault.Unreachable, "jump", []string{"jump host lon-bastion", "refused"}},
		"device down behind it": {func(d *device.Device) { d.Port = 1 },
			fault.Unreachable, "jump", []string{"connect to probe-1: jump host lon-bastion: no connection to 127.0.0.1:1"}},
		"device's own password": {func(d *device.Device) { d.Credentials = wrong },
			fault.Auth, "auth", []string{"connect to probe-1: user fleet"}},
		"device's own secret": {func(d *device.Device) { d.Credentials.Password.File = "/nonexistent/pw" },
			fault.Invalid, "credentials", []string{"connect to probe-1: credentials default"}},
		"device's own host key": {func(d *device.Device) { d.KnownHosts = bastionOnly },
			fault.HostKey, "host_key", []string{"fleetctl device trust probe-1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dev := hopped(t, bastion, target)
			tt.change(dev)
			_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
			wantFault(t, err, tt.kind, tt.stage, tt.text...)
			var f *fault.Error
			if !errors.As(err, &f) || f.Device != "probe-1" {
				t.Errorf("the error does not belong to the device: %+v", f)
			}
		})
	}
	t.Run("forwarding is not allowed", func(t *testing.T) {
		strict := sshdtest.Start(t, sshdtest.Options{Config: []string{"AllowTcpForwarding no"}})
		dev := target.device(t, "probe-1")
		dev.Jump = []device.Hop{strict.Hop("lon-bastion")}
		own, err := os.ReadFile(dev.KnownHosts)
		if err != nil {
			t.Fatal(err)
		}
		hop, err := os.ReadFile(strict.KnownHosts)
		if err != nil {
			t.Fatal(err)
		}
		dev.KnownHosts = fileOf(t, "known_hosts", string(own)+string(hop))
		_, err = newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
		wantFault(t, err, fault.Refused, "jump", "AllowTcpForwarding")
	})
}

// hopped is a device behind a jump host, both of them servers of the test.
func hopped(t *testing.T, bastion, target *server) *device.Device {
	t.Helper()
	dev, b := target.device(t, "probe-1"), bastion.device(t, "bastion")
	dev.Jump = []device.Hop{{Name: "lon-bastion", Host: b.Host, Port: b.Port, Credentials: b.Credentials, SSH: b.SSH}}
	var lines []byte
	for _, path := range []string{dev.KnownHosts, b.KnownHosts} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, raw...)
	}
	dev.KnownHosts = fileOf(t, "known_hosts", string(lines))
	return dev
}

func TestRefusedJumpHostIsAskedOnce(t *testing.T) {
	bastion, target := newServer(t).start(t), newServer(t).start(t)
	dev := hopped(t, bastion, target)
	dev.Jump[0].Credentials = passwordOf(t, "wrong")
	d := newDialer(t, sshconn.Options{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			_, err := d.Dial(t.Context(), dev)
			wantFault(t, err, fault.Auth, "jump")
		})
	}
	wg.Wait()
	_, err := d.Dial(t.Context(), dev)
	wantFault(t, err, fault.Auth, "jump")
	if got := bastion.tried(); len(got) != 1 {
		t.Errorf("the bastion saw %d logins: %v", len(got), got)
	}
	// Other credentials are another connection.
	dev.Jump[0].Credentials = passwordOf(t, "correct")
	dial(t, d, dev)
}

func TestSharedHopOutlivesItsFirstDevice(t *testing.T) {
	bastion, target := newServer(t), newServer(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	password := bastion.config.PasswordCallback
	bastion.config.PasswordCallback = func(c ssh.ConnMetadata, pw []byte) (*ssh.Permissions, error) {
		once.Do(func() { close(entered) })
		<-release
		return password(c, pw)
	}
	bastion.start(t)
	dev := hopped(t, bastion, target.start(t))
	d := newDialer(t, sshconn.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := d.Dial(ctx, dev)
		first <- err
	}()
	<-entered
	go func() {
		conn, err := d.Dial(t.Context(), dev)
		if err == nil {
			err = conn.Close()
		}
		second <- err
	}()
	cancel()
	soon(t, 100*time.Millisecond, "leaving a hop that is being dialled", func() { wantFault(t, <-first, fault.Canceled, "jump") })
	close(release)
	if err := <-second; err != nil {
		// The second may have come after the first had given up; then it dialled anew.
		t.Errorf("the device that stayed: %v", err)
	}
}

func TestLostHop(t *testing.T) {
	bastion, target := newServer(t), newServer(t)
	target.session = func(s *serverSession) {
		_, _ = s.Write([]byte("started"))
		<-t.Context().Done()
	}
	dev := hopped(t, bastion.start(t), target.start(t))
	d := newDialer(t, sshconn.Options{})
	conn := dial(t, d, dev)
	started := &firstWrite{seen: make(chan struct{})}
	result := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"x"}, Stdout: started})
		result <- err
	}()
	<-started.seen
	bastion.hangUp()
	err := <-result
	wantFault(t, err, fault.Disconnected, "command")
	eventually(t, "the error names the hop", func() bool {
		_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"x"}})
		return strings.Contains(err.Error(), "jump host lon-bastion")
	})
	// The next device gets a new connection to the hop.
	dial(t, d, dev)
	if n := bastion.dialled(); n != 2 {
		t.Errorf("the bastion was dialled %d times", n)
	}
}

func TestDialerCloseEndsHops(t *testing.T) {
	bastion, target := newServer(t).start(t), newServer(t).start(t)
	dev := hopped(t, bastion, target)
	d := sshconn.NewDialer(sshconn.Options{})
	conn := dial(t, d, dev)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if n := bastion.open(); n != 1 {
		t.Errorf("%d connections to an idle hop", n)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the hop is closed", func() bool { return bastion.open() == 0 })
	_, err := d.Dial(t.Context(), dev)
	wantFault(t, err, fault.Disconnected, "jump", "the dialer is closed")
}

func TestMuteDeviceBehindAHop(t *testing.T) {
	bastion, target := newServer(t).start(t), newServer(t)
	target.wire = mute
	dev := hopped(t, bastion, target.start(t))
	dev.SSH.ConnectTimeout = 200 * time.Millisecond
	_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
	wantFault(t, err, fault.Timeout, "handshake", "connect to probe-1", "no answer within 200ms")
}

func TestFrozenHop(t *testing.T) {
	bastion, target := newServer(t).start(t), newServer(t)
	target.session = func(s *serverSession) {
		_, _ = s.Write([]byte("started"))
		s.untilClosed()
	}
	dev := hopped(t, bastion, target.start(t))
	proxy := newFreezer(t, bastion.addr)
	was := dev.Jump[0].Port
	dev.Jump[0].Port = sshdtest.PortOf(t, proxy.addr)
	dev.KnownHosts = fileOf(t, "known_hosts", strings.Replace(read(t, dev.KnownHosts), fmt.Sprint("]:", was), fmt.Sprint("]:", dev.Jump[0].Port), 1))
	d := newDialer(t, sshconn.Options{})
	conn := dial(t, d, dev)
	started := &firstWrite{seen: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, device.ExecRequest{Args: []string{"x"}, Stdin: endless{}, Stdout: started, Timeout: -1})
		result <- err
	}()
	<-started.seen
	close(proxy.frozen)

	late := *dev
	late.SSH.ConnectTimeout = 200 * time.Millisecond
	_, err := d.Dial(t.Context(), &late)
	wantFault(t, err, fault.Timeout, "dial")
	cancel()
	soon(t, 100*time.Millisecond, "cancelling behind a frozen hop", func() { wantFault(t, <-result, fault.Canceled, "command") })
	soon(t, 100*time.Millisecond, "closing behind a frozen hop", func() { _ = conn.Close() })
	soon(t, 100*time.Millisecond, "closing the dialer", func() { _ = d.Close() })
}

func TestHopThatHangsUpAfterEachLogin(t *testing.T) {
	bastion, target := newServer(t), newServer(t).start(t)
	bastion.afterLogin = func(conn *ssh.ServerConn) { _ = conn.Close() }
	dev := hopped(t, bastion.start(t), target)
	_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
	wantFault(t, err, fault.Unreachable, "jump", "lon-bastion")
	if n := bastion.dialled(); n > 2 {
		t.Errorf("the bastion was dialled %d times", n)
	}
}
