package sshconn_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

func TestDialFailsByStage(t *testing.T) {
	silentAfterVersion := func(conn net.Conn) bool {
		_, _ = conn.Write([]byte("SSH-2.0-Mute\r\n"))
		return mute(conn)
	}
	hangUp := func(net.Conn) bool { return false }
	otherProtocol := func(conn net.Conn) bool {
		_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		return false
	}
	tests := map[string]struct {
		wire  func(net.Conn) bool
		kind  fault.Kind
		stage string
		text  string
	}{
		"mute server":           {mute, fault.Timeout, "handshake", "no answer within 200ms (ssh.connect_timeout)"},
		"mute after version":    {silentAfterVersion, fault.Timeout, "handshake", "no answer within 200ms"},
		"hangs up":              {hangUp, fault.Unreachable, "handshake", "it may limit connections"},
		"another protocol":      {otherProtocol, fault.Unreachable, "handshake", "no SSH server"},
		"garbage after version": {garbage, fault.Unreachable, "handshake", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t)
			srv.wire = tt.wire
			dev := srv.start(t).device(t, "probe-1")
			if tt.kind == fault.Timeout { // else a busy machine could make it one
				dev.SSH.ConnectTimeout = 200 * time.Millisecond
			}
			_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
			wantFault(t, err, tt.kind, tt.stage, "connect to probe-1", tt.text)
		})
	}
}

func garbage(conn net.Conn) bool {
	_, _ = conn.Write([]byte("SSH-2.0-X\r\n" + strings.Repeat("\x00\x00\x00\x0c\x0a\x14garbage...", 20)))
	return mute(conn)
}

func TestDialMuteDuringLogin(t *testing.T) {
	srv := newServer(t)
	release := make(chan struct{})
	srv.config.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
		<-release
		return nil, errors.New("too late")
	}
	dev := srv.start(t).device(t, "probe-1")
	t.Cleanup(func() { close(release) })
	dev.SSH.ConnectTimeout = time.Second // the keys must have been exchanged by then
	_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
	wantFault(t, err, fault.Timeout, "auth", "no answer within 1s")
}

func TestDialEndsWithContext(t *testing.T) {
	connected := make(chan struct{})
	srv := newServer(t)
	srv.wire = func(conn net.Conn) bool {
		_, _ = conn.Read(make([]byte, 1)) // the handshake has begun
		close(connected)
		return mute(conn)
	}
	dev := srv.start(t).device(t, "probe-1")
	ctx := cancelOn(t, connected)
	var err error
	soon(t, 2*time.Second, "dialling a mute server", func() { _, err = newDialer(t, sshconn.Options{}).Dial(ctx, dev) })
	wantFault(t, err, fault.Canceled, "handshake")
}

func TestDialStagesBeforeTheWire(t *testing.T) {
	srv := newServer(t).start(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()

	t.Run("refused", func(t *testing.T) {
		dev := srv.device(t, "probe-1")
		dev.Port = dead.Addr().(*net.TCPAddr).Port
		_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
		wantFault(t, err, fault.Unreachable, "dial", "connection refused", "probe-1")
	})
	t.Run("unresolved", func(t *testing.T) {
		dev := srv.device(t, "probe-1")
		dev.Host = "nowhere.invalid"
		d := newDialer(t, sshconn.Options{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}}
		}})
		_, err := d.Dial(t.Context(), dev)
		wantFault(t, err, fault.Unreachable, "resolve", "nowhere.invalid cannot be resolved")
	})
	t.Run("no route", func(t *testing.T) {
		dev := srv.device(t, "probe-1")
		dev.SSH.ConnectTimeout = 50 * time.Millisecond
		d := newDialer(t, sshconn.Options{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		_, err := d.Dial(t.Context(), dev)
		wantFault(t, err, fault.Timeout, "dial", "no answer within 50ms")
	})
}

func TestSecretsAreResolvedBeforeConnecting(t *testing.T) {
	srv := newServer(t).start(t)
	tests := map[string]struct {
		creds device.Credentials
		text  string
	}{
		"password in no variable": {device.Credentials{Name: "default", Username: "fleet", Password: secret.Ref{Env: "SSHCONN_TEST_UNSET"}},
			"credentials default: environment variable SSHCONN_TEST_UNSET is not set"},
		"key in no file": {device.Credentials{Name: "f5", Username: "root", PrivateKey: secret.Ref{File: "/nonexistent/key"}}, "/nonexistent/key"},
		"key is no key":  {device.Credentials{Name: "f5", Username: "root", PrivateKey: secret.Ref{File: fileOf(t, "key", "hello")}}, "not a private key"},
		"nothing":        {device.Credentials{Name: "none", Username: "root"}, "there is no secret"},
		"no user":        {device.Credentials{Name: "none", Password: secret.Ref{Env: "PATH"}}, "there is no user name"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dev := srv.device(t, "probe-1")
			dev.Credentials = tt.creds
			_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
			wantFault(t, err, fault.Invalid, "credentials", tt.text)
		})
	}
	if n := srv.dialled(); n != 0 {
		t.Errorf("%d connections were made before the secrets were there", n)
	}
}

