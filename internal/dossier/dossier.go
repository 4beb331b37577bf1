// Package dossier is the archive of what was gathered about a device after an
// error: one .tar.gz with the parts, a manifest with the hash of each, and an SSH
// signature of the manifest. Verify needs nothing but the archive, and neither do
// tar, sha256sum and ssh-keygen:
//
//	NAME/manifest.json
//	NAME/manifest.json.sig     ssh-keygen -Y verify -n dossier@capfleet
//	NAME/parts/...
//
// The manifest is authoritative about what belongs to a dossier; a part that could
// not be had is in it with the reason. An archive is hostile until it is verified:
// nothing of it is written anywhere, and all of it is bounded.
package dossier

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/sshsig"
)

const (
	// Format is of the manifest.
	Format = "capfleet-dossier/1"
	// Namespace is of the signature.
	Namespace = "dossier@capfleet"

	// MaxPart bounds a part, in bytes.
	MaxPart = 4 << 20
	// MaxParts bounds how many there are.
	MaxParts = 100

	manifestFile  = "manifest.json"
	signatureFile = "manifest.json.sig"
	maxManifest   = 1 << 20
)

// State says how a part was had.
type State string

// The states of a part.
const (
	Complete State = "complete"
	Partial  State = "partial" // its beginning or its end is missing
	Failed   State = "failed"  // there is no file
	Absent   State = "absent"  // the device has no such thing
)

// Part is one thing that was asked for.
type Part struct {
	Name   string `json:"name"`
	Source string `json:"source"` // bmc, device or fleetd
	// Request is what was asked: a command line, a protocol.
	Request string `json:"request"`
	State   State  `json:"state"`
	Reason  string `json:"reason,omitempty"`
	File    string `json:"file,omitempty"` // below the archive's folder
	SHA256  string `json:"sha256,omitempty"`
	Bytes   int64  `json:"bytes"`

	CollectedAt time.Time `json:"collected_at"`
	Seconds     float64   `json:"seconds"` // that it took

	// Content is the file; Write takes it, Verify leaves it out.
	Content []byte `json:"-"`
}

// Manifest says what a dossier is about and what is in it.
type Manifest struct {
	Format    string    `json:"format"`
	Device    string    `json:"device"`
	Platform  string    `json:"platform"`
	Address   string    `json:"address"`
	BMC       string    `json:"bmc"` // empty where it has none
	Site      string    `json:"site"`
	CreatedAt time.Time `json:"created_at"`
	// Signer is the public key that signs, as authorized_keys has it.
	Signer string `json:"signer"`
	Parts  []Part `json:"parts"`
}

// Signer signs; *sshsig.Key does.
type Signer interface {
	Sign(namespace string, message []byte) ([]byte, error)
	Public() string
}

// Name is the name of a dossier's folder.
func (m *Manifest) Name() string {
	return m.Device + "-dossier-" + m.CreatedAt.UTC().Format("20060102T150405Z")
}

// Write writes the archive. It fills in the hashes, sizes and names of the parts'
// files, the format and the signer.
func Write(w io.Writer, m *Manifest, signer Signer) error {
	if len(m.Parts) > MaxParts {
		return fault.New(fault.TooLarge, "a dossier has at most %d parts", MaxParts)
	}
	m.Format, m.Signer = Format, signer.Public()
	for i := range m.Parts {
		p := &m.Parts[i]
		if p.State != Complete && p.State != Partial {
			continue
		}
		sum := sha256.Sum256(p.Content)
		p.SHA256, p.Bytes = hex.EncodeToString(sum[:]), int64(len(p.Content))
		p.File = fmt.Sprintf("parts/%02d-%s", i+1, fileName(p.Name))
	}
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "write the manifest", err)
	}
	manifest = append(manifest, '\n')
	signature, err := signer.Sign(Namespace, manifest)
	if err != nil {
		return fault.Wrap(fault.Internal, "sign the manifest", err)
	}
	zipped := gzip.NewWriter(w)
	out := tar.NewWriter(zipped)
	add := func(name string, content []byte) error {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(m.Name(), name), Mode: 0o600, Size: int64(len(content)), ModTime: m.CreatedAt, Format: tar.FormatPAX}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		_, err := out.Write(content)
		return err
	}
	err = errors.Join(add(manifestFile, manifest), add(signatureFile, signature))
	for i := range m.Parts {
		if p := &m.Parts[i]; p.File != "" && err == nil {
			err = add(p.File, p.Content)
		}
	}
	if err == nil {
		err = errors.Join(out.Close(), zipped.Close())
	}
	return fault.Wrap(fault.Storage, "write the dossier", err)
}

