package bmc_test

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	server "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	ipmi "github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"

	"capfleet/internal/bmc"
	"capfleet/internal/bmc/bmctest"
)

// serveSuite17 runs go-ipmi's server, with a log, for the cipher suite that
// ipmi_sim does not have. It takes no other.
func serveSuite17(t testing.TB, log [][]byte) bmc.Target {
	t.Helper()
	only := []types.CipherSuiteID{types.CipherSuiteID17}
	b := server.New(server.DeviceInfo{}, [16]byte{1}, mock.New(), server.WithCipherSuites(only))
	user, err := b.Users.Add(2, bmctest.Username)
	if err != nil {
		t.Fatal(err)
	}
	user.SetPassword([]byte(bmctest.Password))
	user.Enabled = true
	user.ChannelAccess[1] = server.UserChannelAccess{MaxPrivilege: server.PrivilegeLevel(types.PrivilegeLevelUser), Enabled: true}

	registry := handlers.NewRegistry()
	handlers.RegisterAllHandlers(registry)
	registry.RegisterFunc(types.CommandGetSELEntry, func(_ context.Context, _ *handlers.HandlerContext, request []byte) ([]byte, types.CompletionCode, error) {
		id := int(binary.LittleEndian.Uint16(request[2:]))
		if id == 0 {
			id = 1
		}
		if id > len(log) {
			return nil, 0xcb, nil
		}
		next := uint16(id + 1)
		if id == len(log) {
			next = 0xffff
		}
		return append(binary.LittleEndian.AppendUint16(nil, next), log[id-1]...), 0, nil
	})
	conn, err := udp.Listen("127.0.0.1:0", udp.WithReadTimeout(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	s := ipmi.NewServer(b, conn, ipmi.WithHandlerRegistry(registry), ipmi.WithCipherSuites(only))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		_ = s.Close()
		<-done
	})
	return bmctest.Account("127.0.0.1", conn.LocalAddr().(*net.UDPAddr).Port)
}

func TestLANContractOfSuite17(t *testing.T) {
	t.Parallel()
	bmctest.Run(t, probeLog(t), bmctest.Subject{Serve: serveSuite17, Silent: bmctest.SilentUDP, Open: openLAN(bmc.Options{})})
}
