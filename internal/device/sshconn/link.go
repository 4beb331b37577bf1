package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/fault"
)

// closeGrace bounds each part of closing: for the other side to confirm that
// sessions ended, and for shells and our goroutines to be gone once the wire is
// cut. The three parts stay under 100 ms.
const closeGrace = 30 * time.Millisecond

// maxMissed keepalives without an answer end a connection.
const maxMissed = 3

// Causes of a link's end that are ours.
var (
	errClosed    = errors.New("the connection was closed")
	errKeepalive = fmt.Errorf("%d keepalives were not answered", maxMissed)
)

// link is one authenticated SSH transport, to a device or to a jump host. It is
// alive until done is closed; cause says why it ended.
//
// Calls into the library may block for as long as the other side likes, and
// only the end of the transport frees them. They run in goroutines of the link
// (spawn): the caller leaves when its context ends, the goroutine when the call
// returns, at the latest when the link does.
type link struct {
	ep     endpoint
	client ssh.Conn
	raw    *meter
	via    *hop // held until the link ends

	done  chan struct{}
	cause error // set before done is closed

	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

// newLink takes over an authenticated transport.
func newLink(ep endpoint, raw *meter, via *hop, client ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) *link {
	l := &link{ep: ep, client: client, raw: raw, via: via, done: make(chan struct{})}
	l.spawn(func() {
		// The server asks for things too: nothing is granted.
		for req := range reqs {
			_ = req.Reply(false, nil)
		}
	})
	l.spawn(func() {
		for ch := range chans {
			_ = ch.Reject(ssh.Prohibited, "not offered")
		}
	})
	l.spawn(func() {
		err := client.Wait()
		if first := raw.failure(); first != nil {
			err = first
		}
		l.end(lostCause(err))
	})
	if ep.ssh.Keepalive > 0 {
		l.spawn(l.keepalive)
	}
	return l
}

// spawn runs f in a goroutine that close waits for; false when the link ended.
func (l *link) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.wg.Go(f)
	return true
}

// end cuts the transport; the first cause counts.
func (l *link) end(cause error) {
	l.mu.Lock()
	first := !l.ended
	if first {
		l.ended, l.cause = true, cause
		close(l.done)
	}
	l.mu.Unlock()
	if first {
		_ = l.raw.Close()
		if l.via != nil {
			l.via.release()
		}
	}
}

// close ends the link and waits, for a bounded time, for its goroutines.
func (l *link) close() {
	l.end(errClosed)
	await(l.wg.Wait)
}

// await runs wait for a bounded time. What outlasts it is held by a caller's own
// reader or writer, and ends with that.
func await(wait func()) {
	gone := make(chan struct{})
	go func() {
		wait()
		close(gone)
	}()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-gone:
	case <-grace.C:
	}
}

// lost reports whether the transport is gone, a moment before done says so:
// channels see the end of a transport before its owner does.
func (l *link) lost() bool {
	select {
	case <-l.done:
		return true
	default:
		return l.raw.failure() != nil
	}
}

// reason is why the link ended.
func (l *link) reason() error {
	select {
	case <-l.done:
		if l.via != nil && !errors.Is(l.cause, errClosed) && l.via.link != nil && l.via.link.lost() {
			return fmt.Errorf("%w; %s: %w", l.cause, l.via.link.ep.label, l.via.link.reason())
		}
		return l.cause
	default:
	}
	return lostCause(l.raw.failure())
}

// lostCause words the end of a transport that we did not want.
func lostCause(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New("the other side closed the connection")
	}
	return fmt.Errorf("the connection was lost: %s", foreign(err.Error()))
}

// disconnected is the error of everything that is asked of a link that ended.
func (l *link) disconnected(act, stage string) *fault.Error {
	next := "the device may have restarted; connect again"
	if errors.Is(l.reason(), errClosed) {
		next = ""
	}
	return &fault.Error{Kind: fault.Disconnected, Act: act, Device: l.ep.device, Stage: stage, Next: next, Err: l.reason()}
}

