package sshconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

const (
	// defaultHopIdle is how long a jump host's connection waits for its next device.
	defaultHopIdle = 30 * time.Second
	// refusedHold is how long a jump host's refusal of credentials stands without
	// asking again: a job on a thousand devices behind one bastion is one failed
	// login there and not a thousand.
	refusedHold = time.Minute
)

// hops holds the connections to jump hosts. Devices behind the same chain share
// one; the last to leave starts the idle time after which it is closed.
type hops struct {
	dialer *Dialer
	idle   time.Duration

	mu     sync.Mutex
	open   map[string]*hop
	closed bool
	wg     sync.WaitGroup
}

// hop is the end of one chain of jump hosts.
type hop struct {
	pool   *hops
	key    string
	ready  chan struct{} // closed when link and err are set
	cancel context.CancelFunc
	link   *link
	err    error

	// Under pool.mu.
	settled bool
	users   int
	timer   *time.Timer // ends an idle hop, or the memory of a refusal
}

// hopKey tells chains apart: the same hosts with other credentials, settings or
// host keys are another connection.
func hopKey(chain []device.Hop, knownHosts string) string {
	key, err := json.Marshal(struct {
		KnownHosts string
		Chain      []device.Hop
	}{knownHosts, chain})
	if err != nil {
		// Plain data: it cannot fail.
		return fmt.Sprintf("%s %v", knownHosts, chain)
	}
	return string(key)
}

// acquire gives a live connection to the last hop of a chain, dialling it when
// there is none; nil for an empty chain. The caller releases it.
func (p *hops) acquire(ctx context.Context, chain []device.Hop, knownHosts string) (*hop, error) {
	if len(chain) == 0 {
		return nil, nil
	}
	key := hopKey(chain, knownHosts)
	ep := hopEndpoint(chain[len(chain)-1], knownHosts)
	for {
		h, fresh, err := p.join(key, chain, knownHosts) //nolint:contextcheck // dialling belongs to all who wait for it
		if err != nil {
			return nil, err
		}
		select {
		case <-h.ready:
		case <-ctx.Done():
			h.release()
			return nil, ep.ended(ctx, stageDial)
		}
		switch {
		case h.err != nil:
			err := h.err
			h.release()
			return nil, err
		case !h.link.lost():
			return h, nil
		}
		// It broke since somebody else dialled it: once more. A hop that hangs up
		// after each login is not asked for ever.
		err = ep.fail(fault.Unreachable, stageDial, h.link.reason(), "")
		p.drop(h)
		h.release()
		if fresh {
			return nil, err
		}
	}
}

// join finds or starts the dialling of a hop and counts the caller in. fresh says
// that this call started it.
func (p *hops) join(key string, chain []device.Hop, knownHosts string) (h *hop, fresh bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, fault.New(fault.Disconnected, "the dialer is closed")
	}
	if h := p.open[key]; h != nil {
		h.users++
		if h.timer != nil && h.err == nil {
			h.timer.Stop()
			h.timer = nil
		}
		return h, false, nil
	}
	// Whoever comes first may leave first: the dialling belongs to all who wait.
	ctx, cancel := context.WithCancel(context.Background())
	h = &hop{pool: p, key: key, ready: make(chan struct{}), cancel: cancel, users: 1}
	if p.open == nil {
		p.open = map[string]*hop{}
	}
	p.open[key] = h
	p.wg.Go(func() {
		defer cancel()
		last := len(chain) - 1
		link, _, err := p.dialer.establish(ctx, hopEndpoint(chain[last], knownHosts), chain[:last])
		p.settle(h, link, err)
		if link != nil {
			<-link.done
			p.drop(h)
			link.close()
		}
	})
	return h, true, nil
}

// settle keeps the outcome of dialling. A failure is shared with those who
// waited for it; a refused login stands for a while.
func (p *hops) settle(h *hop, link *link, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(h.ready)
	h.settled, h.link, h.err = true, link, err
	switch {
	case err == nil:
		if p.closed || h.users == 0 {
			p.forget(h)
			// Not under the lock: ending a link releases the hop before it.
			link.spawn(func() { link.end(errClosed) })
		}
	case fault.Is(err, fault.Auth) && !p.closed && h.users > 0:
		h.timer = time.AfterFunc(refusedHold, func() { p.drop(h) })
		h.err = held(err)
	default:
		p.forget(h)
	}
}