func TestHostKeyIsProvenBeforeAnyCredential(t *testing.T) {
	other := newKey(t)
	tests := map[string]struct {
		lines func(s *server) string
		text  []string
	}{
		"unknown": {
			func(*server) string { return "# nothing\n" },
			[]string{"is not known", "no credential was sent", "fleetctl device trust probe-1"},
		},
		"changed": {
			func(s *server) string { return "\n" + xknownhosts.Line([]string{s.addr}, other.PublicKey()) + "\n" },
			[]string{"CHANGED", ":2 has ssh-ed25519 " + ssh.FingerprintSHA256(other.PublicKey()), "fleetctl device trust --replace probe-1"},
		},
		"revoked": {
			func(s *server) string {
				line := xknownhosts.Line([]string{s.addr}, s.keys[0].PublicKey())
				return line + "\n@revoked * " + strings.SplitN(line, " ", 2)[1] + "\n"
			},
			[]string{"REVOKED", ":2", "never accepted"},
		},
		"known for another port": {
			func(s *server) string { return xknownhosts.Line([]string{"127.0.0.1"}, s.keys[0].PublicKey()) + "\n" },
			[]string{"is not known"},
		},
		"a damaged line": {
			func(s *server) string {
				return strings.TrimSuffix(xknownhosts.Line([]string{s.addr}, s.keys[0].PublicKey()), "=") + "AAAA\n"
			},
			[]string{"cannot be checked", ":1:", "correct that line"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t).start(t)
			dev := srv.device(t, "probe-1")
			dev.KnownHosts = fileOf(t, "known_hosts", tt.lines(srv))
			_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
			wantFault(t, err, fault.HostKey, "host_key", append(tt.text, ssh.FingerprintSHA256(srv.keys[0].PublicKey()))...)
			if tried := srv.tried(); len(tried) > 0 {
				t.Errorf("credentials were sent: %v", tried)
			}
		})
	}
	t.Run("a revocation that cannot be read", func(t *testing.T) {
		srv := newServer(t).start(t)
		dev := srv.device(t, "probe-1")
		dev.KnownHosts = fileOf(t, "known_hosts", "@revoked * ssh-ed25519 AAAA\n")
		_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
		wantFault(t, err, fault.Invalid, "host_key", "known_hosts:1")
		if srv.dialled() != 0 {
			t.Error("a connection was made")
		}
	})
}

