package replay

import (
	"context"
	"net"
)

// UDP sends datagrams to an address, host:port. It needs no privileges; the source
// is this host, with a port of its own.
func UDP(ctx context.Context, address string) (Sender, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	return socket{conn}, nil
}

type socket struct{ net.Conn }

func (s socket) Send(data []byte) error {
	_, err := s.Write(data)
	return err
}
