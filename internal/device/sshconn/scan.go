package sshconn

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
)

// errScanned ends a handshake once the host key is seen.
var errScanned = errors.New("host key seen")

// ScanHostKeys reads every host key that a device offers, sorted as OpenSSH
// prefers them. It takes one handshake for each type of key and one more to
// learn that there are no others; each ends before the login, so that nothing
// but our version is sent. A device behind jump hosts is reached through them,
// and they are logged in to, with strict host keys as ever.
//
// Keys are what the network showed: it is for a person to compare them.
func (d *Dialer) ScanHostKeys(ctx context.Context, dev *device.Device) ([]device.HostKey, error) {
	ep := deviceEndpoint(dev)
	via, err := d.hops.acquire(ctx, dev.Jump, dev.KnownHosts)
	if err != nil {
		return nil, ep.jumped(err)
	}
	if via != nil {
		defer via.release()
	}
	cfg, algs := ep.config()
	algs = slices.DeleteFunc(algs, isCertAlgorithm) // their keys are offered plain too
	var keys []device.HostKey
	for len(algs) > 0 {
		key, err := d.scanKey(ctx, ep, via, cfg, algs)
		if mismatch, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok {
			if len(keys) > 0 && mismatch.What == "host key" {
				break
			}
			return nil, ep.negotiationFault(mismatch)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, device.HostKey{
			Device: dev.Name,
			Host:   hostName(ep.host, ep.port),
			Type:   key.Type(),
			SHA256: ssh.FingerprintSHA256(key),
			// Without the line end that the library adds.
			PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))),
		})
		algs = slices.DeleteFunc(algs, func(alg string) bool { return keyFormat(alg) == key.Type() })
	}
	slices.SortStableFunc(keys, func(a, b device.HostKey) int { return keyRank(a.Type) - keyRank(b.Type) })
	return keys, nil
}

// scanKey makes one handshake up to the host key.
func (d *Dialer) scanKey(ctx context.Context, ep endpoint, via *hop, cfg ssh.Config, algs []string) (ssh.PublicKey, error) {
	ctx, cancel := within(ctx, ep.ssh.ConnectTimeout, "ssh.connect_timeout")
	defer cancel()
	conn, err := d.open(ctx, ep, via)
	if err != nil {
		return nil, err
	}
	raw := &meter{Conn: conn}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	defer func() { _ = raw.Close() }()
	seen := make(chan ssh.PublicKey, 1)
	_, _, _, err = ssh.NewClientConn(raw, ep.address(), &ssh.ClientConfig{
		Config:            cfg,
		HostKeyAlgorithms: algs,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			select {
			case seen <- key:
			default:
			}
			return errScanned
		},
	})
	select {
	case key := <-seen:
		return key, nil
	default:
	}
	if _, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok {
		return nil, err
	}
	return nil, (&login{ep: ep, wire: raw}).failure(ctx, err)
}
