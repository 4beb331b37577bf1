package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"capfleet/internal/config"
	"capfleet/internal/fault"
)

// syslog sends RFC 5424 messages: over UDP a datagram each (RFC 5426), over TCP and
// TLS with their length before them (RFC 6587 3.4.1, RFC 5425), to a local socket
// whatever the socket is.
//
// Syslog has no answers. Over a stream a connection is made for what is to be sent,
// its end is told, and the receiver's end is waited for, so that what the network or
// the receiver's host lost is noticed and sent again. Over UDP nothing is noticed.
type syslog struct {
	config.Syslog
	host string
	tls  *tls.Config
}

func newSyslog(c config.Syslog, host string) (*syslog, error) {
	s := &syslog{Syslog: c, host: printable(host, 255)}
	if c.Network != "tls" {
		return s, nil
	}
	var trust *x509.CertPool
	trust, err := roots(c.CA)
	if err != nil {
		return nil, err
	}
	name, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, err
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trust, ServerName: name}
	return s, nil
}

func (s *syslog) target() string {
	if s.Network == "unix" {
		return "unix://" + s.Address
	}
	return s.Network + "://" + s.Address
}

func (s *syslog) close() {}

// severities of RFC 5424.
func (m *Message) severity() int {
	switch m.Severity {
	case Critical:
		return 2
	case Error:
		return 3
	case Warning:
		return 4
	default:
		return 5
	}
}

// enterprise is the number that RFC 5612 sets aside for documentation: we have none
// of our own.
const enterprise = "32473"

// format gives a message as RFC 5424 has it.
func (s *syslog) format(m *Message) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<%d>1 %s %s fleetd %d %s ", s.Facility*8+m.severity(), m.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		s.host, os.Getpid(), printable(string(m.Condition), 32))
	b.WriteString("[fleet@" + enterprise)
	for _, p := range [][2]string{{"id", m.ID}, {"device", m.Device}, {"job", m.Job}, {"operation", m.Operation}, {"schedule", m.Schedule}} {
		if p[1] != "" {
			b.WriteString(" " + p[0] + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(line(p[1])) + `"`)
		}
	}
	b.WriteString("] \ufeff" + line(m.Summary))
	return b.Bytes()
}

// printable makes a name of a header field: visible ASCII, "-" for none.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), most)]
}

func (s *syslog) send(ctx context.Context, batch []outgoing) (taken int, err error) {
	act := "send to " + s.target()
	conn, stream, err := s.dial(ctx)
	if err != nil {
		return 0, fault.Wrap(fault.Unreachable, act, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer func() { _ = conn.Close() }()
	for _, o := range batch {
		if o.Message == nil {
			return taken, fault.New(fault.Refused, "%s: a result cannot be sent to a syslog", act)
		}
		text := s.format(o.Message)
		if stream {
			text = append([]byte(strconv.Itoa(len(text))+" "), text...)
		}
		if _, err := conn.Write(text); err != nil {
			if stream {
				return 0, fault.Wrap(fault.Unreachable, act, err) // nobody knows how much of it arrived
			}
			return taken, fault.Wrap(fault.Unreachable, act, err)
		}
		taken++
	}
	if !stream {
		return taken, nil
	}
	if err := s.finish(conn); err != nil {
		return 0, fault.Wrap(fault.Unreachable, act, err)
	}
	return taken, nil
}

// endPatience is how long a receiver may take to end the connection. One that keeps
// it open has the messages all the same: its host has acknowledged the end.
const endPatience = 3 * time.Second

// finish tells the receiver that nothing more comes and waits for its end.
func (s *syslog) finish(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(endPatience)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, io.LimitReader(conn, 64<<10))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}

// dial connects; stream says that messages need their length before them.
func (s *syslog) dial(ctx context.Context) (conn net.Conn, stream bool, err error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	switch s.Network {
	case "udp":
		conn, err = d.DialContext(ctx, "udp", s.Address)
		return conn, false, err
	case "unix":
		conn, err = d.DialContext(ctx, "unixgram", s.Address)
		if errors.Is(err, syscall.EPROTOTYPE) { // a stream's socket
			conn, err = d.DialContext(ctx, "unix", s.Address)
			return conn, true, err
		}
		return conn, false, err
	case "tls":
		conn, err = (&tls.Dialer{NetDialer: &d, Config: s.tls}).DialContext(ctx, "tcp", s.Address)
		return conn, true, err
	default:
		conn, err = d.DialContext(ctx, "tcp", s.Address)
		return conn, true, err
	}
}
