// Package tlshello reads the first message of each side of a TLS connection:
// ClientHello, ServerHello, HelloRetryRequest, the hellos of SSL 2.0, and the
// alert with which a hello is refused.
//
// The bytes are what one side sent, in order from the start of a record; they may
// end anywhere. What they do not reach is not known: a version is given only when
// nothing that is missing could change it (RFC 8446 section 4.2.1: the extension
// supported_versions overrules the version field).
package tlshello

import (
	"fmt"
	"strings"
)

// Version is a protocol version as it stands in messages.
type Version uint16

// The versions.
const (
	SSL2  Version = 0x0002
	SSL3  Version = 0x0300
	TLS10 Version = 0x0301
	TLS11 Version = 0x0302
	TLS12 Version = 0x0303
	TLS13 Version = 0x0304
)

// draft13 is the upper byte of drafts of TLS 1.3.
const draft13 = 0x7f

// String spells a version: ssl2, ssl3, tls1.0 to tls1.3, drafts of TLS 1.3 as
// that, and any other as a number.
func (v Version) String() string {
	switch v {
	case SSL2:
		return "ssl2"
	case SSL3:
		return "ssl3"
	case TLS10:
		return "tls1.0"
	case TLS11:
		return "tls1.1"
	case TLS12:
		return "tls1.2"
	case TLS13:
		return "tls1.3"
	}
	if v>>8 == draft13 {
		return "tls1.3"
	}
	return fmt.Sprintf("0x%04x", uint16(v))
}

// Versions gives the versions, the oldest first.
func Versions() []Version { return []Version{SSL2, SSL3, TLS10, TLS11, TLS12, TLS13} }

// ParseVersion reads a version as String spells it.
func ParseVersion(name string) (Version, bool) {
	for _, v := range Versions() {
		if v.String() == name {
			return v, true
		}
	}
	return 0, false
}

// NewerThan reports whether v is a newer version than w; drafts of TLS 1.3 are newer
// than TLS 1.2.
func (v Version) NewerThan(w Version) bool { return v.rank() > w.rank() }

// rank orders versions by age; the number does not, for SSL 2.0 and drafts.
func (v Version) rank() int {
	if v>>8 == draft13 {
		return int(TLS13) - 1
	}
	return int(v)
}

// grease reports whether a value is one of those that clients send so that
// servers learn to ignore what they do not know (RFC 8701).
func (v Version) grease() bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// Kind is what a message is.
type Kind int

// The kinds.
const (
	None Kind = iota
	Client
	Server
	// Retry is a HelloRetryRequest: the client says hello once more.
	Retry
	Alert
)

// Hello is a message, as far as it was there.
type Hello struct {
	Kind Kind
	// Complete is false when the bytes end before the message does.
	Complete bool
	// Size is how many of the bytes it takes, with the headers of its records. What
	// follows in its last record is not counted.
	Size int
	// Field is the message's version field; not the protocol's version where
	// Supported is not empty. FieldKnown tells whether the bytes reach it.
	Field      Version
	FieldKnown bool
	// Supported is what the extension supported_versions lists, without GREASE:
	// what a client offers, or the one version that a server chose.
	Supported []Version
	// extensionsDone is set when nothing that follows can hold that extension.
	extensionsDone bool
	// ServerName is the SNI of a ClientHello.
	ServerName string
	// Level and Description are those of an alert.
	Level, Description byte
}

// Version gives the highest version that a client offers, or the one that a
// server chose; false when what is there does not tell.
func (h *Hello) Version() (Version, bool) {
	if h.Kind == Alert || h.Kind == None || !h.FieldKnown {
		return 0, false
	}
	if h.Kind != Client && h.Field != TLS12 {
		// A server's extension goes with a field of TLS 1.2 alone.
		return h.Field, true
	}
	if len(h.Supported) > 0 {
		highest := h.Supported[0]
		for _, v := range h.Supported[1:] {
			if v.rank() > highest.rank() {
				highest = v
			}
		}
		return highest, true
	}
	return h.Field, h.extensionsDone
}

// Refused reports whether an alert says that the versions do not meet.
func (h *Hello) Refused() bool { return h.Kind == Alert && h.Description == alertVersion }

const alertVersion = 70 // protocol_version

// maxHello bounds a message. Clients with post-quantum keys and long tickets stay
// below a tenth of it.
const maxHello = 128 << 10

// Parse reads the message at the start of b. Kind None means that there is none,
// or that b is too short to tell; Possible tells which. A message of which a part
// is missing has Complete false; with more bytes Parse may be called again.
func Parse(b []byte) Hello {
	switch {
	case len(b) >= 3 && b[0]&0x80 != 0:
		return parseSSL2(b)
	case len(b) >= recordHeader && b[0] == recordAlert && b[1] == 3:
		return parseAlert(b)
	}
	message, size, ok := handshake(b)
	if !ok || len(message) == 0 {
		return Hello{}
	}
	var h Hello
	switch message[0] {
	case messageClient:
		h = parseClient(message)
	case messageServer:
		h = parseServer(message)
	}
	if h.Kind != None {
		h.Size = size
	}
	return h
}

// Possible reports whether a message may begin with b, for as short as it is.
func Possible(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0]&0x80 != 0 {
		return len(b) < 3 || len(b) < ssl2Fixed && (b[2] == ssl2Client || b[2] == ssl2Server) || parseSSL2(b).Kind != None
	}
	if b[0] != recordHandshake && b[0] != recordAlert || len(b) > 1 && b[1] != 3 {
		return false
	}
	if len(b) <= recordHeader {
		return len(b) < recordHeader || recordLength(b) > 0 && recordLength(b) <= maxRecord
	}
	return Parse(b).Kind != None
}

// clean gives a server name that is one: what else a client sends there is not
// passed on as a name.
func clean(name []byte) string {
	if strings.ContainsFunc(string(name), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return string(name)
}
