package sshconn

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Other writers hold the lock for as long as it takes to write a small file.
const (
	lockWait  = 5 * time.Second
	lockPause = 5 * time.Millisecond
)

// lockDir takes the lock on a folder that writers of its files share, in this
// process and in others. A file itself cannot carry it, because it is replaced. It
// waits for a bounded time, and no longer than ctx.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	tick := time.NewTicker(lockPause)
	defer tick.Stop()
	for {
		unlock, err := tryLock(dir)
		if err != nil || unlock != nil {
			return unlock, err
		}
		select {
		case <-tick.C:
		case <-waiting.Done():
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, fmt.Errorf("somebody else has had %s locked for %v", dir, lockWait)
		}
	}
}

// PinHostKeys adds host keys to a known_hosts file, as hashed lines, and tells
// which were added and which were there already. The file is replaced in one
// step that survives a crash and keeps its mode and every other line; it is made
// with mode 0600 where there is none.
//
// A host that is known by another key of the same type is fault.Conflict and
// nothing is written at all, unless replace is set: then the lines that name
// exactly this host (not those with wildcards) lose it, whatever their type, and
// what is passed is all that is known of it. A key that the file revokes is
// fault.HostKey in any case.
//
// The lines of one call share a salt. The names stay as hidden as with a salt
// each (the space of addresses is searched in seconds either way), and looking a
// host up among 10,000 costs one hash and not 10,000.
//
// It waits up to five seconds for another writer of the file, and no longer than ctx.
func PinHostKeys(ctx context.Context, knownHosts string, keys []device.HostKey, replace bool) (added, unchanged []device.HostKey, err error) {
	fail := func(kind fault.Kind, err error, next string) error {
		return &fault.Error{Kind: kind, Act: "pin host keys in " + knownHosts, Stage: stageHostKey, Err: err, Next: next}
	}
	parsed := make([]ssh.PublicKey, len(keys))
	for i, key := range keys {
		if parsed[i], err = pinnable(key); err != nil {
			return nil, nil, fail(fault.Invalid, fmt.Errorf("host key of %s: %w", foreign(key.Host), err), "")
		}
	}
	path, err := realPath(knownHosts)
	if err != nil {
		return nil, nil, fail(fault.Storage, err, "")
	}

	unlock, err := lockDir(ctx, filepath.Dir(path))
	if err != nil && ctx.Err() != nil {
		return nil, nil, fail(fault.KindOf(ctx.Err()), err, "")
	}
	if err != nil {
		return nil, nil, fail(fault.Storage, err, "")
	}
	defer unlock()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fail(fault.Storage, err, "")
	}
	hosts, err := parseKnownHosts(path, content)
	if err != nil {
		return nil, nil, fail(fault.Invalid, err, "correct that line")
	}
	edit := &pinEdit{hosts: hosts, forget: map[int]map[string]bool{}}
	for i, key := range keys {
		err := edit.pin(key, parsed[i], replace)
		if changed, ok := errors.AsType[*hostKeyError](err); ok && changed.reason == keyRevoked {
			return nil, nil, fail(fault.HostKey, changed, "give the host a new key; a revoked one is never accepted")
		}
		if err != nil {
			return nil, nil, fail(fault.Conflict, err, "if the change is expected, pin it in place of the old one")
		}
	}
	if replace {
		edit.forgetOthers(keys, parsed)
	}
	if len(edit.added) > 0 || len(edit.forget) > 0 {
		content, err = edit.apply(content)
		if err == nil {
			err = replaceFile(path, content)
		}
		if err != nil {
			return nil, nil, fail(fault.Storage, err, "")
		}
	}
	return edit.added, edit.unchanged, nil
}

// pinnable checks that a key is what it says it is.
func pinnable(key device.HostKey) (ssh.PublicKey, error) {
	if key.Host == "" || strings.ContainsAny(key.Host, " \t\r\n,*?!|#@") {
		return nil, errors.New("the host is not a name that known_hosts can hold")
	}
	parsed, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(key.PublicKey))
	if err != nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("the public key cannot be read")
	}
	if _, ok := parsed.(*ssh.Certificate); ok {
		return nil, errors.New("a certificate cannot be pinned, only its authority")
	}
	if key.SHA256 != "" && key.SHA256 != ssh.FingerprintSHA256(parsed) {
		return nil, fmt.Errorf("the fingerprint %s is not that of the public key", foreign(key.SHA256))
	}
	if key.Type != "" && key.Type != parsed.Type() {
		return nil, fmt.Errorf("the type %s is not that of the public key", foreign(key.Type))
	}
	return parsed, nil
}

