package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
)

// Age is a file encrypted with age, and the identity file that opens it: one that
// age-keygen made, or an SSH private key (ed25519 or RSA) without a passphrase.
// Both paths are absolute after loading. The encrypted file may be armored.
type Age struct {
	File     string `json:"file"`
	Identity string `json:"identity"`
}

// decrypt gives the plain text. Errors are worded here: the library's may quote
// what it could not read.
func (a Age) decrypt() ([]byte, error) {
	identities, err := readIdentities(a.Identity)
	if err != nil {
		return nil, err
	}
	sealed, err := readFile("age file", a.File)
	if err != nil {
		return nil, err
	}
	var src io.Reader = bytes.NewReader(sealed)
	if bytes.HasPrefix(bytes.TrimLeft(sealed, " \t\r\n"), []byte(armor.Header)) {
		src = armor.NewReader(src)
	}
	plain, err := age.Decrypt(src, identities...)
	if none, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		if slices.Contains(none.StanzaTypes, "scrypt") {
			return nil, fmt.Errorf("age file %s is encrypted with a passphrase: encrypt it to a recipient (age -r)", a.File)
		}
		return nil, fmt.Errorf("age file %s is not encrypted to the identity in %s", a.File, a.Identity)
	}
	if err != nil {
		return nil, fmt.Errorf("age file %s is damaged or is no age file", a.File)
	}
	value, err := io.ReadAll(io.LimitReader(plain, maxValue+1))
	if err != nil {
		return nil, fmt.Errorf("age file %s is damaged: it ends early or was changed", a.File)
	}
	if len(value) > maxValue {
		return nil, fmt.Errorf("what is in age file %s is larger than %d bytes", a.File, maxValue)
	}
	return value, nil
}

// readIdentities reads an identity file: SSH keys are PEM, age's have one key a
// line.
func readIdentities(path string) ([]age.Identity, error) {
	raw, err := readFile("age identity", path)
	if err != nil {
		return nil, err
	}
	start := bytes.TrimLeft(raw, " \t\r\n")
	switch {
	case bytes.HasPrefix(start, []byte(armor.Header)), bytes.HasPrefix(start, []byte("age-encryption.org/")):
		return nil, fmt.Errorf("age identity %s is itself encrypted, and nobody is there to type its passphrase", path)
	case bytes.HasPrefix(start, []byte("-----BEGIN")):
		id, err := agessh.ParseIdentity(raw)
		if err != nil {
			return nil, fmt.Errorf("age identity %s is no SSH private key without a passphrase (ed25519 or RSA)", path)
		}
		return []age.Identity{id}, nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("age identity %s holds no age identity (AGE-SECRET-KEY-1...) or something else beside it; plugins are not supported", path)
	}
	return ids, nil
}
