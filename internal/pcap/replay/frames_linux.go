package replay

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Frames sends Ethernet frames on an interface through AF_PACKET (packet(7)). It
// needs CAP_NET_RAW. What the host itself would receive of them it does not.
func Frames(name string) (Sender, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open a packet socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: iface.Index}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind to "+name, err), unix.Close(fd))
	}
	return &frames{fd: fd}, nil
}

type frames struct{ fd int }

// Send waits where the interface's queue is full, which is no longer than it takes
// to send what is in it.
func (f *frames) Send(data []byte) error {
	for {
		n, err := unix.Write(f.fd, data)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("send", err)
		case n != len(data):
			return fmt.Errorf("sent %d of %d bytes", n, len(data))
		}
		return nil
	}
}

func (f *frames) Close() error {
	if f.fd < 0 {
		return nil
	}
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}
