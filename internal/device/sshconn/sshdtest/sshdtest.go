// Package sshdtest runs OpenSSH's own sshd for tests: on a loopback port, as the
// current user, with its own keys and configuration in the test's folder. What
// our client does against it is what it does against a real host.
//
// The daemon is started for each connection in inetd mode (sshd -i), so that no
// port is guessed and nothing is waited for. It needs the Debian package
// openssh-server; a test on a machine without it fails. Settings that sshd keeps
// per daemon (MaxStartups, penalties) have no effect.
package sshdtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"capfleet/internal/device"
	"capfleet/internal/secret"
)

// Options of a server. The zero value is a server with one ed25519 key.
type Options struct {
	// HostKeys are the types to make with ssh-keygen: ed25519, ecdsa, rsa.
	HostKeys []string
	// Config are lines put before ours in sshd_config, where the first one wins.
	Config []string
	// Listener, when set, takes the connections instead of a port on loopback, and is
	// closed at the end; Within is a command, such as "ip netns exec NAME", that sshd
	// is run by. Together they put the server into a network of its own.
	Listener net.Listener
	Within   []string
}

// Server is a running sshd. Its fields do not change.
type Server struct {
	Addr       string // host:port
	Host       string
	Port       int
	User       string   // who may log in: the current user
	HostKeys   []string // paths of private host keys; .pub beside them
	ClientKey  string   // path of a private key that may log in
	KnownHosts string   // path of a known_hosts with the host keys, plain
	Dir        string   // the folder of all these

	mu    sync.Mutex
	conns int
	peak  int
}

// Start runs a server until the test ends.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		tb.Fatalf("OpenSSH's sshd is needed (Debian package openssh-server): %v", err)
	}
	if os.Geteuid() == 0 {
		// Where sshd leaves its privileges; the package's service makes it at boot.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	me, err := user.Current()
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{User: me.Username, Dir: tb.TempDir()}
	listener := opts.Listener
	if listener == nil {
		if listener, err = (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0"); err != nil {
			tb.Fatal(err)
		}
	}
	addr := listener.Addr().(*net.TCPAddr)
	s.Addr, s.Host, s.Port = addr.String(), addr.IP.String(), addr.Port

	s.makeKeys(tb, opts.HostKeys)
	config := s.writeConfig(tb, opts.Config)
	var wg sync.WaitGroup
	var running sync.Map
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				s.serve(tb, append(opts.Within[:len(opts.Within):len(opts.Within)], sshd), config, conn, &running)
			})
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		running.Range(func(_, cmd any) bool {
			_ = cmd.(*exec.Cmd).Process.Kill()
			return true
		})
		wg.Wait()
		if tb.Failed() {
			if log, err := os.ReadFile(s.path("sshd.log")); err == nil {
				tb.Logf("sshd.log:\n%s", log)
			}
		}
	})
	return s
}

func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

// serve hands one connection to a daemon of its own.
func (s *Server) serve(tb testing.TB, sshd []string, config string, conn net.Conn, running *sync.Map) {
	tb.Helper()
	file, err := conn.(*net.TCPConn).File()
	_ = conn.Close()
	if err != nil {
		tb.Errorf("sshd: %v", err)
		return
	}
	args := append(sshd[1:len(sshd):len(sshd)], "-i", "-f", config, "-E", s.path("sshd.log"))
	cmd := exec.CommandContext(tb.Context(), sshd[0], args...)
	cmd.Stdin, cmd.Stdout = file, file
	if err := cmd.Start(); err != nil {
		_ = file.Close()
		tb.Errorf("sshd: %v", err)
		return
	}
	_ = file.Close()
	running.Store(conn, cmd)
	s.count(1)
	_ = cmd.Wait() // it fails when a client leaves without a word
	s.count(-1)
	running.Delete(conn)
}

func (s *Server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns += n
	s.peak = max(s.peak, s.conns)
}

// Peak is the largest number of connections at one time so far.
func (s *Server) Peak() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}

// Conns is the number of connections now.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

