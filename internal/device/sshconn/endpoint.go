package sshconn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Stages of a connection as errors name them.
const (
	stageCredentials = "credentials"
	stageResolve     = "resolve"
	stageDial        = "dial"
	stageJump        = "jump"
	stageHandshake   = "handshake"
	stageHostKey     = "host_key"
	stageAuth        = "auth"
	stageSession     = "session"
	stageCommand     = "command"
	stageFiles       = "sftp"
)

// endpoint is one SSH server to log in to: a device or a jump host.
type endpoint struct {
	device     string // name in the inventory; "" for a jump host
	label      string // what errors call it
	name       string // what `device trust` would be given; "" when that cannot help
	host       string
	port       int
	creds      device.Credentials
	ssh        device.SSH
	knownHosts string
}

func deviceEndpoint(dev *device.Device) endpoint {
	return endpoint{
		device: dev.Name, label: dev.Name, name: dev.Name,
		host: dev.Host, port: dev.Port,
		creds: dev.Credentials, ssh: withDefaults(dev.SSH),
		knownHosts: dev.KnownHosts,
	}
}

func hopEndpoint(hop device.Hop, knownHosts string) endpoint {
	ep := endpoint{
		label: "jump host " + hop.Name,
		host:  hop.Host, port: hop.Port,
		creds: hop.Credentials, ssh: withDefaults(hop.SSH),
		knownHosts: knownHosts,
	}
	// A hop written as user@host:port is no device of the inventory.
	if !strings.ContainsAny(hop.Name, "@:") {
		ep.name = hop.Name
	}
	return ep
}

// withDefaults fills in what is zero. A negative keepalive means none.
func withDefaults(s device.SSH) device.SSH {
	def := device.DefaultSSH()
	if s.MaxSessions <= 0 {
		s.MaxSessions = def.MaxSessions
	}
	if s.ConnectTimeout <= 0 {
		s.ConnectTimeout = def.ConnectTimeout
	}
	if s.CommandTimeout <= 0 {
		s.CommandTimeout = def.CommandTimeout
	}
	if s.Keepalive == 0 {
		s.Keepalive = def.Keepalive
	}
	return s
}

// address is host:port as the net package takes it.
func (e endpoint) address() string { return net.JoinHostPort(e.host, strconv.Itoa(e.portOrDefault())) }

func (e endpoint) portOrDefault() int {
	if e.port == 0 {
		return 22
	}
	return e.port
}

// fail makes the error of a connection that did not come about.
func (e endpoint) fail(kind fault.Kind, stage string, err error, next string) *fault.Error {
	return &fault.Error{Kind: kind, Act: "connect to " + e.label, Device: e.device, Stage: stage, Next: next, Err: err}
}

// ended makes the error of a connection that ctx cut short.
func (e endpoint) ended(ctx context.Context, stage string) *fault.Error {
	err := ctxError(ctx)
	if err.Kind == fault.Timeout {
		return e.fail(fault.Timeout, stage, err.Err, e.hint(stage))
	}
	return e.fail(err.Kind, stage, err.Err, "")
}

// hint is what to look at when nothing was heard at a stage.
func (e endpoint) hint(stage string) string {
	switch stage {
	case stageResolve:
		return "check the address " + e.host + " in the inventory and the name service"
	case stageDial:
		return "check that " + e.address() + " is up and that no firewall drops the connection"
	case stageAuth:
		return "the login is slow: check its name service or its authentication server"
	default:
		return "check that " + e.address() + " is an SSH server and is not overloaded"
	}
}

// jumped makes a jump host's failure the failure of the device behind it.
func (e endpoint) jumped(err error) *fault.Error {
	inner, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return e.fail(fault.Unreachable, stageJump, err, "")
	}
	next, bare := inner.Next, *inner
	bare.Next = "" // said once, by the outer error
	return e.fail(inner.Kind, stageJump, &bare, next)
}

// limitError is the cause of a context that one of our own limits ended.
type limitError struct {
	limit   time.Duration
	setting string
}

func (e *limitError) Error() string {
	return fmt.Sprintf("no answer within %v (%s)", e.limit, e.setting)
}

// within bounds ctx by a limit that has a name in the inventory or the request.
func within(ctx context.Context, limit time.Duration, setting string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, &limitError{limit, setting})
}

// ctxError says why ctx ended: Canceled, or Timeout with the limit that ended it.
func ctxError(ctx context.Context) *fault.Error {
	cause := context.Cause(ctx)
	if limit, ok := errors.AsType[*limitError](cause); ok {
		return &fault.Error{Kind: fault.Timeout, Err: limit}
	}
	if errors.Is(cause, context.DeadlineExceeded) {
		return &fault.Error{Kind: fault.Timeout, Err: errors.New("no answer before the deadline")}
	}
	if kinded, ok := errors.AsType[*fault.Error](cause); ok {
		return &fault.Error{Kind: kinded.Kind, Err: cause}
	}
	return &fault.Error{Kind: fault.Canceled, Err: cause}
}

// wireInt is a small number as the protocol has it.
func wireInt(n int) uint32 {
	return uint32(min(max(n, 0), math.MaxUint16))
}

// maxForeign bounds text of the other side inside an error.
const maxForeign = 200

// foreign makes text of the other side fit for an error: one line, no control
// characters, bounded.
func foreign(s string) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= maxForeign {
			b.WriteString("...")
			break
		}
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			// dropped
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}
