package sshconn

import (
	"slices"

	"capfleet/internal/fault"
)

// Trusts reports whether a known_hosts file vouches for a host at all: by a key
// that is not revoked, or by a certificate authority. It is what decides whether a
// connection has a chance, before one is tried.
func (d *Dialer) Trusts(knownHosts, host string, port int) (bool, error) {
	hosts, _, err := d.known.load(knownHosts)
	if err != nil {
		return false, &fault.Error{Kind: fault.HostKey, Act: "read pinned host keys", Stage: stageHostKey, Err: err, Next: "correct " + knownHosts}
	}
	found := hosts.lookup(host, port)
	if found.err != nil {
		return false, &fault.Error{Kind: fault.HostKey, Act: "read pinned host keys", Stage: stageHostKey, Err: found.err, Next: "correct " + knownHosts}
	}
	return slices.ContainsFunc(slices.Concat(found.plain, found.cas), func(have knownKey) bool {
		_, revoked := hosts.revokedLine(have.key)
		return !revoked
	}), nil
}
