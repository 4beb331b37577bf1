package tlsaudit

import (
	"net/netip"
	"strconv"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/tlshello"
)

// Session is one TLS handshake, as far as the capture has it.
type Session struct {
	// Packet is the number of the packet in which its first hello begins, Time when
	// that was captured.
	Packet  uint64
	Time    pcap.Timestamp
	HasTime bool

	Client, Server netip.AddrPort

	// Offered is the highest version that the client offers, Negotiated the one that
	// the server chose; without Has… it is not known, or was not said.
	Offered, Negotiated       tlshello.Version
	HasOffered, HasNegotiated bool
	// ClientHello and ServerHello tell whether there was one, readable or not.
	ClientHello, ServerHello bool
	ServerName               string

	// Truncated means that a hello was not captured in full, because packets were
	// cut to a snap length.
	Truncated bool
	// Gap means that packets with a part of a hello are missing from the capture.
	Gap bool
	// Retried means that the server asked for another ClientHello.
	Retried bool
	// Alert is the description of the fatal alert that ended the handshake, where
	// HasAlert; AlertFromServer tells who sent it.
	Alert                     uint8
	HasAlert, AlertFromServer bool
}

// Refused reports whether an alert said that the versions do not meet.
func (s *Session) Refused() bool { return s.HasAlert && s.Alert == alertVersion }

// Version gives the version by which a session is judged: the one that was
// negotiated; where there was none, the highest that the client could have got.
// False when the capture does not tell.
func (s *Session) Version() (tlshello.Version, bool) {
	switch {
	case s.HasNegotiated:
		return s.Negotiated, true
	case s.ServerHello:
		return 0, false
	}
	return s.Offered, s.HasOffered
}

// mayRetry reports whether another pair of hellos may follow: one was asked for, or
// too little was captured of the server's to tell whether it asks for one.
func (s *Session) mayRetry() bool {
	return !s.HasNegotiated && (s.Retried || s.ServerHello)
}

const alertVersion = 70

// AlertName gives the name of an alert's description by the registry of IANA, or
// its number.
func AlertName(description uint8) string {
	switch description {
	case 0:
		return "close_notify"
	case 10:
		return "unexpected_message"
	case 20:
		return "bad_record_mac"
	case 40:
		return "handshake_failure"
	case 42:
		return "bad_certificate"
	case 43:
		return "unsupported_certificate"
	case 44:
		return "certificate_revoked"
	case 45:
		return "certificate_expired"
	case 46:
		return "certificate_unknown"
	case 47:
		return "illegal_parameter"
	case 48:
		return "unknown_ca"
	case 49:
		return "access_denied"
	case 50:
		return "decode_error"
	case 51:
		return "decrypt_error"
	case alertVersion:
		return "protocol_version"
	case 71:
		return "insufficient_security"
	case 80:
		return "internal_error"
	case 86:
		return "inappropriate_fallback"
	case 90:
		return "user_canceled"
	case 109:
		return "missing_extension"
	case 110:
		return "unsupported_extension"
	case 112:
		return "unrecognized_name"
	case 113:
		return "bad_certificate_status_response"
	case 115:
		return "unknown_psk_identity"
	case 116:
		return "certificate_required"
	case 120:
		return "no_application_protocol"
	}
	return "alert_" + strconv.Itoa(int(description))
}
