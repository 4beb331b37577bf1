package sshconn_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// keyFile makes an unencrypted private key.
func keyFile(tb testing.TB) (path string, public ssh.PublicKey) {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		tb.Fatal(err)
	}
	return fileOf(tb, "key", string(pem.EncodeToMemory(block))), signerOf(tb, key).PublicKey()
}

func TestPrivateKeysOfOpenSSH(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	d := newDialer(t, sshconn.Options{})
	passphrase := secret.Ref{File: fileOf(t, "passphrase", "open sesame\n")}
	tests := map[string][]string{
		"ed25519 encrypted": {"-t", "ed25519", "-N", "open sesame"},
		"RSA":               {"-t", "rsa", "-b", "2048", "-N", ""},
		"RSA PEM encrypted": {"-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "open sesame"},
		"ECDSA":             {"-t", "ecdsa", "-N", ""},
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			sshdtest.Keygen(t, append(args, "-f", path)...)
			srv.Authorize(t, sshdtest.PublicKey(t, path+".pub"))
			dev := srv.Device("probe")
			dev.Credentials.PrivateKey = secret.Ref{File: path}
			dev.Credentials.Passphrase = passphrase // ignored by a key without one
			conn := dial(t, d, dev)
			if _, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}}); err != nil {
				t.Error(err)
			}
			if !strings.Contains(name, "encrypted") {
				return
			}
			dev.Credentials.Passphrase = secret.Ref{}
			_, err := d.Dial(t.Context(), dev)
			wantFault(t, err, fault.Invalid, "credentials", "it is encrypted and there is no passphrase")
			dev.Credentials.Passphrase = secret.Ref{File: fileOf(t, "passphrase", "abracadabra")}
			_, err = d.Dial(t.Context(), dev)
			wantFault(t, err, fault.Invalid, "credentials", "the passphrase does not open it")
			if strings.Contains(err.Error(), "abracadabra") {
				t.Error("the passphrase is in the error")
			}
		})
	}
}

func TestKeyThatIsNotAuthorized(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	dev := srv.Device("probe")
	path, _ := keyFile(t)
	dev.Credentials.PrivateKey = secret.Ref{File: path}
	_, err := newDialer(t, sshconn.Options{}).Dial(t.Context(), dev)
	wantFault(t, err, fault.Auth, "auth", "refused the keys; it accepts publickey", "check credentials test")
}

// agent starts OpenSSH's ssh-agent and points SSH_AUTH_SOCK at it.
func startAgent(t *testing.T) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	t.Setenv("SSH_AUTH_SOCK", socket)
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal("ssh-agent did not come up")
		}
	}
}

func TestAgent(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	d := newDialer(t, sshconn.Options{})
	dev := srv.Device("probe")
	dev.Credentials = device.Credentials{Name: "agent", Username: srv.User, Agent: true}

	t.Setenv("SSH_AUTH_SOCK", "")
	_, err := d.Dial(t.Context(), dev)
	wantFault(t, err, fault.Invalid, "credentials", "SSH_AUTH_SOCK names no agent")

	startAgent(t)
	_, err = d.Dial(t.Context(), dev)
	wantFault(t, err, fault.Invalid, "credentials", "the agent holds no key")

	for _, kind := range []string{"ed25519", "rsa"} {
		path := filepath.Join(t.TempDir(), "key")
		sshdtest.Keygen(t, "-t", kind, "-N", "", "-f", path)
		if out, err := exec.Command("ssh-add", path).CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v\n%s", err, out)
		}
		srv.Authorize(t, sshdtest.PublicKey(t, path+".pub"))
		conn := dial(t, d, dev)
		if _, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}}); err != nil {
			t.Error(err)
		}
		if out, err := exec.Command("ssh-add", "-D").CombinedOutput(); err != nil {
			t.Fatalf("ssh-add -D: %v\n%s", err, out)
		}
	}
}

// TestAgentConnectionIsClosed looks at the agent's connection from the outside,
// while the device's is open.
func TestAgentConnectionIsClosed(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	agent := startAgent(t)
	path := filepath.Join(t.TempDir(), "key")
	sshdtest.Keygen(t, "-t", "ed25519", "-N", "", "-f", path)
	if out, err := exec.Command("ssh-add", path).CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v\n%s", err, out)
	}
	srv.Authorize(t, sshdtest.PublicKey(t, path+".pub"))

	front := agent + "-front"
	listener, err := net.Listen("unix", front)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_AUTH_SOCK", front)
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		back, err := net.Dial("unix", agent)
		if err != nil {
			ended <- err
			return
		}
		go func() { _, _ = io.Copy(conn, back) }()
		_, err = io.Copy(back, conn) // until our side closes it
		_ = back.Close()
		ended <- err
	}()
	dev := srv.Device("probe")
	dev.Credentials = device.Credentials{Name: "agent", Username: srv.User, Agent: true}
	dial(t, newDialer(t, sshconn.Options{}), dev)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the agent's connection is still open after the login")
	}
	_ = listener.Close()
}
