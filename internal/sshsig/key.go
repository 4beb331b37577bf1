package sshsig

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Key is a key of ours to sign with. It is safe for concurrent use.
type Key struct{ signer ssh.Signer }

// OpenKey reads the private key of a file in OpenSSH's form, or makes an Ed25519
// key, for its owner alone, where there is no file; the public half is beside it
// with .pub at its end.
func OpenKey(path, comment string) (*Key, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	shown, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(shown))) + " " + comment + "\n"
	if err := writeNew(path+".pub", []byte(line)); err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	if err := writeNew(path, pem.EncodeToMemory(block)); err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return readKey(path)
}

func readKey(path string) (*Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("read the signing key %s: %w", path, err)
	}
	return &Key{signer}, nil
}

// writeNew writes a file whole, for its owner alone, and durably.
func writeNew(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// Sign is Sign with this key.
func (k *Key) Sign(namespace string, message []byte) ([]byte, error) {
	return Sign(k.signer, namespace, message)
}

// Public is the public half as authorized_keys has it, without a comment.
func (k *Key) Public() string { return Line(k.signer.PublicKey()) }

// Line gives a public key as authorized_keys has it, without a comment.
func Line(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// Fingerprint gives a key's SHA-256 as ssh-keygen -l prints it.
func Fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(key) }

// Among reports whether a key is in a file of public keys: one a line, as a .pub
// file, authorized_keys or allowed_signers has them. A line that holds no key is an
// error with its number.
func Among(key ssh.PublicKey, keys []byte) (bool, error) {
	found, number := false, 0
	for line := range bytes.Lines(keys) {
		number++
		text := bytes.TrimSpace(line)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		one, err := parseLine(text)
		if err != nil {
			return false, fmt.Errorf("line %d holds no public key: %w", number, err)
		}
		found = found || bytes.Equal(one.Marshal(), key.Marshal())
	}
	return found, nil
}

func parseLine(line []byte) (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err == nil {
		return key, nil
	}
	_, rest, found := bytes.Cut(line, []byte(" ")) // after the principals of allowed_signers
	if !found {
		return nil, err
	}
	key, _, _, _, err = ssh.ParseAuthorizedKey(rest)
	return key, err
}