// held says that a refusal is remembered.
func held(err error) error {
	have, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err
	}
	kept := *have
	kept.Next += fmt.Sprintf("; the jump host is asked again after %v", refusedHold)
	return &kept
}

// release counts a user out. It does not block.
func (h *hop) release() {
	if h.leave() {
		h.link.end(errClosed)
	}
}

// leave counts a user out and says whether the link is to end now.
func (h *hop) leave() (end bool) {
	p := h.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	h.users--
	switch {
	case h.users > 0:
		return false
	case !h.settled:
		h.cancel() // nobody waits for it any more
		p.forget(h)
		return false
	case h.err != nil:
		return false
	case p.closed || p.idle <= 0 || p.open[h.key] != h:
		p.forget(h)
		return true
	}
	h.timer = time.AfterFunc(p.idle, func() {
		p.mu.Lock()
		idle := h.users == 0
		if idle {
			p.forget(h)
		}
		p.mu.Unlock()
		if idle {
			h.link.end(errClosed)
		}
	})
	return false
}

// drop takes a hop out, so that the next caller dials anew.
func (p *hops) drop(h *hop) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(h)
}

// forget is drop for a caller that holds the lock.
func (p *hops) forget(h *hop) {
	if p.open[h.key] == h {
		delete(p.open, h.key)
	}
}

// close ends every hop. Devices still behind one lose their connection.
func (p *hops) close() {
	p.mu.Lock()
	p.closed = true
	var links []*link
	for _, h := range p.open {
		if h.timer != nil {
			h.timer.Stop()
		}
		h.cancel()
		if h.link != nil {
			links = append(links, h.link)
		}
	}
	clear(p.open)
	p.mu.Unlock()
	for _, l := range links {
		l.end(errClosed)
	}
	p.wg.Wait()
}

// directTCPIP is the payload of RFC 4254, section 7.2.
type directTCPIP struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// dial opens a TCP connection from the jump host.
func (h *hop) dial(ctx context.Context, ep endpoint) (net.Conn, error) {
	through := h.link.ep
	payload := ssh.Marshal(directTCPIP{ep.host, wireInt(ep.portOrDefault()), "127.0.0.1", 0})
	ch, reqs, err := h.link.openChannel(ctx, "direct-tcpip", payload, func() {})
	if ctx.Err() != nil {
		if err == nil {
			h.link.spawn(func() {
				_ = ch.Close()
				ssh.DiscardRequests(reqs)
			})
		}
		return nil, ep.ended(ctx, stageDial)
	}
	if refused, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		told := fmt.Errorf("%s: no connection to %s: %s", through.label, ep.address(), foreign(refused.Message))
		switch refused.Reason {
		case ssh.Prohibited, ssh.UnknownChannelType:
			return nil, ep.fail(fault.Refused, stageJump, told, "allow TCP forwarding (AllowTcpForwarding, PermitOpen) on "+through.label)
		case ssh.ResourceShortage:
			return nil, ep.fail(fault.Busy, stageJump, told, "")
		default:
			return nil, ep.fail(fault.Unreachable, stageJump, told, "check that "+ep.address()+" is up and can be reached from there")
		}
	}
	if err != nil {
		return nil, ep.fail(fault.Unreachable, stageJump, fmt.Errorf("%s: %w", through.label, h.link.reason()), "")
	}
	h.link.spawn(func() { ssh.DiscardRequests(reqs) })
	conn, ok := h.link.bridge(ch, false)
	if !ok {
		return nil, ep.fail(fault.Unreachable, stageJump, fmt.Errorf("%s: %w", through.label, h.link.reason()), "")
	}
	return &hopConn{Conn: conn, to: hopAddr(net.JoinHostPort(ep.host, strconv.Itoa(ep.portOrDefault())))}, nil
}

// hopConn is a connection through a jump host; only its far end has an address.
type hopConn struct {
	net.Conn
	to hopAddr
}

func (c *hopConn) RemoteAddr() net.Addr { return c.to }

type hopAddr string

func (hopAddr) Network() string  { return "tcp" }
func (a hopAddr) String() string { return string(a) }
