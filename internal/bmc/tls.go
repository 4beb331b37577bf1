package bmc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"time"

	"capfleet/internal/fault"
)

// TLS says how the certificate of a BMC's web server is trusted. The zero TLS
// asks the authorities of this host, which a BMC's self-signed certificate fails.
type TLS struct {
	// Pins are SHA-256 fingerprints of certificates in hexadecimal, as OpenSSL
	// prints them, with or without colons. With pins, a certificate that has one
	// of them is trusted, whatever name, authority and dates it has; no other is.
	Pins []string
	// Roots are authorities instead of this host's.
	Roots *x509.CertPool
	// Plain sends the password in the clear over HTTP. Only the oldest boards
	// have nothing else.
	Plain bool
}

// Certificate is what a BMC shows who it is, for somebody to compare and pin.
type Certificate struct {
	Fingerprint string    `json:"fingerprint"` // SHA-256, as Pin has it
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	DER         []byte    `json:"der"`
}

// Fingerprint is the SHA-256 of a certificate (DER) as Pins have it.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// Show gets the certificate of a BMC's web server. It trusts nothing and sends
// no credential: what it gives is to be compared by a person before it is pinned.
func Show(ctx context.Context, target Target) (Certificate, error) {
	act := "get the certificate of BMC " + target.Host
	conn, err := target.dial(ctx, httpsPort)
	if err != nil {
		return Certificate{}, webError(ctx, act, err)
	}
	defer func() { _ = conn.Close() }()
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is shown, not trusted
	if err := secured.HandshakeContext(ctx); err != nil {
		return Certificate{}, webError(ctx, act, err)
	}
	shown := secured.ConnectionState().PeerCertificates
	if len(shown) == 0 {
		return Certificate{}, fault.New(fault.HostKey, "%s: it shows none", act)
	}
	c := shown[0]
	return Certificate{Fingerprint(c.Raw), c.Subject.String(), c.Issuer.String(), c.NotBefore.UTC(), c.NotAfter.UTC(), c.Raw}, nil
}

// errPin is a certificate that is none of the pinned ones.
var errPin = errors.New("it is none of the pinned certificates")

func (t TLS) config() (*tls.Config, error) {
	if len(t.Pins) == 0 {
		return &tls.Config{RootCAs: t.Roots, MinVersion: tls.VersionTLS12}, nil
	}
	var pins [][]byte
	for _, pin := range t.Pins {
		digits, err := ParseFingerprint(pin)
		if err != nil {
			return nil, err
		}
		sum, err := hex.DecodeString(digits)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "read a fingerprint", err)
		}
		pins = append(pins, sum)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection takes its place: the pin is the trust
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errPin
			}
			got := sha256.Sum256(state.PeerCertificates[0].Raw)
			for _, pin := range pins {
				if subtle.ConstantTimeCompare(pin, got[:]) == 1 {
					return nil
				}
			}
			return errPin
		},
	}, nil
}

// webError gives an error of HTTP or TLS its kind.
func webError(ctx context.Context, act string, err error) error {
	e := &fault.Error{Kind: fault.Unreachable, Act: act, Stage: "web", Err: err}
	_, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	have, known := errors.AsType[*fault.Error](err)
	switch {
	case known:
		e.Kind = have.Kind
	case errors.Is(ctx.Err(), context.Canceled):
		e.Kind = fault.Canceled
	case unverified, errors.Is(err, errPin):
		e.Kind, e.Next = fault.HostKey, "compare the certificate's fingerprint with the BMC's and pin it; no password was sent"
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded), isNet && timeout.Timeout():
		e.Kind = fault.Timeout
	}
	return e
}
