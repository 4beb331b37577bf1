package sim

import (
	"context"
	"io"
	"net"

	"golang.org/x/crypto/ssh"
)

// directTCPIP is the payload of a direct-tcpip channel (RFC 4254 section 7.2).
type directTCPIP struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// forward is what a jump host does: connect the client to another device of the
// fleet, and to nothing else. Only Linux hosts allow it.
func (c *connection) forward(nc ssh.NewChannel) {
	var to directTCPIP
	if err := ssh.Unmarshal(nc.ExtraData(), &to); err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "malformed request") // the client sees it or is gone
		return
	}
	target := c.dev.fleet.deviceAt(to.Host, int(to.Port))
	if c.dev.platform != platformLinux || target == nil {
		_ = nc.Reject(ssh.Prohibited, "administratively prohibited")
		return
	}
	conn, err := target.dialInside(c.dev.name)
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		_ = conn.Close() // the client left
		return
	}
	splice(c.ctx, ch, conn, requests)
}

// splice copies both ways until either side ends or ctx does.
func splice(ctx context.Context, ch ssh.Channel, conn net.Conn, requests <-chan *ssh.Request) {
	end := func() {
		_ = ch.Close()   // both ends are closed at once: SSH inside needs no half-open state
		_ = conn.Close() // the copies below end with it
	}
	stop := context.AfterFunc(ctx, end)
	done := make(chan struct{}, 2)
	copyTo := func(dst io.Writer, src io.Reader) {
		_, _ = io.Copy(dst, src) // either side's end ends the other
		end()
		done <- struct{}{}
	}
	go copyTo(conn, ch)
	go copyTo(ch, conn)
	ssh.DiscardRequests(requests) // returns when the channel is closed
	<-done
	<-done
	stop()
}
