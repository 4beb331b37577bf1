package sshconn

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/fault"
)

func TestTrusts(t *testing.T) {
	t.Parallel()
	key := func() string {
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		k, err := ssh.NewPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
	}
	revoked := key()
	file := filepath.Join(t.TempDir(), "known_hosts")
	text := strings.Join([]string{
		"plain.example " + key(),
		"[port.example]:2222 " + key(),
		"@cert-authority *.ca.example " + key(),
		"gone.example " + revoked,
		"@revoked * " + revoked,
		"bad.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==",
	}, "\n") + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := NewDialer(Options{})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		host string
		port int
		want bool
	}{
		{"plain.example", 22, true}, {"plain.example", 2222, false}, {"port.example", 2222, true}, {"port.example", 22, false},
		{"x.ca.example", 22, true}, {"gone.example", 22, false}, {"other.example", 22, false},
	} {
		if got, err := d.Trusts(file, c.host, c.port); err != nil || got != c.want {
			t.Errorf("%s:%d: %v, %v", c.host, c.port, got, err)
		}
	}
	if _, err := d.Trusts(file, "bad.example", 22); !fault.Is(err, fault.HostKey) {
		t.Errorf("a line that cannot be read: %v", err)
	}
	if got, err := d.Trusts(file+"x", "plain.example", 22); err != nil || got {
		t.Errorf("no file: %v, %v", got, err)
	}
}
