package secret_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"capfleet/internal/secret"
)

const value = "correct horse battery staple"

// seal encrypts as `age -r RECIPIENT [-a]` does.
func seal(t testing.TB, armored bool, text string, to ...age.Recipient) string {
	t.Helper()
	var out bytes.Buffer
	var dst io.Writer = &out
	finish := func() error { return nil }
	if armored {
		w := armor.NewWriter(&out)
		dst, finish = w, w.Close
	}
	w, err := age.Encrypt(dst, to...)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// sshKey makes a key with OpenSSH's ssh-keygen.
func sshKey(t testing.TB, dir string, args ...string) (private string, recipient age.Recipient) {
	t.Helper()
	private = filepath.Join(dir, "key-"+strings.Join(args[1:2], ""))
	if out, err := exec.Command("ssh-keygen", append([]string{"-q", "-f", private}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	line, err := os.ReadFile(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(string(line), "ecdsa") {
		return private, nil
	}
	if recipient, err = agessh.ParseRecipient(string(line)); err != nil {
		t.Fatal(err)
	}
	return private, recipient
}

func TestAge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id, other := identity(t), identity(t)
	own := write(t, dir, "own", "# created: 2026-01-01\n# public key: "+id.Recipient().String()+"\n"+id.String()+"\n")
	several := write(t, dir, "several", other.String()+"\n"+id.String()+"\n")
	foreign := write(t, dir, "foreign", other.String()+"\n")
	ed25519, toEd25519 := sshKey(t, dir, "-t", "ed25519", "-N", "")
	rsa, toRSA := sshKey(t, dir, "-t", "rsa", "-b", "2048", "-N", "")
	ecdsa, _ := sshKey(t, dir, "-t", "ecdsa", "-N", "")
	locked, _ := sshKey(t, t.TempDir(), "-t", "ed25519", "-N", "open sesame")
	byPassphrase, err := age.NewScryptRecipient("open sesame")
	if err != nil {
		t.Fatal(err)
	}
	byPassphrase.SetWorkFactor(2)

	plain := seal(t, false, value+"\n", id.Recipient())
	sealed := write(t, dir, "sealed", plain)
	for name, a := range map[string]secret.Age{
		"age identity":     {File: sealed, Identity: own},
		"second identity":  {File: sealed, Identity: several},
		"armored":          {File: write(t, dir, "armored", seal(t, true, value, id.Recipient())), Identity: own},
		"SSH ed25519":      {File: write(t, dir, "ed25519", seal(t, false, value, toEd25519)), Identity: ed25519},
		"SSH RSA":          {File: write(t, dir, "rsa", seal(t, true, value, toRSA)), Identity: rsa},
		"of several":       {File: write(t, dir, "many", seal(t, false, value, other.Recipient(), toEd25519, id.Recipient())), Identity: own},
		"blank line first": {File: sealed, Identity: write(t, dir, "blank", "\n"+id.String())},
	} {
		if got, err := (secret.Ref{Age: a}).Resolve(t.Context()); err != nil || got.Reveal() != value {
			t.Errorf("%s: %q, %v", name, got.Reveal(), err)
		}
	}

	changed := []byte(plain)
	changed[len(changed)-1] ^= 1
	for name, c := range map[string]struct {
		age  secret.Age
		says string
	}{
		"another's":          {secret.Age{File: sealed, Identity: foreign}, "sealed is not encrypted to the identity in " + foreign},
		"by passphrase":      {secret.Age{File: write(t, dir, "byword", seal(t, false, value, byPassphrase)), Identity: own}, "encrypted with a passphrase: encrypt it to a recipient"},
		"changed":            {secret.Age{File: write(t, dir, "changed", string(changed)), Identity: own}, "is damaged"},
		"cut off":            {secret.Age{File: write(t, dir, "cut", plain[:len(plain)-20]), Identity: own}, "is damaged"},
		"header cut off":     {secret.Age{File: write(t, dir, "head", plain[:60]), Identity: own}, "is damaged or is no age file"},
		"plain text":         {secret.Age{File: write(t, dir, "text", value), Identity: own}, "is no age file"},
		"empty":              {secret.Age{File: write(t, dir, "empty", ""), Identity: own}, "is no age file"},
		"nothing inside":     {secret.Age{File: write(t, dir, "nothing", seal(t, false, "\n", id.Recipient())), Identity: own}, "is empty"},
		"no file":            {secret.Age{File: dir + "/none", Identity: own}, "read age file: stat " + dir + "/none"},
		"no identity":        {secret.Age{File: sealed, Identity: dir + "/none"}, "read age identity: stat " + dir + "/none"},
		"identity of text":   {secret.Age{File: sealed, Identity: write(t, dir, "word", value)}, "holds no age identity"},
		"identity mistyped":  {secret.Age{File: sealed, Identity: write(t, dir, "typo", id.String()[:40])}, "holds no age identity"},
		"plugin":             {secret.Age{File: sealed, Identity: write(t, dir, "plugin", "AGE-PLUGIN-YUBIKEY-1QQQ")}, "plugins are not supported"},
		"encrypted identity": {secret.Age{File: sealed, Identity: sealed}, "is itself encrypted"},
		"armored identity":   {secret.Age{File: sealed, Identity: dir + "/armored"}, "is itself encrypted"},
		"locked SSH key":     {secret.Age{File: sealed, Identity: locked}, "no SSH private key without a passphrase"},
		"ECDSA key":          {secret.Age{File: sealed, Identity: ecdsa}, "no SSH private key without a passphrase (ed25519 or RSA)"},
		"large":              {secret.Age{File: write(t, dir, "large", seal(t, false, strings.Repeat("x", 1<<20), id.Recipient())), Identity: own}, "larger than"},
	} {
		_, err := secret.Ref{Age: c.age}.Resolve(t.Context())
		t.Run(name, func(t *testing.T) { says(t, err, c.says, value, id.String()[:40], id.String()[16:]) })
	}
}

// FuzzAge: a damaged file or identity is an error without anything of either.
func FuzzAge(f *testing.F) {
	id := identity(f)
	sealed := seal(f, false, value, id.Recipient())
	dir := f.TempDir()
	key := write(f, dir, "identity", id.String())
	f.Add([]byte(sealed), []byte(id.String()))
	f.Add([]byte(seal(f, true, value, id.Recipient())), []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"))
	f.Add([]byte("age-encryption.org/v1\n-> X25519\n"), []byte("AGE-SECRET-KEY-1\n"))
	f.Fuzz(func(t *testing.T, file, identity []byte) {
		dir := t.TempDir()
		for _, a := range []secret.Age{
			{File: write(t, dir, "file", string(file)), Identity: key},
			{File: write(t, dir, "sealed", sealed), Identity: write(t, dir, "identity", string(identity))},
		} {
			got, err := secret.Ref{Age: a}.Resolve(t.Context())
			if err == nil && got.Reveal() != value && bytes.HasPrefix(file, []byte(sealed[:len(sealed)-40])) {
				t.Fatalf("opened as %q", got.Reveal())
			}
			if err != nil && (strings.Contains(err.Error(), id.String()) || strings.Contains(err.Error(), value)) {
				t.Fatalf("a secret is in the error: %v", err)
			}
		}
	})
}