func TestPasswordIsOfferedOnce(t *testing.T) {
	var asked atomic.Int32
	challenge := func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		asked.Add(1)
		answers, err := ask("", "", []string{"Password: "}, []bool{false})
		if err == nil && len(answers) == 1 && answers[0] == "correct" {
			return nil, nil
		}
		return nil, errors.New("no")
	}
	t.Run("refused by password, not offered again by keyboard-interactive", func(t *testing.T) {
		srv := newServer(t)
		srv.config.KeyboardInteractiveCallback = challenge
		dev := srv.start(t).device(t, "probe-1")
		dev.Credentials = passwordOf(t, "wrong")
		_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
		wantFault(t, err, fault.Auth, "auth", "user fleet (credentials default)", "refused the password", "check credentials default")
		if got := fmt.Sprint(srv.tried()); got != "[password]" {
			t.Errorf("attempts %v, want one", got)
		}
		if strings.Contains(err.Error(), "wrong") {
			t.Errorf("the password is in the error: %v", err)
		}
	})
	t.Run("keyboard-interactive alone", func(t *testing.T) {
		srv := newServer(t)
		srv.config.PasswordCallback = nil
		srv.config.KeyboardInteractiveCallback = challenge
		srv.start(t)
		d := newDialer(t, sshconn.Options{})
		dial(t, d, srv.device(t, "probe-1"))

		asked.Store(0)
		dev := srv.device(t, "probe-1")
		dev.Credentials = passwordOf(t, "wrong")
		_, err := d.Dial(t.Context(), dev)
		wantFault(t, err, fault.Auth, "auth", "refused the password")
		if n := asked.Load(); n != 1 {
			t.Errorf("the server was tried %d times", n)
		}
	})
	t.Run("a server that hangs up on the password", func(t *testing.T) {
		srv := newServer(t)
		srv.config.PasswordCallback = func(c ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) {
			srv.hangUp()
			return nil, errors.New("no")
		}
		dev := srv.start(t).device(t, "probe-1")
		_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
		wantFault(t, err, fault.Auth, "auth", "hung up after the password")
	})
	t.Run("a server without passwords", func(t *testing.T) {
		srv := newServer(t)
		srv.config.PasswordCallback = nil
		srv.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errors.New("no") }
		dev := srv.start(t).device(t, "probe-1")
		_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
		wantFault(t, err, fault.Auth, "auth", "it accepts publickey, and there is only a password")
		if tried := srv.tried(); len(tried) > 0 {
			t.Errorf("attempts %v", tried)
		}
	})
}

func TestOtherPromptsAreNotAnswered(t *testing.T) {
	type round struct {
		prompts []string
		echo    bool
	}
	tests := map[string]struct {
		rounds []round
		sent   int // rounds that were answered
		text   string
	}{
		"a token":                 {[]round{{[]string{"Verification code: "}, false}}, 0, `it asks "Verification code:"`},
		"an echoed prompt":        {[]round{{[]string{"Password: "}, true}}, 0, "not answered"},
		"a change of password":    {[]round{{[]string{"New password: "}, false}}, 0, "not answered"},
		"two prompts":             {[]round{{[]string{"Password: ", "Token: "}, false}}, 0, "not answered"},
		"the password once more":  {[]round{{[]string{"Password: "}, false}, {[]string{"(current) password: "}, false}}, 1, "a second time"},
		"an expired password":     {[]round{{[]string{"Password: "}, false}, {[]string{"New password: "}, false}}, 1, "not answered"},
		"escapes inside a prompt": {[]round{{[]string{"\x1b]0;pwned\aCode\x1b[2J: "}, false}}, 0, "Code"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int32
			srv := newServer(t)
			srv.config.PasswordCallback = nil
			srv.config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				for _, r := range tt.rounds {
					echo := make([]bool, len(r.prompts))
					for i := range echo {
						echo[i] = r.echo
					}
					if _, err := ask("", "", r.prompts, echo); err != nil {
						return nil, err
					}
					sent.Add(1)
				}
				return nil, errors.New("no")
			}
			dev := srv.start(t).device(t, "probe-1")
			_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
			wantFault(t, err, fault.Auth, "auth", tt.text)
			if int(sent.Load()) != tt.sent {
				t.Errorf("%d rounds were answered, want %d", sent.Load(), tt.sent)
			}
			if strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("an escape got into the error: %q", err)
			}
		})
	}
}

func TestKeyAndPasswordTogether(t *testing.T) {
	srv := newServer(t)
	password := srv.config.PasswordCallback
	srv.config.PasswordCallback = nil
	srv.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{PasswordCallback: password}}
	}
	srv.start(t)
	dev := srv.device(t, "probe-1")
	key, _ := keyFile(t)
	dev.Credentials.PrivateKey = secret.Ref{File: key}
	d := newDialer(t, sshconn.Options{})
	dial(t, d, dev)

	dev.Credentials.Password = secret.Ref{}
	_, err := d.Dial(t.Context(), dev)
	wantFault(t, err, fault.Auth, "auth", "accepted in part, but it also wants password")
}

