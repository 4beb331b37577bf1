package sim

import (
	"context"
	"crypto/ed25519"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// loginGrace is how long a client may take to log in, as OpenSSH has it.
	loginGrace = 2 * time.Minute
	// maxSessions is how many sessions one connection may have, as OpenSSH has it.
	maxSessions = 10
)

var errRefused = errors.New("permission denied")

// accept serves a listener until it is closed.
func (d *device) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors: those who hold them will let go.
			d.fleet.log.Warn("simulated device cannot accept", "device", d.name, "err", err)
			if pause(d.fleet.ctx, 50*time.Millisecond) != nil {
				return
			}
			continue
		}
		if d.jump != "" {
			refuseTCP(conn) // the site's firewall: only the bastion gets through
			continue
		}
		if !d.fleet.spawn(func() { d.serve(conn) }) {
			_ = conn.Close() // the fleet is closing
		}
	}
}

// refuseTCP ends a connection with a reset.
func refuseTCP(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the end is a polite one; no harm either
	}
	_ = conn.Close()
}

// dialInside connects a bastion to this device. The bytes never leave the
// process, so that no port other than the bastion's leads to devices behind it.
func (d *device) dialInside(from string) (net.Conn, error) {
	if !d.isUp() {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	if !d.fleet.spawn(func() { d.serve(insideConn{far, from}) }) {
		return nil, errors.Join(errors.New("connection refused"), near.Close(), far.Close())
	}
	return near, nil
}

// insideConn is a connection through a bastion, as the device behind it sees it.
type insideConn struct {
	net.Conn
	from string
}

func (c insideConn) RemoteAddr() net.Addr { return bastionAddr(c.from) }

type bastionAddr string

func (bastionAddr) Network() string  { return "tcp" }
func (a bastionAddr) String() string { return string(a) }

// connection is one client's SSH connection.
type connection struct {
	dev      *device
	raw      net.Conn
	ssh      *ssh.ServerConn
	account  account
	ctx      context.Context //nolint:containedctx // of the connection's life
	sessions atomic.Int64
}

// serve is one connection from its first byte to its last.
func (d *device) serve(raw net.Conn) {
	defer func() { _ = raw.Close() }() // ends whatever still uses it
	if !d.track(raw) {
		return
	}
	defer d.untrack(raw)

	f := d.ordered.Load()
	if f.mute {
		_, _ = io.Copy(io.Discard, raw) // until the client leaves or the power goes
		return
	}
	config, err := d.serverConfig(f)
	if err != nil {
		d.fleet.log.Error("simulated device cannot serve", "device", d.name, "err", err)
		return
	}
	if raw.SetDeadline(time.Now().Add(loginGrace)) != nil {
		return
	}
	sc, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		d.fleet.log.Debug("simulated device: no login", "device", d.name, "err", err)
		return
	}
	if raw.SetDeadline(time.Time{}) != nil {
		return
	}
	ctx, cancel := context.WithCancel(d.fleet.ctx)
	defer cancel()
	c := &connection{dev: d, raw: raw, ssh: sc, ctx: ctx}
	c.account, _ = d.account(sc.User())
	d.note(eventLogin, "user=%s method=%s from=%s", sc.User(), sc.Permissions.Extensions["method"], raw.RemoteAddr())

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { c.globalRequests(requests) })
	for nc := range channels {
		switch nc.ChannelType() {
		case "session":
			wg.Go(func() { c.session(nc) })
		case "direct-tcpip":
			wg.Go(func() { c.forward(nc) })
		default:
			_ = nc.Reject(ssh.UnknownChannelType, "unknown channel type") // a failing write ends the loop
		}
	}
}

// globalRequests answers keepalives the way OpenSSH does: any answer is a sign
// of life, and everything else that can be asked here is not on offer.
func (c *connection) globalRequests(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply && r.Reply(false, nil) != nil {
			return
		}
	}
}

// cut ends the connection with no goodbye.
func (c *connection) cut() { _ = c.raw.Close() }

func (d *device) account(user string) (account, bool) {
	for _, a := range d.accounts() {
		if a.username == user {
			return a, true
		}
	}
	return account{}, false
}

// serverConfig is how the device greets and lets in clients under faults f.
func (d *device) serverConfig(f *faults) (*ssh.ServerConfig, error) {
	config := &ssh.ServerConfig{ServerVersion: "SSH-2.0-" + d.persona.version()}
	if f.oldAlgorithms {
		config.ServerVersion = "SSH-2.0-OpenSSH_5.3"
		config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH14SHA1, ssh.InsecureKeyExchangeDH1SHA1}
		config.Ciphers = []string{ssh.InsecureCipherAES128CBC, ssh.InsecureCipherTripleDESCBC}
		config.MACs = []string{ssh.HMACSHA1}
	}
	signer, err := d.hostSigner(f)
	if err != nil {
		return nil, err
	}
	config.AddHostKey(signer)
	if f.banner {
		config.BannerCallback = func(ssh.ConnMetadata) string { return preLoginBanner(d.hostname()) }
	}

	password := func(user, password string) error {
		a, ok := d.account(user)
		want := d.fleet.keys.password(a.secret)
		if subtle.ConstantTimeCompare([]byte(password), []byte(want)) != 1 || !ok || f.authFail {
			return errRefused
		}
		return nil
	}
	by := func(method string) *ssh.Permissions {
		return &ssh.Permissions{Extensions: map[string]string{"method": method}}
	}
	config.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Password: "}, []bool{false})
		if err != nil {
			return nil, err
		}
		if len(answers) != 1 {
			return nil, fmt.Errorf("%w: %d answers to one question", errRefused, len(answers))
		}
		return by("keyboard-interactive"), password(m.User(), answers[0])
	}
	if d.interactiveOnly {
		return config, nil
	}
	config.PasswordCallback = func(m ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
		return by("password"), password(m.User(), string(given))
	}
	config.PublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		a, ok := d.account(m.User())
		if !ok || !a.key || f.authFail || !d.fleet.keys.isClientKey(key) {
			return nil, errRefused
		}
		return by("publickey"), nil
	}
	return config, nil
}

// isClientKey tells whether a public key is the fleet's own.
func (k keyring) isClientKey(key ssh.PublicKey) bool {
	crypto, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return false
	}
	pub, ok := crypto.CryptoPublicKey().(ed25519.PublicKey)
	return ok && pub.Equal(k.clientKey().Public())
}

// preLoginBanner and motd have lines that end as prompts do.
func preLoginBanner(host string) string {
	return "*****************************************************\n" +
		"* Authorised use only. Activity on " + host + " is logged. #\n" +
		"* Questions? noc@example.net >\n" +
		"*****************************************************\n"
}

func motd(host string) string {
	return "\n" + host + " # change freeze until Monday >\nContact: noc@example.net #\n\n"
}
