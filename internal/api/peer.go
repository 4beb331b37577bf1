package api

import (
	"context"
	"net"
	"os/user"
	"strconv"
)

// unknownPeer is who asks where the system does not say.
const unknownPeer = "unknown"

type peerKey struct{}

// withPeer puts the user at the other end of a Unix socket into the connection's
// context. The kernel vouches for it; nothing that the client says is asked.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	name := unknownPeer
	if uc, ok := conn.(*net.UnixConn); ok {
		if uid, ok := peerUID(uc); ok {
			name = userName(uid)
		}
	}
	return context.WithValue(ctx, peerKey{}, name)
}

// peer is the user who asks: a user name, or uid:N where there is no name.
func peer(ctx context.Context) string {
	if name, ok := ctx.Value(peerKey{}).(string); ok {
		return name
	}
	return unknownPeer
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid:" + id
}
