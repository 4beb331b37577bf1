package bmc

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"

	"capfleet/internal/bmc/rmcp"
	"capfleet/internal/fault"
)

// The session of IPMI 2.0 over LAN (section 13). go-ipmi packs, unpacks and
// derives keys. Its client is not used: it takes replies whose integrity code it
// never checks, and a datagram that does not decrypt ends the process (a panic
// in its own goroutine); it also goes on to the next cipher suite after a wrong
// password, which locks accounts.

const (
	maxDatagram = 1024

	addressBMC     = 0x20
	addressConsole = 0x81

	maxSequence     = 1<<6 - 1
	handshakeRounds = 3
)

// cipherSuites are offered in this order: 17 is HMAC-SHA256, 3 is HMAC-SHA1;
// both with AES-CBC-128. The others have no authentication, no encryption, or MD5.
var cipherSuites = [...]types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3}

// aLongTimeAgo is a deadline that ends a read at once.
var aLongTimeAgo = time.Unix(1, 0)

// session is an RMCP+ session. It is used by one goroutine.
type session struct {
	conn net.Conn
	opts Options

	auth      types.AuthAlg
	integrity types.IntegrityAlg
	crypt     types.CryptAlg

	consoleID, bmcID uint32
	protection       *rmcp.Protection // nil until there are keys
	proven           bool             // the BMC has shown them before RAKP message 4 came
	tag              byte             // of the last message that set the session up
	resent           bool             // some datagram was sent more than once
	sent             uint32           // session sequence number
	sequence         byte             // of the last request, 6 bits
	buffer           [maxDatagram]byte
	sealed           []byte // the last datagram, for its room
}

// openSession offers the cipher suites until the BMC takes one. A refused
// account ends it at once. Where an answer is lost for good, what the BMC
// remembers of a half-made session is left behind by beginning again.
func openSession(ctx context.Context, conn net.Conn, target Target, opts Options) (*session, error) {
	var refused error
	var tag byte // goes on from try to try, so that a late answer to one is not taken for the next
	for _, suite := range cipherSuites {
		for round := 1; ; round++ {
			s := &session{conn: conn, opts: opts, tag: tag}
			var supported bool
			s.auth, s.integrity, s.crypt, supported = types.GetCipherSuiteAlgorithms(suite)
			if !supported {
				return nil, fault.New(fault.Internal, "no algorithms for cipher suite %d", suite)
			}
			begun, err := s.open(ctx, target)
			tag = s.tag
			switch {
			case err == nil:
				return s, nil
			case begun && round < handshakeRounds && ctx.Err() == nil && fault.Is(err, fault.Timeout):
				continue
			case !begun && suiteRefused(err):
				refused = err
			default:
				return nil, err
			}
			break
		}
	}
	return nil, refused
}

// suiteRefused tells a BMC that does not know the suite from one that refuses
// us. Some answer an unknown suite with an illegal parameter.
func suiteRefused(err error) bool {
	status, is := errors.AsType[*types.RmcpStatusError](err)
	return is && slices.Contains([]types.RmcpStatusCode{
		types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeInvalidConfidentAlg,
		types.RmcpStatusCodeNoMatchingAuthPayload, types.RmcpStatusCodeNoMatchingIntegrityPayload,
		types.RmcpStatusCodeNoCipherSuiteMatch, types.RmcpStatusCodeIllegalParameter,
	}, status.StatusCode())
}

