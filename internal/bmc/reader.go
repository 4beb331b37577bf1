package bmc

import (
	"context"
	"net"
	"strconv"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// Protocol names a way to read a log, as the inventory spells it.
type Protocol string

// The protocols. Auto is any of the others.
const (
	Auto          Protocol = "auto"
	IPMILan       Protocol = "ipmi_lan"
	SupermicroWeb Protocol = "supermicro_web"
	Redfish       Protocol = "redfish"
)

// maxRecords bounds a log: record ids have 16 bits.
const maxRecords = 1 << 16

// Log is what a reader read: entries in the order of the BMC, which is oldest
// first unless its log was written round.
type Log struct {
	// Protocol says how it was read, which Auto does not know before.
	Protocol Protocol
	Entries  []Entry
	// Erased is when records were last erased, by the BMC's clock; nil where the
	// protocol does not tell.
	Erased *time.Time
	// Stamp is what the BMC said of the log as a whole; nil where the protocol does
	// not tell.
	Stamp *Stamp
	// Full says that the BMC has dropped records because there was no room.
	Full bool
}

// Reader reads the event log of one BMC.
//
// Read fetches the whole log in a session of its own, which it ends whatever
// happens. With an error, Log has what was read before it, which is not the
// whole log. Nothing is written to the BMC. Read stops within 100 ms of its
// context's end, and may be called again and from several goroutines.
//
// Errors are of kind Unreachable or Timeout where nobody answers, HostKey where
// the certificate is not trusted (no password was sent), Auth where the BMC
// refuses the account (to be tried again only by a person: BMCs lock accounts),
// Busy where the BMC has no room or the log changed under the reader,
// Unsupported where it does not speak the protocol, and Unparsed or TooLarge
// where it speaks nonsense.
type Reader interface {
	Read(ctx context.Context) (Log, error)
}

// Stamp is what Get SEL Info says of a log: how many records, and when one was
// last added and erased, in seconds by the BMC's clock.
type Stamp struct {
	Records int    `json:"records"`
	Added   uint32 `json:"added"`
	Erased  uint32 `json:"erased"`
}

// Resumer is a Reader that can go on from what was read before, so that a log to
// which nothing was added costs a BMC a few answers and not one for each record.
type Resumer interface {
	// Resume is Read, by way of a log that was read before, in whole and by the same
	// protocol. Where it cannot be shown that this one goes on from there, all of it
	// is read.
	Resume(ctx context.Context, before Log) (Log, error)
}

// Target is a BMC and the account to read it with.
type Target struct {
	Host string
	// Port is 0 for the protocol's own. Auto, which has several, takes no other.
	Port     int
	Username string
	Password secret.String
	TLS      TLS
	// Dial opens a TCP connection to the BMC's web server, through jump hosts; nil is a
	// net.Dialer. IPMI is UDP and cannot go that way.
	Dial func(ctx context.Context, host string, port int) (net.Conn, error)
	// Via names the way that Dial takes: behind other jump hosts the same address is
	// another BMC.
	Via string
}

// dial opens a TCP connection to a port of the BMC, if its own is not another.
func (t Target) dial(ctx context.Context, port int) (net.Conn, error) {
	if t.Dial == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", t.address(port))
	}
	if t.Port != 0 {
		port = t.Port
	}
	return t.Dial(ctx, t.Host, port)
}

func (t Target) address(port int) string {
	if t.Port != 0 {
		port = t.Port
	}
	return net.JoinHostPort(t.Host, strconv.Itoa(port))
}

// New makes the reader of a protocol. It connects to nothing yet.
func New(protocol Protocol, target Target, opts Options) (Reader, error) {
	opts = opts.withDefaults()
	if _, err := target.TLS.config(); err != nil {
		return nil, err
	}
	switch protocol {
	case IPMILan:
		return newLAN(target, opts)
	case SupermicroWeb:
		return &supermicroReader{target, opts}, nil
	case Redfish:
		return &redfishReader{target, opts}, nil
	case Auto:
		return AutoFrom("", target, opts)
	default:
		return nil, fault.New(fault.Invalid, "there is no BMC protocol %q", protocol)
	}
}