// keepalive asks for a sign of life at every interval. Any byte that arrived in
// between is one: an answer may queue behind much data on a slow line.
func (l *link) keepalive() {
	ticker := time.NewTicker(l.ep.ssh.Keepalive)
	defer ticker.Stop()
	answered := make(chan error, 1)
	waiting, missed, heard := false, 0, l.raw.received()
	for {
		select {
		case <-l.done:
			return
		case err := <-answered:
			if err != nil {
				if first := l.raw.failure(); first != nil {
					err = first
				}
				l.end(lostCause(err))
				return
			}
			waiting, missed = false, 0
		case <-ticker.C:
			if now := l.raw.received(); now != heard {
				heard, missed = now, 0
			} else if waiting {
				missed++
			}
			if missed >= maxMissed {
				l.end(errKeepalive)
				return
			}
			if !waiting {
				waiting = true
				l.spawn(func() {
					_, _, err := l.client.SendRequest("keepalive@openssh.com", true, nil)
					answered <- err
				})
			}
		}
	}
}

// openChannel opens a channel. When ctx ends first the channel is closed as soon
// as the other side grants it; finished runs then, or when opening failed.
func (l *link) openChannel(ctx context.Context, kind string, payload []byte, finished func()) (ssh.Channel, <-chan *ssh.Request, error) {
	type opened struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	result := make(chan opened)
	left := make(chan struct{})
	defer close(left)
	ok := l.spawn(func() {
		ch, reqs, err := l.client.OpenChannel(kind, payload)
		select {
		case result <- opened{ch, reqs, err}:
			if err != nil {
				finished()
			}
		case <-left:
			if err == nil {
				_ = ch.Close()
				ssh.DiscardRequests(reqs)
			}
			finished()
		}
	})
	if !ok {
		finished()
		return nil, nil, errClosed
	}
	select {
	case r := <-result:
		return r.ch, r.reqs, r.err
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-l.done:
		return nil, nil, errClosed
	}
}

// meter is a net.Conn that counts what arrives and remembers the first failure,
// which the library replaces by EOF on its way up.
type meter struct {
	net.Conn
	bytes atomic.Int64
	err   atomic.Pointer[error]
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.bytes.Add(int64(n))
	if err != nil {
		m.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	if err != nil {
		m.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (m *meter) received() int64 { return m.bytes.Load() }

func (m *meter) failure() error {
	if p := m.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Sizes of the buffers between a channel and its bridge. Five hundred idle
// shells should not cost what five hundred downloads do.
const (
	lineBuffer = 4 << 10
	bulkBuffer = 32 << 10
)

// bridge makes a net.Conn of a channel whose Close frees its own readers and
// writers at once, whatever the other side does: a channel's own Close only asks
// the other side, and a frozen one would keep them. terminal joins the error
// stream to the output, as a terminal does. The channel is closed when either
// end is. False when the link ended.
func (l *link) bridge(ch ssh.Channel, terminal bool) (net.Conn, bool) {
	near, far := net.Pipe()
	upstream := bulkBuffer
	if terminal {
		upstream = lineBuffer
	}
	var output sync.WaitGroup
	ok := l.spawn(func() {
		pump(ch, far, upstream)
		_ = far.Close()
		_ = ch.Close()
	})
	output.Add(1)
	ok = ok && l.spawn(func() {
		pump(far, ch, bulkBuffer)
		output.Done()
		output.Wait() // for what is left of the error stream
		_ = far.Close()
	})
	if terminal {
		output.Add(1)
		ok = ok && l.spawn(func() {
			pump(far, ch.Stderr(), lineBuffer)
			output.Done()
		})
	}
	if !ok {
		_ = near.Close()
		_ = far.Close()
	}
	return near, ok
}

// pump copies until either side ends. Both ends of a bridge are closed on any
// error, so there is nothing to do with one.
func pump(dst io.Writer, src io.Reader, size int) {
	_, _ = io.CopyBuffer(onlyWriter{dst}, onlyReader{src}, make([]byte, size))
}

// These hide ReadFrom and WriteTo, which would bring buffers of their own.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