// fileName keeps of a name what every file system takes.
func fileName(name string) string {
	out := make([]byte, 0, len(name))
	for _, b := range []byte(name) {
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '.' || b == '-' || b == '_') {
			b = '-'
		}
		out = append(out, b)
	}
	return string(out)
}

// Report is what Verify found.
type Report struct {
	Manifest    Manifest
	Key         string // that signed, as authorized_keys has it
	Fingerprint string // of it
	// Trusted says whether the key is among those that were given; nil where none
	// were.
	Trusted *bool
	// Problems are what is not as the manifest says, each in a line.
	Problems []string
}

// Verify reads an archive, checks its signature and compares every file with the
// manifest. Keys are public keys to trust, as a .pub file or allowed_signers has
// them; nil compares with none. An archive that cannot be read, and one whose
// manifest is not what was signed, is an error; what else is wrong is in
// Report.Problems.
func Verify(r io.Reader, keys []byte) (Report, error) {
	var rep Report
	fail := func(err error) (Report, error) {
		return Report{}, fault.Wrap(fault.Unparsed, "verify the dossier", err)
	}
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return fail(err)
	}
	in := tar.NewReader(io.LimitReader(zipped, MaxParts*(MaxPart+4096)+4*maxManifest))
	manifest, folder, err := member(in, manifestFile)
	if err != nil {
		return fail(err)
	}
	signature, _, err := member(in, signatureFile)
	if err != nil {
		return fail(err)
	}
	key, err := sshsig.Verify(signature, Namespace, manifest)
	if err != nil {
		return fail(err)
	}
	rep.Key, rep.Fingerprint = sshsig.Line(key), sshsig.Fingerprint(key)
	if keys != nil {
		trusted, err := sshsig.Among(key, keys)
		if err != nil {
			return Report{}, fault.Wrap(fault.Invalid, "read the keys to trust", err)
		}
		rep.Trusted = &trusted
	}
	if err := json.Unmarshal(manifest, &rep.Manifest); err != nil {
		return fail(err)
	}
	switch {
	case rep.Manifest.Format != Format:
		return fail(fmt.Errorf("its format is %q; this program reads %s", rep.Manifest.Format, Format))
	case rep.Manifest.Signer != rep.Key:
		return fail(errors.New("the manifest names another key than the one that signed it"))
	}
	rep.Problems, err = compare(in, folder, rep.Manifest.Parts)
	if err != nil {
		return fail(err)
	}
	return rep, nil
}

// member reads the next file of the archive, which has to have this name.
func member(in *tar.Reader, name string) (content []byte, folder string, err error) {
	header, err := in.Next()
	if err != nil {
		return nil, "", fmt.Errorf("%s is missing: %w", name, err)
	}
	if path.Base(header.Name) != name || header.Typeflag != tar.TypeReg || header.Size > maxManifest {
		return nil, "", fmt.Errorf("%s is missing: %q is in its place", name, header.Name)
	}
	content, err = io.ReadAll(in)
	return content, path.Dir(header.Name), err
}

// compare gives what is not as the manifest says.
func compare(in *tar.Reader, folder string, parts []Part) (problems []string, err error) {
	wanted := map[string]Part{}
	for _, p := range parts {
		if p.File != "" {
			wanted[path.Join(folder, p.File)] = p
		}
	}
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		p, ok := wanted[header.Name]
		if !ok {
			problems = append(problems, fmt.Sprintf("%q is not in the manifest", header.Name))
			continue
		}
		delete(wanted, header.Name)
		sum := sha256.New()
		n, err := io.Copy(sum, in)
		if err != nil {
			return nil, err
		}
		if n != p.Bytes || hex.EncodeToString(sum.Sum(nil)) != p.SHA256 {
			problems = append(problems, fmt.Sprintf("%s is not what was gathered", p.File))
		}
	}
	for _, p := range wanted {
		problems = append(problems, p.File+" is missing")
	}
	slices.Sort(problems)
	return problems, nil
}
