// Package fault holds the one small set of error kinds of the project.
//
// A kind answers three questions that would otherwise be answered differently
// in every corner: may the work be tried again, which HTTP status tells a
// client about it, and with which exit code does fleetctl end. The tables are
// here and nowhere else; the API client turns a status body back into the same
// kind, so an error keeps its meaning from the device to the operator's shell.
package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says what sort of thing went wrong.
type Kind string

// The kinds. The comment of each says what a person can do about it.
const (
	// Internal is a defect of ours or something nobody foresaw.
	Internal Kind = "internal"
	// Invalid is wrong usage or input: the caller must change the request.
	Invalid Kind = "invalid"
	// NotFound names something that does not exist.
	NotFound Kind = "not_found"
	// Conflict means the present state does not allow the act.
	Conflict Kind = "conflict"
	// Denied means the act is not permitted as asked (for example without --unsafe).
	Denied Kind = "denied"
	// Unavailable means that fleetd itself could not be reached.
	Unavailable Kind = "unavailable"
	// Storage means the ledger or the artifact store could not keep something.
	Storage Kind = "storage"
	// Canceled means that somebody stopped the work.
	Canceled Kind = "canceled"

	// Unreachable means no connection could be made (name, route, port, jump host).
	Unreachable Kind = "unreachable"
	// HostKey means the host key is unknown or changed. No credential was sent.
	HostKey Kind = "host_key"
	// Auth means the device refused the credentials. It is never tried again by
	// itself: a retry storm locks accounts.
	Auth Kind = "auth"
	// Timeout means the device did not answer in time.
	Timeout Kind = "timeout"
	// Disconnected means the connection was cut while it was in use.
	Disconnected Kind = "disconnected"
	// Busy means the device or a limit has no room now (sessions, locks).
	Busy Kind = "busy"
	// Refused means the device answered a command with an error.
	Refused Kind = "refused"
	// Unparsed means output that the template does not match.
	Unparsed Kind = "unparsed"
	// TooLarge means output or input beyond its cap; what was read is partial.
	TooLarge Kind = "too_large"
	// Unsupported means the device's platform has no such operation.
	Unsupported Kind = "unsupported"
)

// Exit codes of fleetctl. 2 is left alone: a crashed Go program uses it.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitSomeFailed  = 3
	ExitUsage       = 4
	ExitUnavailable = 5
	ExitFound       = 6
	ExitInterrupted = 130
)

type traits struct {
	retry  bool
	status int
	exit   int
}

// The one table. Statuses are unique where the client must tell kinds apart
// without a body; with a body the kind travels by name.
func (k Kind) traits() traits {
	switch k {
	case Invalid:
		return traits{false, 422, ExitUsage}
	case NotFound:
		return traits{false, 404, ExitUsage}
	case Conflict:
		return traits{false, 409, ExitFailed}
	case Denied:
		return traits{false, 403, ExitUsage}
	case Unavailable:
		return traits{true, 503, ExitUnavailable}
	case Storage:
		return traits{false, 507, ExitFailed}
	case Canceled:
		return traits{false, 499, ExitFailed}
	case Unreachable, Disconnected:
		return traits{true, 502, ExitFailed}
	case Timeout:
		return traits{true, 504, ExitFailed}
	case Busy:
		return traits{true, 429, ExitFailed}
	case HostKey, Auth, Refused, Unparsed:
		return traits{false, 502, ExitFailed}
	case TooLarge:
		return traits{false, 413, ExitFailed}
	case Unsupported:
		return traits{false, 422, ExitUsage}
	default:
		return traits{false, 500, ExitFailed}
	}
}

// Retryable reports whether trying the same work again may help.
func (k Kind) Retryable() bool { return k.traits().retry }

// HTTPStatus is the status with which the API answers an error of this kind.
func (k Kind) HTTPStatus() int { return k.traits().status }

// ExitCode is the exit code with which fleetctl ends on an error of this kind.
func (k Kind) ExitCode() int { return k.traits().exit }

// Kinds lists every kind, for documentation and for tests that walk the table.
func Kinds() []Kind {
	return []Kind{Internal, Invalid, NotFound, Conflict, Denied, Unavailable, Storage, Canceled,
		Unreachable, HostKey, Auth, Timeout, Disconnected, Busy, Refused, Unparsed, TooLarge, Unsupported}
}

// ErrStopping is in the cause of a context that ends because fleetd stops: the work
// will be taken up again by the next start, so what outlives fleetd on a device may
// go on.
var ErrStopping = errors.New("fleetd is stopping")

// Error is an error with its kind, what was being done, to which device, at
// which stage, and what to do next. Empty parts are left out of the text.
type Error struct {
	Kind   Kind
	Act    string // what was being done: "open session", "run show packages"
	Device string // the device's name in the inventory
	Stage  string // the part that failed: dial, host_key, auth, session, prompt, command, parse ...
	Next   string // what the operator can do about it
	Err    error  // the cause; may be nil when Act says it all
}

// Error gives one line: act, device, cause, next step.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Act)
	if e.Device != "" && !strings.Contains(e.Act, e.Device) {
		if b.Len() > 0 {
			b.WriteString(" on ")
		}
		b.WriteString(e.Device)
	}
	if e.Err != nil {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	if e.Next != "" {
		b.WriteString(" (")
		b.WriteString(e.Next)
		b.WriteString(")")
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind from a message.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Wrap gives err a kind and says what was being done. A nil err stays nil. An
// err that has a kind already keeps it.
func Wrap(kind Kind, act string, err error) error {
	if err == nil {
		return nil
	}
	var have *Error
	if errors.As(err, &have) {
		kind = have.Kind
	} else if errors.Is(err, context.Canceled) {
		kind = Canceled
	}
	return &Error{Kind: kind, Act: act, Err: err}
}

// KindOf gives the kind of the outermost Error in err's chain. A cancelled
// context is Canceled, a passed deadline Timeout, anything else Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	default:
		return Internal
	}
}

// Is reports whether err is of the given kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// StageOf gives the first stage named in err's chain, outermost first, or "".
func StageOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Stage != "" {
			return e.Stage
		}
		err = e.Err
	}
	return ""
}
