package sim

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// keyring derives every key and password of a fleet from the directory's one
// random secret, so that thousands of devices cost nothing to keep.
type keyring struct{ secret []byte }

func newSecret() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

func (k keyring) derive(purpose, name string) []byte {
	m := hmac.New(sha256.New, k.secret)
	m.Write([]byte(purpose + "\x00" + name))
	return m.Sum(nil)
}

// hostKey is a device's ed25519 host key. Generation 0 is its own; others are
// what it presents under the fault host_key_changed.
func (k keyring) hostKey(device string, generation int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(k.derive(fmt.Sprintf("host key %d", generation), device))
}

// clientKey is the key pair that clients log in with.
func (k keyring) clientKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(k.derive("client key", ""))
}

// password is the secret of one file in secrets/.
func (k keyring) password(name string) string {
	return base64.RawURLEncoding.EncodeToString(k.derive("password", name)[:18])
}

// newLegacyKey makes an RSA host key for a device that offers nothing newer, in
// PKCS #8 form.
func newLegacyKey() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("generate RSA host key: %w", err)
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// legacySigner offers the RSA key with SHA-1 signatures only.
func legacySigner(pkcs8 []byte) (ssh.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fmt.Errorf("read RSA host key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("read RSA host key: %w", err)
	}
	rsaSigner, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("read RSA host key: %T cannot choose its algorithm", signer)
	}
	return ssh.NewSignerWithAlgorithms(rsaSigner, []string{ssh.KeyAlgoRSA})
}
