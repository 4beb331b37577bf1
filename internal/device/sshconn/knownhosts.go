package sshconn

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // it is the format's own hash
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// knownHosts is one known_hosts file as it was read; it is immutable but for the
// cache of lookups. The format is that of sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
//
// The parsers of x/crypto and skeema walk the file for every question, hashing
// the name once for each line: 8 ms a walk on 10,000 hashed lines, twice a dial,
// which over a fleet of that size is minutes of CPU. Here names are indexed and
// hashed names grouped by salt, keys are parsed when their host is asked for,
// and the answer is kept. The tests hold both parsers and ssh-keygen against it.
type knownHosts struct {
	path    string
	lines   []hostLine
	names   map[string][]int // plain names, in lower case, to lines
	hashed  []saltGroup
	salts   map[string]int // salt to its place in hashed
	globs   []int          // lines with wildcards or negations
	revoked map[string]int // key blob to line number
	ignored []int          // line numbers that are no host key lines

	mu    sync.Mutex
	known map[string]*hostKeys
}

// hostLine is one usable line.
type hostLine struct {
	number   int
	ca       bool
	hosts    string // the patterns, as written
	keyType  string
	blob     string // base64
	patterns []string
}

// saltGroup holds the hashed lines of one salt. ssh gives each line its own, so
// the first needs no map.
type saltGroup struct {
	salt string
	hash [20]byte
	line int
	more map[[20]byte][]int
}

func (g *saltGroup) add(hash [20]byte, line int) {
	if g.more == nil {
		g.more = map[[20]byte][]int{}
	}
	g.more[hash] = append(g.more[hash], line)
}

// hostKeys is what the file says about one host.
type hostKeys struct {
	plain []knownKey
	cas   []knownKey
	err   error // a line of this host that cannot be read
}

type knownKey struct {
	line int
	key  ssh.PublicKey
}

const (
	markerCA      = "@cert-authority"
	markerRevoked = "@revoked"
	hashMagic     = "|1|"
)

// hostName is a host as known_hosts names it: the bare name for port 22,
// otherwise [name]:port.
func hostName(host string, port int) string {
	host = strings.ToLower(strings.Trim(host, "[]"))
	if port == 0 || port == 22 {
		return host
	}
	return "[" + host + "]:" + strconv.Itoa(port)
}

// parseKnownHosts reads a file's content. Lines that are not host keys (and the
// keys of SSH version 1) are left out and their numbers kept; a revocation that
// cannot be read is an error, because leaving it out would allow the key.
func parseKnownHosts(path string, content []byte) (*knownHosts, error) {
	k := &knownHosts{
		path:    path,
		names:   map[string][]int{},
		salts:   map[string]int{},
		revoked: map[string]int{},
		known:   map[string]*hostKeys{},
	}
	number := 0
	for raw := range bytes.Lines(content) {
		number++
		fields := strings.Fields(string(raw))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		marker := ""
		if strings.HasPrefix(fields[0], "@") {
			marker, fields = fields[0], fields[1:]
		}
		if marker == markerRevoked {
			key, err := lineKey(fields)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: read the revoked key: %w", path, number, err)
			}
			k.revoked[string(key.Marshal())] = number
			continue
		}
		if len(fields) < 3 || (marker != "" && marker != markerCA) || isDigits(fields[1]) {
			k.ignored = append(k.ignored, number)
			continue
		}
		k.add(hostLine{number: number, ca: marker == markerCA, hosts: fields[0], keyType: fields[1], blob: fields[2]})
	}
	return k, nil
}

// add indexes a line.
func (k *knownHosts) add(line hostLine) {
	at := len(k.lines)
	if strings.HasPrefix(line.hosts, "|") {
		salt, hash, ok := decodeHash(line.hosts)
		if !ok {
			k.ignored = append(k.ignored, line.number)
			return
		}
		i, known := k.salts[salt]
		if !known {
			i = len(k.hashed)
			k.salts[salt] = i
			k.hashed = append(k.hashed, saltGroup{salt: salt, hash: hash, line: at})
		} else {
			k.hashed[i].add(hash, at)
		}
		k.lines = append(k.lines, line)
		return
	}
	patterns := strings.Split(strings.ToLower(line.hosts), ",")
	if strings.ContainsAny(line.hosts, "*?!") {
		line.patterns = patterns
		k.globs = append(k.globs, at)
	} else {
		for _, name := range patterns {
			name = canonicalName(name)
			if have := k.names[name]; len(have) == 0 || have[len(have)-1] != at {
				k.names[name] = append(have, at)
			}
		}
	}
	k.lines = append(k.lines, line)
}

