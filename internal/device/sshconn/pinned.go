package sshconn

import (
	"strings"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// PinnedHostKeys gives the keys that known_hosts holds for a device, in the
// order of the file, by the same reading that a connection is checked with:
// wildcards count, revoked keys do not. None where nothing is pinned or there is
// no file. A host that only a certificate authority vouches for has none either.
func (d *Dialer) PinnedHostKeys(dev *device.Device) ([]device.HostKey, error) {
	fail := func(err error) error {
		return &fault.Error{Kind: fault.HostKey, Act: "read pinned host keys", Device: dev.Name, Stage: stageHostKey, Err: err,
			Next: "correct " + dev.KnownHosts}
	}
	hosts, _, err := d.known.load(dev.KnownHosts)
	if err != nil {
		return nil, fail(err)
	}
	found := hosts.lookup(dev.Host, dev.Port)
	if found.err != nil {
		return nil, fail(found.err)
	}
	var keys []device.HostKey
	for _, have := range found.plain {
		if _, revoked := hosts.revokedLine(have.key); revoked {
			continue
		}
		keys = append(keys, device.HostKey{
			Device:    dev.Name,
			Host:      hostName(dev.Host, dev.Port),
			Type:      have.key.Type(),
			SHA256:    ssh.FingerprintSHA256(have.key),
			PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(have.key))),
		})
	}
	return keys, nil
}
