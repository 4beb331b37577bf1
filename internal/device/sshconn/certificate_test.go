package sshconn_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// authority is a CA of OpenSSH's ssh-keygen.
type authority struct{ key string }

func newAuthority(t testing.TB, kind string) authority {
	t.Helper()
	ca := authority{filepath.Join(t.TempDir(), "ca")}
	sshdtest.Keygen(t, "-t", kind, "-N", "", "-f", ca.key)
	return ca
}

func (ca authority) fingerprint(t testing.TB) string {
	return ssh.FingerprintSHA256(sshdtest.PublicKey(t, ca.key+".pub"))
}

// trusting is an sshd that lets in whom the CA has certified.
func trusting(t testing.TB, ca authority) *sshdtest.Server {
	t.Helper()
	return sshdtest.Start(t, sshdtest.Options{Config: []string{"TrustedUserCAKeys " + ca.key + ".pub"}})
}

// sign makes a certificate of a public key and gives its path, KEY-cert.pub.
func (ca authority) sign(t testing.TB, key string, args ...string) string {
	t.Helper()
	args = append([]string{"-s", ca.key, "-I", "fleet"}, args...)
	sshdtest.Keygen(t, append(args, key+".pub")...)
	return key + "-cert.pub"
}

func userKey(t testing.TB, args ...string) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "id")
	if len(args) == 0 {
		args = []string{"-t", "ed25519"}
	}
	sshdtest.Keygen(t, append(args, "-N", "", "-f", key)...)
	return key
}

// certified is a device whose login is a key and its certificate.
func certified(srv *sshdtest.Server, key string, certificate secret.Ref) *device.Device {
	dev := srv.Device("probe")
	dev.Credentials = device.Credentials{
		Name: "signed", Username: srv.User,
		PrivateKey: secret.Ref{File: key}, Certificate: certificate,
	}
	return dev
}

// The server knows the CA and none of the keys.
func TestCertificateLogsIn(t *testing.T) {
	for name, c := range map[string]struct {
		ca, key []string
	}{
		"ed25519": {[]string{"ed25519"}, []string{"-t", "ed25519"}},
		"ecdsa":   {[]string{"ecdsa"}, []string{"-t", "ecdsa"}},
		"rsa":     {[]string{"rsa"}, []string{"-t", "rsa", "-b", "2048"}},
	} {
		t.Run(name, func(t *testing.T) {
			ca := newAuthority(t, c.ca[0])
			srv := trusting(t, ca)
			d := newDialer(t, sshconn.Options{})
			key := userKey(t, c.key...)
			path := ca.sign(t, key, "-n", "somebody,"+srv.User, "-V", "-5m:+1h")
			conn := dial(t, d, certified(srv, key, secret.Ref{File: path}))
			if _, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"true"}}); err != nil {
				t.Error(err)
			}
			log, err := os.ReadFile(filepath.Join(srv.Dir, "sshd.log"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(log), "-CERT SHA256:") {
				t.Error("sshd saw no certificate")
			}
			_, err = d.Dial(t.Context(), certified(srv, key, secret.Ref{}))
			wantFault(t, err, fault.Auth, "auth", "refused the keys")
		})
	}
}

