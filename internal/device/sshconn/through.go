package sshconn

import (
	"context"
	"net"
	"sync"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Through opens a TCP connection to host and port from the last of a chain of jump
// hosts, and directly where the chain is empty: for what is no SSH server itself.
// knownHosts is the file with the jump hosts' keys. The connection is cut where a
// jump host goes; closing it may close theirs. Errors are as those of Dial.
func (d *Dialer) Through(ctx context.Context, chain []device.Hop, knownHosts, host string, port int) (net.Conn, error) {
	ep := endpoint{host: host, port: port, knownHosts: knownHosts}
	ep.label = ep.address()
	via, err := d.hops.acquire(ctx, chain, knownHosts)
	if err != nil {
		return nil, ep.jumped(err)
	}
	conn, err := d.open(ctx, ep, via)
	if err == nil && ctx.Err() != nil {
		_ = conn.Close()
		err = ep.ended(ctx, stageDial)
	}
	switch {
	case via == nil:
		return conn, err
	case err != nil:
		via.release()
		return nil, err
	}
	return &usedHop{Conn: conn, release: sync.OnceFunc(via.release)}, nil
}

// usedHop is a connection that gives up its use of the jump host when it is closed.
type usedHop struct {
	net.Conn
	release func()
}

func (c *usedHop) Close() error {
	err := c.Conn.Close()
	c.release()
	return fault.Wrap(fault.Disconnected, "close", err)
}
