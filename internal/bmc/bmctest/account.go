package bmctest

import (
	"net"
	"testing"

	"capfleet/internal/bmc"
	"capfleet/internal/secret"
)

// The account of a simulated BMC.
const (
	Username = "fleet"
	Password = "s3cret"
)

var wrongPassword = secret.New("guessed")

// Account gives a target with the right account.
func Account(host string, port int) bmc.Target {
	return bmc.Target{Host: host, Port: port, Username: Username, Password: secret.New(Password)}
}

// SilentUDP gives a target that answers no datagram.
func SilentUDP(t testing.TB) bmc.Target {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return Account("127.0.0.1", conn.LocalAddr().(*net.UDPAddr).Port)
}

// SilentTCP gives a target that accepts connections and says nothing.
func SilentTCP(t testing.TB) bmc.Target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return Account("127.0.0.1", listener.Addr().(*net.TCPAddr).Port)
}