// A certificate that cannot work is told before anything is sent.
func TestCertificateThatCannotWork(t *testing.T) {
	ca := newAuthority(t, "ed25519")
	srv := trusting(t, ca)
	d := newDialer(t, sshconn.Options{})
	key, other := userKey(t), userKey(t)
	user := []string{"-n", srv.User, "-V"}
	certificate := func(args ...string) string {
		dir := t.TempDir()
		copied := filepath.Join(dir, "id.pub")
		raw, err := os.ReadFile(key + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return ca.sign(t, strings.TrimSuffix(copied, ".pub"), args...)
	}
	good := certificate(append(user, "always:forever")...)
	dial(t, d, certified(srv, key, secret.Ref{File: good}))
	before := srv.Peak()

	for name, c := range map[string]struct {
		ref   secret.Ref
		texts []string
	}{
		"expired":       {secret.Ref{File: certificate(append(user, "-2h:-1h")...)}, []string{"it expired at 20", "have it renewed"}},
		"not yet valid": {secret.Ref{File: certificate(append(user, "+1h:+2h")...)}, []string{"it is not valid before 20", "check the clock"}},
		"of a host":     {secret.Ref{File: certificate("-h", "-n", srv.User)}, []string{"it is a host certificate"}},
		"another key's": {secret.Ref{File: ca.sign(t, other, append(user, "-5m:+1h")...)}, []string{"it is for another key: it certifies SHA256:"}},
		"public key":    {secret.Ref{File: key + ".pub"}, []string{"it is a plain public key (ssh-ed25519)", "-cert.pub"}},
		"private key":   {secret.Ref{File: key}, []string{"it is no OpenSSH certificate"}},
		"missing":       {secret.Ref{File: filepath.Join(t.TempDir(), "gone")}, []string{"certificate: read secret file", "gone: no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.Dial(t.Context(), certified(srv, key, c.ref))
			wantFault(t, err, fault.Invalid, "credentials", append(c.texts, "credentials signed", "check the certificate")...)
		})
	}
	if srv.Peak() != before {
		t.Error("a certificate that cannot work was taken to the server")
	}
	dev := certified(srv, key, secret.Ref{File: good})
	dev.Credentials.PrivateKey = secret.Ref{}
	_, err := d.Dial(t.Context(), dev)
	wantFault(t, err, fault.Invalid, "credentials", "a certificate without a private_key")
}

// What the server decides is told with what it decides by.
func TestCertificateThatIsRefused(t *testing.T) {
	ca, stranger := newAuthority(t, "ed25519"), newAuthority(t, "ed25519")
	srv := trusting(t, ca)
	d := newDialer(t, sshconn.Options{})
	for name, c := range map[string]struct {
		ca   authority
		args []string
		text string
	}{
		"other principals": {ca, []string{"-n", "alice,bob"}, "principals alice, bob"},
		"no principals":    {ca, nil, "no principals, which OpenSSH refuses"},
		"other CA":         {stranger, []string{"-n", srv.User}, "principals " + srv.User},
	} {
		t.Run(name, func(t *testing.T) {
			key := userKey(t)
			ref := secret.Ref{File: c.ca.sign(t, key, c.args...)}
			_, err := d.Dial(t.Context(), certified(srv, key, ref))
			wantFault(t, err, fault.Auth, "auth", "refused the certificate (CA "+c.ca.fingerprint(t)+"; "+c.text+") and the keys")

			// The key by itself is good where the server knows it.
			srv.Authorize(t, sshdtest.PublicKey(t, key+".pub"))
			dial(t, d, certified(srv, key, ref))
		})
	}
}

// A certificate beside the key is not picked up by itself, and one that was
// renewed is used at the next connection.
func TestCertificateIsReadForEachConnection(t *testing.T) {
	ca := newAuthority(t, "ed25519")
	srv := trusting(t, ca)
	d := newDialer(t, sshconn.Options{})
	key := userKey(t)
	path := ca.sign(t, key, "-n", srv.User, "-V", "-2h:-1h")
	_, err := d.Dial(t.Context(), certified(srv, key, secret.Ref{}))
	wantFault(t, err, fault.Auth, "auth", "refused the keys")
	if strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate was used that nobody named: %v", err)
	}
	dev := certified(srv, key, secret.Ref{File: path})
	_, err = d.Dial(t.Context(), dev)
	wantFault(t, err, fault.Invalid, "credentials", "it expired")
	ca.sign(t, key, "-n", srv.User, "-V", "-5m:+1h")
	dial(t, d, dev)

	print, err := secret.NewCommand("cat", path)
	if err != nil {
		t.Fatal(err)
	}
	dial(t, d, certified(srv, key, secret.Ref{Command: print}))
}

// FuzzCertificate: any file in the place of a certificate is an error at most,
// and never one that repeats the file.
func FuzzCertificate(f *testing.F) {
	key, public := keyFile(f)
	f.Add(ssh.MarshalAuthorizedKey(public))
	f.Add([]byte("ssh-ed25519-cert-v01@openssh.com AAAA"))
	ca := newAuthority(f, "ed25519")
	signed := userKey(f)
	raw, err := os.ReadFile(ca.sign(f, signed, "-n", "a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	d := newDialer(f, sshconn.Options{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(dir, "cert")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		dev := &device.Device{Name: "probe", Host: "192.0.2.1", Credentials: device.Credentials{
			Name: "signed", Username: "fleet", PrivateKey: secret.Ref{File: key}, Certificate: secret.Ref{File: path},
		}}
		// There is no known_hosts: with a good certificate that is the next error.
		_, err := d.Dial(t.Context(), dev)
		if !fault.Is(err, fault.Invalid) || !slices.Contains([]string{"credentials", "host_key"}, fault.StageOf(err)) {
			t.Fatalf("%v", err)
		}
	})
}
