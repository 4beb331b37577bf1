package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	ipmibmc "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	ipmi "github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Completion codes of IPMI.
const (
	ipmiOK         = 0x00
	ipmiNotPresent = 0xcb
)

// startLAN serves IPMI 2.0 over LAN with cipher suite 17 until the fleet ends.
// Sessions, keys and codes are go-ipmi's; the event log is ours.
func (b *board) startLAN(port int) error {
	suites := []types.CipherSuiteID{types.CipherSuiteID17}
	guid := [16]byte(b.dev.fleet.keys.derive("bmc guid", b.dev.name)[:16])
	managed := ipmibmc.New(ipmibmc.DeviceInfo{}, guid, mock.New(), ipmibmc.WithCipherSuites(suites))
	user, err := managed.Users.Add(2, bmcUser)
	if err != nil {
		return err
	}
	user.SetPassword([]byte(b.dev.fleet.bmcPassword()))
	user.Enabled = true
	user.ChannelAccess[1] = ipmibmc.UserChannelAccess{MaxPrivilege: ipmibmc.PrivilegeLevel(types.PrivilegeLevelUser), Enabled: true}
	registry := handlers.NewRegistry()
	handlers.RegisterAllHandlers(registry)
	registry.RegisterFunc(types.CommandGetSELInfo, b.selInfo)
	registry.RegisterFunc(types.CommandGetSELEntry, b.selEntry)

	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return err
	}
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return errors.Join(fmt.Errorf("%T is no UDP address", conn.LocalAddr()), conn.Close())
	}
	b.port = addr.Port
	server := ipmi.NewServer(managed, &lanConn{UDPConn: conn, board: b}, ipmi.WithHandlerRegistry(registry), ipmi.WithCipherSuites(suites), ipmi.WithV15Disabled())
	if !b.dev.fleet.spawn(func() {
		stop := context.AfterFunc(b.dev.fleet.ctx, func() { _ = server.Close() })
		defer stop()
		_ = server.Serve(b.dev.fleet.ctx) // ends with the fleet, and only then
	}) {
		return server.Close()
	}
	return nil
}

// lanConn is the board's socket, with the faults that are in force.
type lanConn struct {
	*net.UDPConn
	board *board
}

func (c *lanConn) WriteTo(datagram []byte, to net.Addr) (int, error) {
	f := &c.board.dev.ordered.Load().bmc
	if pause(c.board.dev.fleet.ctx, f.slow) != nil || f.down {
		return len(datagram), nil //nolint:nilerr // lost
	}
	if f.garbage {
		datagram = []byte("<html>this is no IPMI</html>")
	}
	return c.UDPConn.WriteTo(c.spoilt(datagram, f), to)
}

// atPayloadType and the numbers below are the places of RMCP+ (IPMI 2.0, sections
// 13.6 and 13.21) that a refused login needs.
const (
	atPayloadType  = 5
	atStatus       = 17
	payloadRAKP2   = 0x13
	payloadRAKP4   = 0x15
	rakpBadName    = 0x0d
	rakpHeaderSize = 16 + 8
)

// spoilt makes the answer to a login a refusal where the account is refused. The
// session itself belongs to the library, which knows no lockout.
func (c *lanConn) spoilt(datagram []byte, f *bmcFaults) []byte {
	if len(datagram) < rakpHeaderSize {
		return datagram
	}
	switch kind := datagram[atPayloadType] & 0x3f; {
	case kind == payloadRAKP2 && (f.refuse || f.locked):
		c.board.dev.note(eventBMCLogin, "protocol=%s user=%q ok=false", bmcLAN, bmcUser)
		refusal := slices.Clone(datagram[:rakpHeaderSize])
		refusal[atStatus] = rakpBadName
		binary.LittleEndian.PutUint16(refusal[14:], 8) // the payload ends after the console's session id
		return refusal
	case kind == payloadRAKP4:
		c.board.dev.note(eventBMCLogin, "protocol=%s user=%q ok=%t", bmcLAN, bmcUser, datagram[atStatus] == ipmiOK)
	}
	if f.truncated && datagram[atPayloadType]&0xc0 != 0 {
		return datagram[:len(datagram)*2/3] // in the session only
	}
	return datagram
}

// selInfo answers Get SEL Info: version, records, free bytes, the times of the
// last addition and erasure, what is supported.
func (b *board) selInfo(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	log, erased := b.records()
	reply := []byte{0x51}
	reply = binary.LittleEndian.AppendUint16(reply, uint16(len(log)))              //nolint:gosec // at most bmcRoom
	reply = binary.LittleEndian.AppendUint16(reply, uint16((bmcRoom-len(log))*16)) //nolint:gosec // 16 KiB
	var last, erasure uint32
	if len(log) > 0 {
		last = binary.LittleEndian.Uint32(log[len(log)-1][3:])
	}
	if !erased.IsZero() {
		erasure = uint32(erased.Unix()) //nolint:gosec // until 2106
	}
	reply = binary.LittleEndian.AppendUint32(reply, last)
	reply = binary.LittleEndian.AppendUint32(reply, erasure)
	return append(reply, 0x02), ipmiOK, nil
}

// selEntry answers Get SEL Entry. Record 0 is the first and 0xffff the last.
func (b *board) selEntry(_ context.Context, _ *handlers.HandlerContext, request []byte) ([]byte, types.CompletionCode, error) {
	log, _ := b.records()
	if len(request) < 6 || len(log) == 0 {
		return nil, ipmiNotPresent, nil
	}
	f := &b.dev.ordered.Load().bmc
	at := 0
	switch id := binary.LittleEndian.Uint16(request[2:]); id {
	case 0:
	case 0xffff:
		at = len(log) - 1
	default:
		if at = slices.IndexFunc(log, func(raw []byte) bool { return binary.LittleEndian.Uint16(raw) == id }); at < 0 {
			return nil, ipmiNotPresent, nil
		}
	}
	next := uint16(0xffff)
	switch {
	case at+1 < len(log):
		next = binary.LittleEndian.Uint16(log[at+1])
	case f.loop:
		next = binary.LittleEndian.Uint16(log[at/2])
	}
	raw := log[at]
	if f.short && at == len(log)/2 {
		raw = raw[:15]
	}
	return append(binary.LittleEndian.AppendUint16(nil, next), raw...), ipmiOK, nil
}
