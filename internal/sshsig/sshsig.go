// Package sshsig signs and verifies with SSH keys in the format of OpenSSH
// (PROTOCOL.sshsig), so that `ssh-keygen -Y verify` takes what it signs and a
// signature can be checked without any program of ours.
package sshsig

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	magic     = "SSHSIG"
	version   = 1
	algorithm = "sha512"

	begin = "-----BEGIN SSH SIGNATURE-----"
	end   = "-----END SSH SIGNATURE-----"
	width = 70

	// maxSignature bounds an armoured signature, in bytes: RSA of 16,384 bits has 6 kB.
	maxSignature = 64 << 10
)

// wrapper is the signature as it is kept, after the magic.
type wrapper struct {
	Version   uint32
	PublicKey string
	Namespace string
	Reserved  string
	Hash      string
	Signature string
}

// signed is what the key signs, after the magic.
type signed struct {
	Namespace string
	Reserved  string
	Hash      string
	Sum       string
}

func digest(namespace string, message []byte) []byte {
	sum := sha512.Sum512(message)
	return append([]byte(magic), ssh.Marshal(signed{namespace, "", algorithm, string(sum[:])})...)
}

// Sign signs a message for a namespace, which says what the signature is for and
// so keeps it from being taken for another. It gives the armoured signature.
func Sign(signer ssh.Signer, namespace string, message []byte) ([]byte, error) {
	if namespace == "" {
		return nil, errors.New("sign: the namespace is empty")
	}
	var (
		sig *ssh.Signature
		err error
	)
	data := digest(namespace, message)
	if rsa, is := signer.(ssh.AlgorithmSigner); is && signer.PublicKey().Type() == ssh.KeyAlgoRSA {
		sig, err = rsa.SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA512) // SHA-1 is not allowed
	} else {
		sig, err = signer.Sign(rand.Reader, data)
	}
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	blob := append([]byte(magic), ssh.Marshal(wrapper{
		Version: version, PublicKey: string(signer.PublicKey().Marshal()), Namespace: namespace, Hash: algorithm, Signature: string(ssh.Marshal(sig)),
	})...)
	text := base64.StdEncoding.EncodeToString(blob)
	var out bytes.Buffer
	out.WriteString(begin + "\n")
	for ; len(text) > width; text = text[width:] {
		out.WriteString(text[:width] + "\n")
	}
	out.WriteString(text + "\n" + end + "\n")
	return out.Bytes(), nil
}

// Verify checks an armoured signature of a message and gives the key that made
// it. Whether that key is trusted is the caller's to say.
func Verify(armoured []byte, namespace string, message []byte) (ssh.PublicKey, error) {
	fail := func(format string, args ...any) (ssh.PublicKey, error) {
		return nil, fmt.Errorf("verify the signature: "+format, args...)
	}
	if len(armoured) > maxSignature {
		return fail("it is larger than %d bytes", maxSignature)
	}
	body, begun := strings.CutPrefix(strings.TrimSpace(string(armoured)), begin)
	body, ended := strings.CutSuffix(body, end)
	if !begun || !ended {
		return fail("it is no SSH signature")
	}
	blob, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(body), ""))
	if err != nil {
		return fail("%w", err)
	}
	rest, marked := bytes.CutPrefix(blob, []byte(magic))
	if !marked {
		return fail("it is no SSH signature")
	}
	var w wrapper
	if err := ssh.Unmarshal(rest, &w); err != nil {
		return fail("%w", err)
	}
	switch {
	case w.Version != version:
		return fail("it has version %d", w.Version)
	case w.Namespace != namespace:
		return fail("it is for %q and not for %q", w.Namespace, namespace)
	case w.Hash != algorithm:
		return fail("its hash is %q; only %s is taken", w.Hash, algorithm)
	}
	key, err := ssh.ParsePublicKey([]byte(w.PublicKey))
	if err != nil {
		return fail("%w", err)
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal([]byte(w.Signature), &sig); err != nil {
		return fail("%w", err)
	}
	if sig.Format == ssh.KeyAlgoRSA {
		return fail("it is made with SHA-1")
	}
	if err := key.Verify(digest(namespace, message), &sig); err != nil {
		return fail("%w", err)
	}
	return key, nil
}
