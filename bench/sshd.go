package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/secret"
)

// sshd is OpenSSH's server on a loopback port, with its own keys and a folder for
// what is moved.
type sshd struct {
	dir  string
	dev  *device.Device
	cmd  *exec.Cmd
	args []string // of OpenSSH's clients, to log in
}

// startSSHD starts a server and waits until it answers. Lines go before ours into
// its configuration, where the first wins; $BIN in them is a folder bin of its own.
func startSSHD(ctx context.Context, lines ...string) (s *sshd, err error) {
	dir, err := os.MkdirTemp("", "capfleet-bench-")
	if err != nil {
		return nil, err
	}
	s = &sshd{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"host", "client"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.path(key)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	public, err := os.ReadFile(s.path("host.pub"))
	if err != nil {
		return nil, err
	}
	config := strings.ReplaceAll(strings.Join(lines, "\n"), "$BIN", s.path("bin")) + "\n" + strings.Join([]string{
		fmt.Sprintf("ListenAddress 127.0.0.1:%d", port),
		"HostKey " + s.path("host"), "AuthorizedKeysFile " + s.path("client.pub"),
		"StrictModes no", "UsePAM no", "PermitRootLogin yes", "PidFile none", "UseDNS no", "MaxStartups 500", "MaxSessions 500",
		"PasswordAuthentication no", "Subsystem sftp internal-sftp",
		// A bash that sshd starts for a command reads .bashrc, whatever this account has
		// there; the deeper level says that it is no such shell.
		"SetEnv SHLVL=2", "",
	}, "\n")
	known := fmt.Sprintf("[127.0.0.1]:%d %s", port, public)
	for name, text := range map[string]string{"config": config, "known_hosts": known} {
		if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	s.cmd = exec.CommandContext(ctx, "/usr/sbin/sshd", "-D", "-f", s.path("config"), "-E", s.path("log"))
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return nil, err
	}
	settings := device.DefaultSSH()
	settings.ConnectTimeout = 30 * time.Second
	s.dev = &device.Device{
		Name: "peer", Platform: "linux", Host: "127.0.0.1", Port: port, SSH: settings, KnownHosts: s.path("known_hosts"),
		Credentials: device.Credentials{Name: "bench", Username: me.Username, PrivateKey: secret.Ref{File: s.path("client")}},
	}
	s.args = []string{
		"-i", s.path("client"), "-o", "UserKnownHostsFile=" + s.path("known_hosts"), "-o", "StrictHostKeyChecking=yes",
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-F", "none", "-c", "aes128-gcm@openssh.com",
	}
	return s, s.await(ctx)
}

// await waits until the port answers.
func (s *sshd) await(ctx context.Context) error {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(s.dev.Host, fmt.Sprint(s.dev.Port)))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *sshd) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sshd) close() error {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait() // killed just now
	}
	return os.RemoveAll(s.dir)
}

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// serve begins a fleetd whose devices are behind the sshd. It gives the socket and the
// process's id once the socket is there; stop ends it.
func (s *sshd) serve(ctx context.Context, o options, inventory string) (socket string, pid int, stop func(), err error) {
	if err := os.WriteFile(s.path("inventory.yaml"), []byte(inventory), 0o600); err != nil {
		return "", 0, nil, err
	}
	socket = s.path("s")
	daemon := exec.CommandContext(ctx, filepath.Join(o.bin, "fleetd"), "--state", s.path("state"), "--inventory", s.path("inventory.yaml"), "--socket", socket)
	if err := daemon.Start(); err != nil {
		return "", 0, nil, err
	}
	stop = func() {
		_ = daemon.Process.Signal(os.Interrupt)
		_ = daemon.Wait() // told to end just now
	}
	for {
		if _, err := os.Stat(socket); err == nil {
			return socket, daemon.Process.Pid, stop, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			stop()
			return "", 0, nil, err
		}
	}
}