// open makes the session: Open Session, then RAKP messages 1 to 4 (section
// 13.17 on). Begun says that the BMC took the cipher suite.
func (s *session) open(ctx context.Context, target Target) (begun bool, err error) {
	var random [4 + 16]byte
	_, _ = rand.Read(random[:]) // never fails
	s.consoleID = binary.LittleEndian.Uint32(random[:]) | 1

	request := &rmcpplus.OpenSessionRequest{MessageTag: s.nextTag(), RequestedMaximumPrivilegeLevel: types.PrivilegeLevelUser, RemoteConsoleSessionID: s.consoleID}
	request.AuthenticationPayload, request.IntegrityPayload, request.ConfidentialityPayload = rmcpplus.NewAlgorithmPayloads(s.auth, s.integrity, s.crypt)
	opened := &rmcpplus.OpenSessionResponse{}
	err = s.setUp(ctx, types.PayloadTypeRmcpOpenSessionRequest, request.Pack(), types.PayloadTypeRmcpOpenSessionResponse, opened.Unpack)
	switch {
	case err != nil:
		return false, err
	case types.AuthAlg(opened.AuthAlg) != s.auth || types.IntegrityAlg(opened.IntegrityAlg) != s.integrity || types.CryptAlg(opened.CryptAlg) != s.crypt:
		return false, types.NewRmcpStatusError(types.RmcpStatusCodeNoCipherSuiteMatch) // weaker than what was asked for
	}
	s.bmcID = opened.ManagedSystemSessionID

	hello := &rmcpplus.RAKPMessage1{
		MessageTag: s.nextTag(), ManagedSystemSessionID: s.bmcID, RemoteConsoleRandomNumber: [16]byte(random[4:]),
		NameOnlyLookup: true, RequestedMaximumPrivilegeLevel: types.PrivilegeLevelUser,
		UsernameLength: uint8(len(target.Username)), Username: []byte(target.Username), //nolint:gosec // at most 16
	}
	answer := &rmcpplus.RAKPMessage2{AuthAlg: s.auth}
	err = s.setUp(ctx, types.PayloadTypeRAKPMessage1, hello.Pack(), types.PayloadTypeRAKPMessage2, answer.Unpack)
	if err != nil {
		return true, err
	}
	key := []byte(target.Password.Reveal())
	console, managed, role := hello.RemoteConsoleRandomNumber[:], answer.ManagedSystemRandomNumber[:], hello.Role()
	want, err := crypto.RAKP2AuthCode(s.auth, s.consoleID, s.bmcID, console, managed, answer.ManagedSystemGUID[:], role, target.Username, key)
	if err == nil {
		want, err = crypto.TruncateRAKP2AuthCode(s.auth, want)
	}
	if err != nil {
		return true, err
	}
	if !hmac.Equal(want, answer.KeyExchangeAuthenticationCode) {
		// Either side may be the one that does not know the password.
		return true, &fault.Error{Kind: fault.Auth, Err: errors.New("the BMC has another password for this account"), Next: "check user name and password"}
	}

	sik, k1, k2, err := crypto.DeriveSessionKeys(s.auth, console, managed, role, target.Username, key)
	if err != nil {
		return true, err
	}
	proof, err := crypto.RAKP3AuthCode(s.auth, managed, s.consoleID, role, target.Username, key)
	if err != nil {
		return true, err
	}
	if s.protection, err = rmcp.New(s.integrity, k1, k2); err != nil {
		return true, err
	}
	agree := &rmcpplus.RAKPMessage3{MessageTag: s.nextTag(), ManagedSystemSessionID: s.bmcID, KeyExchangeAuthenticationCode: proof}
	agreed := &rmcpplus.RAKPMessage4{AuthAlg: s.auth}
	err = s.setUp(ctx, types.PayloadTypeRAKPMessage3, agree.Pack(), types.PayloadTypeRAKPMessage4, agreed.Unpack)
	if status, refused := errors.AsType[*types.RmcpStatusError](err); refused && s.resent {
		// RAKP 2 has proved the password. A BMC that gets RAKP 1 twice draws a second
		// number, and its late answer to the first one is what we went on with.
		return true, fault.New(fault.Timeout, "answers to datagrams sent again crossed: %v", status)
	}
	if err != nil {
		return true, err
	}
	if s.proven {
		return true, nil
	}
	want, err = crypto.RAKP4ICV(s.auth, console, s.bmcID, answer.ManagedSystemGUID[:], sik)
	if err != nil {
		return true, err
	}
	if !hmac.Equal(want, agreed.IntegrityCheckValue) {
		return true, fault.New(fault.Auth, "the BMC does not prove that it has the session's key")
	}
	return true, nil
}

func (s *session) nextTag() byte {
	s.tag++
	return s.tag
}

// setUp sends a message outside of a session and waits for the one that answers
// it; a refusal is a *types.RmcpStatusError. Such messages are not protected;
// RAKP's codes are what proves them.
func (s *session) setUp(ctx context.Context, kind types.PayloadType, payload []byte, wanted types.PayloadType, unpack func([]byte) error) error {
	tag := s.tag
	return s.exchange(ctx,
		func() []byte {
			header := types.SessionHeader20{AuthType: types.AuthTypeRMCPPlus, PayloadType: kind, PayloadLength: uint16(len(payload))} //nolint:gosec // at most 60
			rmcpHeader := rmcp.Header()
			return slices.Concat(rmcpHeader[:], header.Pack(), payload)
		},
		func(datagram []byte) (bool, error) {
			// A BMC whose RAKP message 4 was lost has an active session, and answers in it
			// (OpenIPMI does) when message 3 comes again.
			if s.protection != nil && s.protection.Proves(datagram, s.consoleID) {
				s.proven = true
				return true, nil
			}
			packet, ok := parsePacket(datagram)
			if !ok || packet.SessionHeader20.PayloadType != wanted || packet.SessionHeader20.PayloadEncrypted {
				return false, nil
			}
			answer := packet.SessionPayload
			if len(answer) < 2 || answer[0] != tag {
				return false, nil
			}
			// A refusal may end after its code (OpenIPMI's does); all else names us.
			if len(answer) >= 8 && binary.LittleEndian.Uint32(answer[4:]) != s.consoleID {
				return false, nil
			}
			if code := types.RmcpStatusCode(answer[1]); code != types.RmcpStatusCodeNoErrors {
				return true, types.NewRmcpStatusError(code)
			}
			return true, unpack(answer)
		})
}

