package sshconn

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/fault"
)

// keyReason says why a host key was not accepted.
type keyReason int

const (
	keyUnknown keyReason = iota
	keyChanged
	keyRevoked
	keyCertificate
)

// hostKeyError is a host key that known_hosts does not vouch for.
type hostKeyError struct {
	reason keyReason
	path   string
	line   int           // of path; where the reason has one
	name   string        // as known_hosts names the host
	key    ssh.PublicKey // presented
	known  ssh.PublicKey // on that line, for keyChanged
	err    error
}

func (e *hostKeyError) Error() string {
	seen := e.key.Type() + " " + ssh.FingerprintSHA256(e.key)
	switch e.reason {
	case keyChanged:
		return fmt.Sprintf("the host key of %s has CHANGED: it presents %s, but %s:%d has %s %s; somebody may be between; no credential was sent",
			e.name, seen, e.path, e.line, e.known.Type(), ssh.FingerprintSHA256(e.known))
	case keyRevoked:
		return fmt.Sprintf("the host key of %s is REVOKED by %s:%d: it presents %s; no credential was sent", e.name, e.path, e.line, seen)
	case keyCertificate:
		return fmt.Sprintf("the host certificate of %s is not accepted: %s (%s); no credential was sent", e.name, foreign(e.err.Error()), seen)
	default:
		if e.err != nil {
			return fmt.Sprintf("the host key of %s cannot be checked: %v; it presents %s; no credential was sent", e.name, e.err, seen)
		}
		return fmt.Sprintf("the host key of %s is not known: it presents %s, and %s has no key for it; no credential was sent", e.name, seen, e.path)
	}
}

func (e *hostKeyError) Unwrap() error { return e.err }

// hostKeyFault tells the operator what to do about a host key.
func (ep endpoint) hostKeyFault(err *hostKeyError) *fault.Error {
	var next string
	switch {
	case err.reason == keyRevoked:
		next = "give the host a new key; a revoked one is never accepted"
	case err.reason == keyCertificate:
		next = "renew the host's certificate, or correct the @cert-authority lines of " + err.path
	case err.reason == keyUnknown && err.err != nil:
		next = "correct that line"
	case ep.name == "" && err.reason == keyChanged:
		next = fmt.Sprintf("if the change is expected, correct line %d of %s", err.line, err.path)
	case ep.name == "":
		next = "compare the fingerprint with the host's own, then add its key to " + err.path
	case err.reason == keyChanged:
		next = "if the change is expected, compare the fingerprint with the host's own and run `fleetctl device trust --replace " + ep.name + "`"
	default:
		next = "compare the fingerprint with the host's own, then run `fleetctl device trust " + ep.name + "`"
	}
	return ep.fail(fault.HostKey, stageHostKey, err, next)
}

// config gives the algorithms for an endpoint: the library's secure ones, and
// for a device that asks for it the old ones after them.
func (ep endpoint) config() (cfg ssh.Config, hostKeys []string) {
	algs := ssh.SupportedAlgorithms()
	// The library lists RSA first; people compare the fingerprint of the key that
	// OpenSSH would show them.
	slices.SortStableFunc(algs.HostKeys, func(a, b string) int { return keyRank(a) - keyRank(b) })
	if ep.ssh.LegacyAlgorithms {
		old := ssh.InsecureAlgorithms()
		algs.KeyExchanges = append(algs.KeyExchanges, old.KeyExchanges...)
		algs.Ciphers = append(algs.Ciphers, old.Ciphers...)
		algs.MACs = append(algs.MACs, old.MACs...)
		algs.HostKeys = append(algs.HostKeys, old.HostKeys...)
	}
	return ssh.Config{KeyExchanges: algs.KeyExchanges, Ciphers: algs.Ciphers, MACs: algs.MACs}, algs.HostKeys
}

// orderHostKeys puts first what known_hosts can check: certificates where an
// authority is known for the host, then the types of its known keys. The other
// plain types follow, so that a host that changed its type is reported as
// changed. Certificates nobody can check are left out; a server that has one
// shows its plain key then.
func orderHostKeys(allowed []string, keys *hostKeys) []string {
	var certs, known, rest []string
	for _, alg := range allowed {
		format := keyFormat(alg)
		switch {
		case isCertAlgorithm(alg):
			if len(keys.cas) > 0 {
				certs = append(certs, alg)
			}
		case slices.ContainsFunc(keys.plain, func(k knownKey) bool { return k.key.Type() == format }):
			known = append(known, alg)
		default:
			rest = append(rest, alg)
		}
	}
	return slices.Concat(certs, known, rest)
}

// keyRank orders key types as OpenSSH prefers them.
func keyRank(alg string) int {
	switch {
	case strings.Contains(alg, "ed25519"):
		return 0
	case strings.Contains(alg, "ecdsa"):
		return 1
	default:
		return 2
	}
}

// keyFormat is the key type behind a signature algorithm.
func keyFormat(alg string) string {
	switch alg {
	case ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512:
		return ssh.KeyAlgoRSA
	}
	return alg
}

// isCertAlgorithm goes by the naming rule of OpenSSH's PROTOCOL.certkeys.
func isCertAlgorithm(alg string) bool { return strings.Contains(alg, "-cert-v0") }

// negotiationFault explains a server with which no algorithm is shared.
func (ep endpoint) negotiationFault(err *ssh.AlgorithmNegotiationError) *fault.Error {
	offers := slices.Clone(err.RequestedAlgorithms)
	for i := range offers {
		offers[i] = foreign(offers[i])
	}
	told := fmt.Errorf("no common %s algorithm: it offers %s", foreign(err.What), foreign(fmt.Sprint(offers)))
	old := ssh.InsecureAlgorithms()
	legacy := slices.Concat(old.KeyExchanges, old.Ciphers, old.MACs, old.HostKeys)
	if !ep.ssh.LegacyAlgorithms && slices.ContainsFunc(offers, func(a string) bool { return slices.Contains(legacy, a) }) {
		return ep.fail(fault.Denied, stageHandshake, told,
			"it only offers algorithms that are no longer safe: update it, or set `ssh: {legacy_algorithms: true}` for "+ep.label+" in the inventory")
	}
	return ep.fail(fault.Unsupported, stageHandshake, told, "enable an algorithm on the device that this program has")
}