// pinEdit collects what a call changes.
type pinEdit struct {
	hosts            *knownHosts
	forget           map[int]map[string]bool // line numbers to the names they lose
	lines            []pinLine
	added, unchanged []device.HostKey
}

type pinLine struct {
	name string
	key  ssh.PublicKey
}

// pinName is the name that a pinned host goes by in the file.
func pinName(host string) string { return canonicalName(strings.ToLower(host)) }

func (e *pinEdit) pin(key device.HostKey, parsed ssh.PublicKey, replace bool) error {
	name := pinName(key.Host)
	if line, revoked := e.hosts.revokedLine(parsed); revoked {
		return &hostKeyError{reason: keyRevoked, path: e.hosts.path, line: line, name: name, key: parsed}
	}
	for _, at := range e.hosts.named(name) {
		line := &e.hosts.lines[at]
		if line.ca {
			continue
		}
		have, err := parseKey(line.keyType, line.blob)
		if err == nil && bytes.Equal(have.Marshal(), parsed.Marshal()) {
			e.unchanged = append(e.unchanged, key)
			return nil
		}
		if err == nil && have.Type() == parsed.Type() && !replace {
			return &hostKeyError{reason: keyChanged, path: e.hosts.path, line: line.number, name: name, key: parsed, known: have}
		}
	}
	for _, line := range e.lines {
		if line.name == name && bytes.Equal(line.key.Marshal(), parsed.Marshal()) {
			return nil // twice in one call
		}
	}
	e.lines = append(e.lines, pinLine{name, parsed})
	e.added = append(e.added, key)
	return nil
}

// forgetOthers takes every other key of the hosts that are pinned.
func (e *pinEdit) forgetOthers(keys []device.HostKey, parsed []ssh.PublicKey) {
	kept := map[string]map[string]bool{}
	for i, key := range keys {
		name := pinName(key.Host)
		if kept[name] == nil {
			kept[name] = map[string]bool{}
		}
		kept[name][string(parsed[i].Marshal())] = true
	}
	for name, blobs := range kept {
		for _, at := range e.hosts.named(name) {
			line := &e.hosts.lines[at]
			if line.ca {
				continue
			}
			if key, err := parseKey(line.keyType, line.blob); err == nil && blobs[string(key.Marshal())] {
				continue
			}
			if e.forget[line.number] == nil {
				e.forget[line.number] = map[string]bool{}
			}
			e.forget[line.number][name] = true
		}
	}
}

// apply gives the new content. Lines that nothing is taken from stay as they are
// to the byte.
func (e *pinEdit) apply(content []byte) ([]byte, error) {
	var out bytes.Buffer
	number := 0
	for line := range bytes.Lines(content) {
		number++
		if names := e.forget[number]; names != nil {
			line = withoutNames(line, names)
		}
		out.Write(line)
	}
	if out.Len() > 0 && !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		out.WriteByte('\n')
	}
	salt := make([]byte, 20) // as long as the hash, as OpenSSH has it
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	for _, line := range e.lines {
		out.WriteString(hashedLine(salt, line.name, line.key))
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

// withoutNames takes names from a line's list of hosts; nothing is left of a
// line that named no other. A hashed line names one host.
func withoutNames(line []byte, names map[string]bool) []byte {
	start := bytes.IndexFunc(line, func(r rune) bool { return r != ' ' && r != '\t' })
	end := start + bytes.IndexAny(line[start:], " \t")
	list := string(line[start:end])
	if strings.HasPrefix(list, "|") {
		return nil
	}
	var left []string
	for name := range strings.SplitSeq(list, ",") {
		if !names[pinName(name)] {
			left = append(left, name)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return []byte(string(line[:start]) + strings.Join(left, ",") + string(line[end:]))
}

// replaceFile puts content in the place of a file, or makes it.
func replaceFile(path string, content []byte) (err error) {
	mode := fs.FileMode(0o600)
	stat, err := os.Stat(path)
	switch {
	case err == nil:
		mode = stat.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(content); err != nil {
		return err
	}
	if stat != nil {
		if err = keepOwner(tmp, stat); err != nil {
			return err
		}
	}
	if err = tmp.Chmod(mode); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}
