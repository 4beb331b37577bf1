package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	ipmibmc "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/protocol"
	ipmi "github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/types"

	"capfleet/internal/bmc/bmctest"
	"capfleet/internal/bmc/rmcp"
)

// serveBMC runs a BMC with a log on a port of loopback, as long as this process: a
// server of go-ipmi, behind a socket that answers most of what is asked.
func serveBMC(ctx context.Context, log [][]byte) (port int, err error) {
	suites := []types.CipherSuiteID{types.CipherSuiteID17}
	managed := ipmibmc.New(ipmibmc.DeviceInfo{}, [16]byte{1}, mock.New(), ipmibmc.WithCipherSuites(suites))
	user, err := managed.Users.Add(2, bmctest.Username)
	if err != nil {
		return 0, err
	}
	user.SetPassword([]byte(bmctest.Password))
	user.Enabled = true
	user.ChannelAccess[1] = ipmibmc.UserChannelAccess{MaxPrivilege: ipmibmc.PrivilegeLevel(types.PrivilegeLevelAdministrator), Enabled: true}
	registry := handlers.NewRegistry()
	handlers.RegisterAllHandlers(registry)
	registry.RegisterFunc(types.CommandGetSELInfo, func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
		reply := binary.LittleEndian.AppendUint16([]byte{0x51}, uint16(len(log))) //nolint:gosec // 500
		return append(reply, make([]byte, 11)...), 0, nil
	})
	registry.RegisterFunc(types.CommandGetSELEntry, func(_ context.Context, _ *handlers.HandlerContext, request []byte) ([]byte, types.CompletionCode, error) {
		id := int(binary.LittleEndian.Uint16(request[2:]))
		if id = max(id, 1); id > len(log) {
			return nil, 0xcb, nil
		}
		next := uint16(0xffff)
		if id < len(log) {
			next = uint16(id + 1) //nolint:gosec // 500
		}
		return append(binary.LittleEndian.AppendUint16(nil, next), log[id-1]...), 0, nil
	})
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("%T is no UDP address", conn.LocalAddr())
	}
	socket := &answering{UDPConn: conn, managed: managed, registry: registry, known: map[uint32]*console{}}
	server := ipmi.NewServer(managed, socket, ipmi.WithHandlerRegistry(registry), ipmi.WithCipherSuites(suites), ipmi.WithV15Disabled())
	go func() { _ = server.Serve(ctx) }()
	return addr.Port, nil
}

// answering is the socket of a server that answers by itself what is asked once for
// each record. Both sides of the comparison wait for these answers, and a goroutine
// and freshly expanded keys for each, as go-ipmi's server has them, would be a large
// part of what is measured.
type answering struct {
	*net.UDPConn
	managed  *ipmibmc.BMC
	registry *handlers.Registry

	// What follows belongs to the one goroutine that reads.
	known           map[uint32]*console
	opened, replied []byte
}

// console is the other end of a session.
type console struct {
	session    *ipmibmc.Session
	protection *rmcp.Protection
}

// ReadFrom implements transport.PacketConn, with what is left to the server.
func (a *answering) ReadFrom(buffer []byte) (int, net.Addr, error) {
	for {
		n, from, err := a.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return n, nil, err
		}
		if !a.answer(buffer[:n], from) {
			return n, net.UDPAddrFromAddrPort(from), nil
		}
	}
}

// answer answers Get SEL Entry, and Get Device ID, which ipmitool asks twice for each
// record.
func (a *answering) answer(datagram []byte, from netip.AddrPort) bool {
	const atSession = rmcp.HeaderRMCP + 2
	if len(datagram) < rmcp.HeaderRMCP+rmcp.HeaderSession {
		return false
	}
	id := binary.LittleEndian.Uint32(datagram[atSession:])
	p := a.console(id)
	if p == nil {
		return false
	}
	a.opened = append(a.opened[:0], datagram...)
	message, ok := p.protection.Unseal(a.opened, id)
	if !ok {
		delete(a.known, id) // another session may have got its number
		return false
	}
	netFn, command, data, sequence, ok := protocol.ParseIPMIRequest(message)
	asked := types.Command{NetFn: types.NetFn(netFn), ID: command}
	if !ok || !same(asked, types.CommandGetSELEntry) && !same(asked, types.CommandGetDeviceID) {
		return false
	}
	inbound := binary.LittleEndian.Uint32(datagram[atSession+4:])
	p.session.ProcMu.Lock()
	valid := ipmibmc.InboundSeqValid(p.session.InboundSeq, inbound)
	if valid {
		p.session.InboundSeq = inbound
	}
	p.session.ProcMu.Unlock()
	if !valid {
		return true
	}
	a.managed.Sessions.Touch(id)
	reply, code, _ := a.registry.Dispatch(context.Background(), &handlers.HandlerContext{BMC: a.managed, Session: p.session, User: p.session.User}, netFn, command, data)
	a.replied = p.protection.Seal(a.replied[:0], p.session.ConsoleID, p.session.NextOutboundSeq(), protocol.BuildIPMIResponse(netFn, command, sequence, uint8(code), reply))
	_, _ = a.WriteToUDPAddrPort(a.replied, from)
	return true
}

func same(a, b types.Command) bool { return a.NetFn == b.NetFn && a.ID == b.ID }

// console gives the other end of a session that is set up, or nil.
func (a *answering) console(id uint32) *console {
	if p := a.known[id]; p != nil {
		return p
	}
	session, err := a.managed.Sessions.Get(id)
	if err != nil {
		return nil
	}
	session.ProcMu.Lock()
	defer session.ProcMu.Unlock()
	protection, err := rmcp.New(session.IntegrityAlg, session.K1, session.K2)
	if err != nil {
		return nil // not set up yet
	}
	a.known[id] = &console{session, protection}
	return a.known[id]
}