// command sends a request in the session and unpacks the answer to it. The BMC's
// refusal is a *types.ResponseError.
func (s *session) command(ctx context.Context, request types.Request, response types.Response) error {
	s.sequence = (s.sequence + 1) & maxSequence
	asked := request.Command()
	return s.exchange(ctx,
		// A datagram sent again needs a session sequence number of its own, or the
		// BMC takes it for a duplicate.
		func() []byte { return s.seal(request) },
		func(datagram []byte) (bool, error) {
			message, ok := s.protection.Unseal(datagram, s.consoleID)
			if !ok {
				return false, nil
			}
			var answer types.IPMIResponse
			if err := answer.Unpack(message); err != nil || answer.RequesterSequence != s.sequence || answer.Command != asked.ID || answer.NetFn != asked.NetFn|1 {
				return false, nil //nolint:nilerr // not the answer: it may still come
			}
			if answer.CompletionCode != 0 {
				return true, types.NewResponseError(types.CompletionCode(answer.CompletionCode), asked.Name)
			}
			if err := response.Unpack(answer.Data); err != nil {
				return true, fault.Wrap(fault.Unparsed, "understand the answer to "+asked.Name, err)
			}
			return true, nil
		})
}

// sendOnce sends a request and waits for nothing.
func (s *session) sendOnce(request types.Request) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.opts.LANTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(s.seal(request))
	return err
}

// seal packs a request as an encrypted and authenticated datagram, which is good
// until the next call.
func (s *session) seal(request types.Request) []byte {
	asked := request.Command()
	message := types.IPMIRequest{
		ResponderAddr: addressBMC, NetFn: asked.NetFn, RequesterAddr: addressConsole,
		RequesterSequence: s.sequence, Command: asked.ID, CommandData: request.Pack(),
	}
	message.ComputeChecksum()
	s.sent++
	s.sealed = s.protection.Seal(s.sealed[:0], s.bmcID, s.sent, message.Pack())
	return s.sealed
}

// parsePacket reads the frame of a datagram of IPMI 2.0.
func parsePacket(datagram []byte) (*types.Session20, bool) {
	const atFormat = rmcp.HeaderRMCP
	if len(datagram) < rmcp.HeaderRMCP+rmcp.HeaderSession || !rmcp.IsRMCP(datagram) || datagram[atFormat] != byte(types.AuthTypeRMCPPlus) {
		return nil, false
	}
	packet := &types.Session20{}
	if err := packet.Unpack(datagram[rmcp.HeaderRMCP:]); err != nil {
		return nil, false
	}
	return packet, true
}

// exchange sends what pack gives until take has the answer: UDP loses
// datagrams, and brings old ones.
func (s *session) exchange(ctx context.Context, pack func() []byte, take func([]byte) (bool, error)) error {
	buffer := s.buffer[:]
	var last error
	for attempt := range s.opts.Attempts {
		s.resent = s.resent || attempt > 0
		datagram := pack()
		end := time.Now().Add(s.opts.LANTimeout)
		if err := s.deadline(ctx, end); err != nil {
			return err
		}
		// A closed port is told by the next call, which is this or the read.
		if _, last = s.conn.Write(datagram); last != nil {
			if err := pause(ctx, end); err != nil {
				return err
			}
			continue
		}
		for {
			var n int
			if n, last = s.conn.Read(buffer); last != nil {
				break
			}
			if done, err := take(buffer[:n]); done {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if timeout, is := errors.AsType[net.Error](last); !is || !timeout.Timeout() {
			if err := pause(ctx, end); err != nil {
				return err
			}
		}
	}
	if timeout, is := errors.AsType[net.Error](last); is && timeout.Timeout() {
		return fault.New(fault.Timeout, "no answer over UDP to %d requests in %v", s.opts.Attempts, time.Duration(s.opts.Attempts)*s.opts.LANTimeout)
	}
	return fault.Wrap(fault.Unreachable, "send", last)
}

// deadline sets the end of the next read, without undoing the end that the
// context sets when it is over.
func (s *session) deadline(ctx context.Context, end time.Time) error {
	if err := s.conn.SetDeadline(end); err != nil {
		return fault.Wrap(fault.Unreachable, "wait", err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// pause waits until end, so that a closed port is not asked five times at once.
func pause(ctx context.Context, end time.Time) error {
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