func TestOldAlgorithmsAreAskedFor(t *testing.T) {
	sha1Only := func(t *testing.T) *server {
		t.Helper()
		srv := newServer(t)
		rsaKey := newRSAKey(t).(ssh.AlgorithmSigner)
		old, err := ssh.NewSignerWithAlgorithms(rsaKey, []string{ssh.KeyAlgoRSA})
		if err != nil {
			t.Fatal(err)
		}
		srv.keys = []ssh.Signer{old}
		return srv
	}
	oldKex := func(t *testing.T) *server {
		t.Helper()
		srv := newServer(t)
		srv.config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH14SHA1}
		return srv
	}
	oldCipher := func(t *testing.T) *server {
		t.Helper()
		srv := newServer(t)
		srv.config.Ciphers = []string{ssh.InsecureCipherAES128CBC}
		return srv
	}
	for name, make := range map[string]func(*testing.T) *server{"host key": sha1Only, "key exchange": oldKex, "cipher": oldCipher} {
		t.Run(name, func(t *testing.T) {
			srv := make(t).start(t)
			dev := srv.device(t, "probe-1")
			d := newDialer(t, sshconn.Options{})
			_, err := d.Dial(t.Context(), dev)
			wantFault(t, err, fault.Denied, "handshake", name, "ssh: {legacy_algorithms: true}", "for probe-1")
			if tried := srv.tried(); len(tried) > 0 {
				t.Errorf("credentials were sent: %v", tried)
			}
			dev.SSH.LegacyAlgorithms = true
			dial(t, d, dev)
		})
	}
	t.Run("nothing in common at all", func(t *testing.T) {
		srv := newServer(t)
		srv.config.Ciphers = []string{ssh.InsecureCipherRC4}
		dev := srv.start(t).device(t, "probe-1")
		dev.SSH.LegacyAlgorithms = true
		// Every algorithm that the library has is offered, so only a made-up one fails.
		if _, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev); err != nil {
			t.Errorf("RC4 with legacy_algorithms: %v", err)
		}
	})
}

func TestKnownHostsFileThatIsNotThere(t *testing.T) {
	srv := newServer(t).start(t)
	dev := srv.device(t, "probe-1")
	dev.KnownHosts = t.TempDir() + "/none"
	_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
	wantFault(t, err, fault.HostKey, "host_key", "is not known", dev.KnownHosts)
	if _, err := os.Stat(dev.KnownHosts); err == nil {
		t.Error("dialling made the file")
	}
}

func TestKnownHostsIsReadAgainWhenItChanges(t *testing.T) {
	srv := newServer(t).start(t)
	dev := srv.device(t, "probe-1")
	good, err := os.ReadFile(dev.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	dev.KnownHosts = fileOf(t, "known_hosts", "")
	d := newDialer(t, sshconn.Options{})
	_, err = d.Dial(t.Context(), dev)
	wantFault(t, err, fault.HostKey, "host_key")
	if err := os.WriteFile(dev.KnownHosts, good, 0o600); err != nil {
		t.Fatal(err)
	}
	dial(t, d, dev)
}

func TestKeyTypeFollowsKnownHosts(t *testing.T) {
	srv := newServer(t)
	srv.keys = append(srv.keys, newRSAKey(t))
	srv.start(t)
	for _, key := range srv.keys {
		dev := srv.device(t, "probe-1")
		dev.KnownHosts = fileOf(t, "known_hosts", xknownhosts.Line([]string{srv.addr}, key.PublicKey())+"\n")
		conn := dial(t, newDialer(t, sshconn.Options{}), dev)
		if got := conn.Facts().HostKeyType; got != key.PublicKey().Type() {
			t.Errorf("%s was negotiated, known_hosts has %s", got, key.PublicKey().Type())
		}
	}
}