// canonicalName turns [name]:22, which some tools write, into name.
func canonicalName(name string) string {
	if rest, ok := strings.CutSuffix(name, "]:22"); ok && strings.HasPrefix(rest, "[") {
		return rest[1:]
	}
	return name
}

func isDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// lineKey parses the key of a line's fields: hosts, type, blob.
func lineKey(fields []string) (ssh.PublicKey, error) {
	if len(fields) < 3 {
		return nil, errors.New("the line has no key")
	}
	return parseKey(fields[1], fields[2])
}

func parseKey(keyType, blob string) (ssh.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return nil, fmt.Errorf("the key is not base64: %w", err)
	}
	key, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return nil, err
	}
	if key.Type() != keyType {
		return nil, fmt.Errorf("the line says %s, its key is %s", foreign(keyType), foreign(key.Type()))
	}
	return key, nil
}

// decodeHash takes |1|salt|hash apart.
func decodeHash(s string) (salt string, hash [20]byte, ok bool) {
	rest, ok := strings.CutPrefix(s, hashMagic)
	if !ok {
		return "", hash, false
	}
	salt64, hash64, ok := strings.Cut(rest, "|")
	if !ok {
		return "", hash, false
	}
	rawSalt, err1 := base64.StdEncoding.DecodeString(salt64)
	rawHash, err2 := base64.StdEncoding.DecodeString(hash64)
	if err1 != nil || err2 != nil || len(rawHash) != len(hash) {
		return "", hash, false
	}
	return string(rawSalt), [20]byte(rawHash), true
}

// hashName is the hash of known_hosts: HMAC-SHA1 (RFC 2104) of the name under
// the salt. It is spelled out because setting up crypto/hmac, for one short
// message under each of 10,000 keys, costs more than the hashing.
func hashName(salt, name string) [20]byte {
	const block = sha1.BlockSize
	hash := sha1.Sum
	if len(salt) > block {
		sum := hash([]byte(salt))
		salt = string(sum[:])
	}
	var stack [block + 256]byte
	inner, outer := stack[:block], [block + sha1.Size]byte{}
	copy(inner, salt)
	copy(outer[:], salt)
	for i := range block {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := hash(append(inner, name...))
	copy(outer[block:], sum[:])
	return hash(outer[:])
}

// named gives the lines that name a host outright, hashed or plain, in order.
func (k *knownHosts) named(name string) []int {
	found := slices.Clone(k.names[name])
	for i := range k.hashed {
		group := &k.hashed[i]
		hash := hashName(group.salt, name)
		if hash == group.hash {
			found = append(found, group.line)
		}
		found = append(found, group.more[hash]...)
	}
	slices.Sort(found)
	return found
}

// matching gives all lines for a host, in order.
func (k *knownHosts) matching(host string, port int) []int {
	name := hostName(host, port)
	found := k.named(name)
	for _, at := range k.globs {
		if matchPatterns(k.lines[at].patterns, name) {
			found = append(found, at)
		}
	}
	// A wildcard without a port holds for every port, as in OpenSSH; a plain name
	// without one does not.
	if bare := hostName(host, 22); len(found) == 0 && bare != name {
		for _, at := range k.globs {
			if strings.Contains(k.lines[at].hosts, "*") && matchPatterns(k.lines[at].patterns, bare) {
				found = append(found, at)
			}
		}
	}
	slices.Sort(found)
	return found
}

// lookup gives what the file says about a host.
func (k *knownHosts) lookup(host string, port int) *hostKeys {
	name := hostName(host, port)
	k.mu.Lock()
	defer k.mu.Unlock()
	if have := k.known[name]; have != nil {
		return have
	}
	keys := &hostKeys{}
	for _, at := range k.matching(host, port) {
		line := &k.lines[at]
		key, err := parseKey(line.keyType, line.blob)
		if err != nil {
			keys.err = errors.Join(keys.err, fmt.Errorf("%s:%d: %w", k.path, line.number, err))
			continue
		}
		if line.ca {
			keys.cas = append(keys.cas, knownKey{line.number, key})
		} else {
			keys.plain = append(keys.plain, knownKey{line.number, key})
		}
	}
	k.known[name] = keys
	return keys
}

// matchPatterns applies a list of patterns with * ? and ! as OpenSSH does: one
// negated match rules the line out.
func matchPatterns(patterns []string, name string) bool {
	matched := false
	for _, p := range patterns {
		p, negated := strings.CutPrefix(p, "!")
		if !matchGlob(p, name) {
			continue
		}
		if negated {
			return false
		}
		matched = true
	}
	return matched
}

// matchGlob matches * and ? in time proportional to the product of the lengths.
func matchGlob(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// check decides about a key that host presents.
func (k *knownHosts) check(host string, port int, key ssh.PublicKey) error {
	keys := k.lookup(host, port)
	if line, ok := k.revokedLine(key); ok {
		return &hostKeyError{reason: keyRevoked, path: k.path, line: line, name: hostName(host, port), key: key}
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		return k.checkCertificate(host, port, cert, keys)
	}
	want := key.Marshal()
	for _, have := range keys.plain {
		if bytes.Equal(have.key.Marshal(), want) {
			return nil
		}
	}
	err := &hostKeyError{reason: keyUnknown, path: k.path, name: hostName(host, port), key: key, err: keys.err}
	if len(keys.plain) > 0 {
		err.reason, err.known, err.line = keyChanged, keys.plain[0].key, keys.plain[0].line
		// The line of the same type is the one that a person has to look at.
		for _, have := range keys.plain {
			if have.key.Type() == key.Type() {
				err.known, err.line = have.key, have.line
				break
			}
		}
	}
	return err
}

func (k *knownHosts) checkCertificate(host string, port int, cert *ssh.Certificate, keys *hostKeys) error {
	checker := ssh.CertChecker{
		IsHostAuthority: func(auth ssh.PublicKey, _ string) bool {
			return slices.ContainsFunc(keys.cas, func(ca knownKey) bool {
				return bytes.Equal(ca.key.Marshal(), auth.Marshal())
			})
		},
		IsRevoked: func(c *ssh.Certificate) bool {
			_, revoked := k.revokedLine(c)
			return revoked
		},
	}
	err := checker.CheckHostKey(net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port)), nil, cert)
	if err != nil {
		return &hostKeyError{reason: keyCertificate, path: k.path, name: hostName(host, port), key: cert, err: err}
	}
	return nil
}

