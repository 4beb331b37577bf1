package sshsig

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func signers(t testing.TB) map[string]ssh.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]ssh.Signer{}
	for name, key := range map[string]any{"ed25519": ed, "rsa": big} {
		s, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = s
	}
	return out
}

// TestAgainstOpenSSH: ssh-keygen takes our signatures, and we take its.
func TestAgainstOpenSSH(t *testing.T) {
	t.Parallel()
	message := []byte("what was gathered\n")
	for name, signer := range signers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(name string, content []byte) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			sig, err := Sign(signer, "test", message)
			if err != nil {
				t.Fatal(err)
			}
			allowed := write("allowed", append([]byte("me "), ssh.MarshalAuthorizedKey(signer.PublicKey())...))
			cmd := exec.CommandContext(t.Context(), "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "me", "-n", "test", "-s", write("sig", sig))
			cmd.Stdin = bytes.NewReader(message)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("ssh-keygen: %v: %s", err, out)
			}
			if key, err := Verify(sig, "test", message); err != nil || !bytes.Equal(key.Marshal(), signer.PublicKey().Marshal()) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("theirs", func(t *testing.T) {
		t.Parallel()
		key := filepath.Join(t.TempDir(), "key")
		if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		cmd := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "test")
		cmd.Stdin = bytes.NewReader(message)
		sig, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(sig, "test", message); err != nil {
			t.Error(err)
		}
	})
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	message := []byte("what was gathered")
	sig, err := Sign(signers(t)["ed25519"], "test", message)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Replace(sig, []byte("\n"), []byte("\nA"), 2)
	for name, c := range map[string]struct {
		sig       []byte
		namespace string
		message   string
		want      string
	}{
		"another message":   {sig, "test", "something else", "ssh: "},
		"another namespace": {sig, "file", string(message), `it is for "test"`},
		"nothing":           {nil, "test", string(message), "no SSH signature"},
		"damaged":           {flipped, "test", string(message), "verify the signature"},
		"cut off":           {append(bytes.Clone(sig[:80]), []byte("\n-----END SSH SIGNATURE-----")...), "test", string(message), "verify the signature"},
		"huge":              {bytes.Repeat([]byte("A"), maxSignature+1), "test", string(message), "larger than"},
	} {
		if _, err := Verify(c.sig, c.namespace, []byte(c.message)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	sig, err := Sign(signers(f)["ed25519"], "test", []byte("m"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Fuzz(func(t *testing.T, sig []byte) {
		if _, err := Verify(sig, "test", []byte("another message")); err == nil {
			t.Fatal("a signature of nothing is taken")
		}
	})
}