func (s *Server) makeKeys(tb testing.TB, types []string) {
	tb.Helper()
	if len(types) == 0 {
		types = []string{"ed25519"}
	}
	var known strings.Builder
	for _, kind := range types {
		path := s.path("host_" + kind)
		Keygen(tb, "-t", kind, "-N", "", "-f", path)
		s.HostKeys = append(s.HostKeys, path)
		fmt.Fprintln(&known, xknownhosts.Line([]string{s.Addr}, PublicKey(tb, path+".pub")))
	}
	s.KnownHosts = s.path("known_hosts")
	write(tb, s.KnownHosts, known.String())

	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		tb.Fatal(err)
	}
	s.ClientKey = s.path("client")
	write(tb, s.ClientKey, string(pem.EncodeToMemory(block)))
	public, err := ssh.NewPublicKey(pub)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, s.path("authorized_keys"), string(ssh.MarshalAuthorizedKey(public)))
}

func (s *Server) writeConfig(tb testing.TB, first []string) string {
	tb.Helper()
	lines := append([]string{}, first...)
	for _, key := range s.HostKeys {
		lines = append(lines, "HostKey "+key)
	}
	lines = append(lines,
		"AuthorizedKeysFile "+s.path("authorized_keys"),
		"StrictModes no", // the test's folder belongs to a temporary tree
		"UsePAM no",
		"PermitRootLogin yes",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PidFile none",
		"PrintMotd no",
		"UseDNS no",
		"LogLevel VERBOSE",
	)
	// bash takes a first shell below sshd for one that reads ~/.bashrc; what the account
	// has there is none of a test's business, and can take long. Of several SetEnv lines
	// sshd takes the first.
	const deeper = " SHLVL=2"
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "SetEnv ") }); i >= 0 {
		lines[i] += deeper
	} else {
		lines = append(lines, "SetEnv"+deeper)
	}
	if !slices.ContainsFunc(first, func(line string) bool { return strings.HasPrefix(line, "Subsystem ") }) {
		lines = append(lines, "Subsystem sftp internal-sftp") // it may be there only once
	}
	path := s.path("sshd_config")
	write(tb, path, strings.Join(lines, "\n")+"\n")
	return path
}

// Authorize lets one more public key log in.
func (s *Server) Authorize(tb testing.TB, public ssh.PublicKey) {
	tb.Helper()
	f, err := os.OpenFile(s.path("authorized_keys"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(ssh.MarshalAuthorizedKey(public)); err != nil {
		tb.Fatal(err)
	}
}

// Device is an inventory entry for the server, of platform linux, with the
// client key as its credentials.
func (s *Server) Device(name string) *device.Device {
	settings := device.DefaultSSH()
	settings.ConnectTimeout = 10 * time.Second
	return &device.Device{
		Name: name, Platform: "linux", Host: s.Host, Port: s.Port,
		Credentials: device.Credentials{Name: "test", Username: s.User, PrivateKey: secret.Ref{File: s.ClientKey}},
		SSH:         settings,
		KnownHosts:  s.KnownHosts,
	}
}

// Hop is the server as a jump host.
func (s *Server) Hop(name string) device.Hop {
	d := s.Device(name)
	return device.Hop{Name: name, Host: d.Host, Port: d.Port, Credentials: d.Credentials, SSH: d.SSH}
}

// Keygen runs ssh-keygen.
func Keygen(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "ssh-keygen", append([]string{"-q"}, args...)...).CombinedOutput()
	if err != nil {
		tb.Fatalf("ssh-keygen %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// PublicKey reads an authorized_keys file of one line.
func PublicKey(tb testing.TB, path string) ssh.PublicKey {
	tb.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(raw)
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return key
}

// KnownHosts writes one known_hosts file for several servers and gives its path.
func KnownHosts(tb testing.TB, servers ...*Server) string {
	tb.Helper()
	var all strings.Builder
	for _, s := range servers {
		raw, err := os.ReadFile(s.KnownHosts)
		if err != nil {
			tb.Fatal(err)
		}
		all.Write(raw)
	}
	path := filepath.Join(tb.TempDir(), "known_hosts")
	write(tb, path, all.String())
	return path
}

func write(tb testing.TB, path, content string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// PortOf is the port of a host:port.
func PortOf(tb testing.TB, addr string) int {
	tb.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