// revokedLine looks a key up among the revoked, a certificate by its own key and
// by its authority's.
func (k *knownHosts) revokedLine(key ssh.PublicKey) (int, bool) {
	blobs := [][]byte{key.Marshal()}
	if cert, ok := key.(*ssh.Certificate); ok {
		blobs = [][]byte{cert.Key.Marshal(), cert.SignatureKey.Marshal()}
	}
	for _, blob := range blobs {
		if line, ok := k.revoked[string(blob)]; ok {
			return line, true
		}
	}
	return 0, false
}

// knownHostsFiles reads known_hosts files once for each version of them.
type knownHostsFiles struct {
	mu    sync.Mutex
	files map[string]*knownHostsFile
}

type knownHostsFile struct {
	mu    sync.Mutex
	stat  fs.FileInfo // nil when there was no file
	hosts *knownHosts
}

// load gives the present content of a file. A file that does not exist is empty.
// fresh says that this call has read it.
func (f *knownHostsFiles) load(path string) (hosts *knownHosts, fresh bool, err error) {
	f.mu.Lock()
	if f.files == nil {
		f.files = map[string]*knownHostsFile{}
	}
	file := f.files[path]
	if file == nil {
		file = &knownHostsFile{}
		f.files[path] = file
	}
	f.mu.Unlock()

	file.mu.Lock()
	defer file.mu.Unlock()
	stat, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		stat, err = nil, nil
	}
	if err != nil {
		return nil, false, err
	}
	if file.hosts != nil && sameVersion(file.stat, stat) {
		return file.hosts, false, nil
	}
	var content []byte
	if stat != nil {
		if content, err = os.ReadFile(path); err != nil {
			return nil, false, err
		}
	}
	hosts, err = parseKnownHosts(path, content)
	if err != nil {
		return nil, false, err
	}
	// The version was taken before reading: a change in between is read again.
	file.stat, file.hosts = stat, hosts
	return hosts, true, nil
}

func sameVersion(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// hashedLine is a known_hosts line with the name hashed under a salt.
func hashedLine(salt []byte, name string, key ssh.PublicKey) string {
	sum := hashName(string(salt), name)
	enc := base64.StdEncoding
	return hashMagic + enc.EncodeToString(salt) + "|" + enc.EncodeToString(sum[:]) + strings.TrimPrefix(xknownhosts.Line([]string{"x"}, key), "x")
}

// realPath follows links, so that replacing a file keeps the link to it.
func realPath(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return real, err
}
