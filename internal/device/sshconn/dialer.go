package sshconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// Options of a Dialer. The zero value works.
type Options struct {
	Logger *slog.Logger
	// DialContext opens TCP connections; nil is a net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// HopIdle is how long the connection to a jump host stays open without a device
	// behind it: 0 is 30 seconds, negative closes it with its last device.
	HopIdle time.Duration
}

// Dialer connects to devices. It is safe for concurrent use. What it shares
// between connections are jump hosts, secrets that take time to read, parsed
// private keys and known_hosts files.
type Dialer struct {
	log     *slog.Logger
	tcp     func(ctx context.Context, network, address string) (net.Conn, error)
	hops    hops
	secrets secret.Resolver
	keys    keyCache
	known   knownHostsFiles
}

var (
	_ device.Dialer     = (*Dialer)(nil)
	_ device.KeyScanner = (*Dialer)(nil)
)

// NewDialer makes a Dialer.
func NewDialer(opts Options) *Dialer {
	d := &Dialer{log: opts.Logger, tcp: opts.DialContext}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.tcp == nil {
		d.tcp = (&net.Dialer{}).DialContext
	}
	d.hops.dialer = d
	d.hops.idle = opts.HopIdle
	if opts.HopIdle == 0 {
		d.hops.idle = defaultHopIdle
	}
	return d
}

// Close ends the connections to jump hosts and forgets secrets and private keys.
// Close the devices' connections first: those through a jump host are cut.
func (d *Dialer) Close() error {
	d.hops.close()
	d.secrets.Close()
	d.keys.forget()
	return nil
}

// Dial connects and logs in. It ends with ctx, and with the device's connect
// timeout once its jump hosts are connected; each of them has its own. Every
// error is a *fault.Error with the device, the stage and what to do next.
func (d *Dialer) Dial(ctx context.Context, dev *device.Device) (device.Conn, error) {
	l, facts, err := d.establish(ctx, deviceEndpoint(dev), dev.Jump)
	if err != nil {
		return nil, err
	}
	return newConn(l, dev, facts, &d.secrets, d.log), nil
}

// establish resolves the secrets, goes through the chain of jump hosts and logs
// in to one endpoint.
func (d *Dialer) establish(ctx context.Context, ep endpoint, chain []device.Hop) (*link, device.ConnFacts, error) {
	none := device.ConnFacts{}
	login, closeAgent, err := d.prepare(ctx, ep)
	if err != nil {
		return nil, none, err
	}
	defer closeAgent()
	hosts, err := d.knownHosts(ep)
	if err != nil {
		return nil, none, err
	}
	via, err := d.hops.acquire(ctx, chain, ep.knownHosts)
	if err != nil {
		return nil, none, ep.jumped(err)
	}
	l, facts, err := d.connect(ctx, login, hosts, via)
	if err != nil {
		if via != nil {
			via.release()
		}
		return nil, none, err
	}
	return l, facts, nil
}

// connect dials and logs in. The link keeps the use of the hop.
func (d *Dialer) connect(ctx context.Context, login *login, hosts *knownHosts, via *hop) (*link, device.ConnFacts, error) {
	ep := login.ep
	ctx, cancel := within(ctx, ep.ssh.ConnectTimeout, "ssh.connect_timeout")
	defer cancel()
	var facts device.ConnFacts
	start := time.Now()
	conn, err := d.open(ctx, ep, via)
	if err != nil {
		return nil, facts, err
	}
	facts.DialTime = time.Since(start)

	start = time.Now()
	raw := &meter{Conn: conn}
	login.wire = raw
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	client, chans, reqs, err := login.handshake(raw, hosts)
	if err != nil {
		stop()
		_ = raw.Close()
		return nil, facts, login.failure(ctx, err)
	}
	if !stop() {
		newLink(ep, raw, nil, client, chans, reqs).close()
		return nil, facts, ep.ended(ctx, stageAuth)
	}
	facts.LoginTime = time.Since(start)
	facts.ServerVersion = foreign(string(client.ServerVersion()))
	facts.HostKeyType, facts.HostKeySHA256 = login.presented()
	if via == nil {
		facts.LocalAddress = localAddress(conn)
	}
	return newLink(ep, raw, via, client, chans, reqs), facts, nil
}

// knownHosts loads the endpoint's known_hosts.
func (d *Dialer) knownHosts(ep endpoint) (*knownHosts, error) {
	if ep.knownHosts == "" {
		return nil, ep.fail(fault.Invalid, stageHostKey, errors.New("no known_hosts file is configured"), "name one in the inventory")
	}
	hosts, fresh, err := d.known.load(ep.knownHosts)
	if err != nil {
		return nil, ep.fail(fault.Invalid, stageHostKey, fmt.Errorf("read known_hosts: %w", err), "correct the file")
	}
	if fresh && len(hosts.ignored) > 0 {
		d.log.Warn("known_hosts has lines that are not host keys", "file", hosts.path, "lines", hosts.ignored)
	}
	return hosts, nil
}

// open makes the TCP connection.
func (d *Dialer) open(ctx context.Context, ep endpoint, via *hop) (net.Conn, error) {
	if via != nil {
		return via.dial(ctx, ep)
	}
	conn, err := d.tcp(ctx, "tcp", ep.address())
	switch dns, unresolved := errors.AsType[*net.DNSError](err); {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil && unresolved:
		return nil, ep.ended(ctx, stageResolve)
	case ctx.Err() != nil:
		return nil, ep.ended(ctx, stageDial)
	case unresolved:
		return nil, ep.fail(fault.Unreachable, stageResolve, fmt.Errorf("%s cannot be resolved: %s", ep.host, dns.Err), ep.hint(stageResolve))
	default:
		return nil, ep.fail(fault.Unreachable, stageDial, err, ep.hint(stageDial))
	}
}

// handshake exchanges keys and logs in. Closing conn ends it at any time.
func (l *login) handshake(conn net.Conn, hosts *knownHosts) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	algs, hostKeys := l.ep.config()
	return ssh.NewClientConn(conn, l.ep.address(), &ssh.ClientConfig{
		Config:            algs,
		User:              l.ep.creds.Username,
		AuthCallback:      l.next,
		HostKeyAlgorithms: orderHostKeys(hostKeys, hosts.lookup(l.ep.host, l.ep.portOrDefault())),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			return l.hostKeySeen(hosts, key)
		},
	})
}

// localAddress is our own address, without the port.
func localAddress(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return ""
	}
	return host
}
