package sshconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// certificate gives a signer that presents the endpoint's certificate
// (PROTOCOL.certkeys of OpenSSH) and signs with its private key, the one in keys.
// A certificate that no server could accept now is an error here, because a server
// says no more than that it refuses. It is read for each connection, as
// short-lived ones are renewed while fleetd runs.
func (d *Dialer) certificate(ctx context.Context, ep endpoint, keys []ssh.Signer) (ssh.Signer, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is a certificate without a private_key")
	}
	line, err := d.secrets.Resolve(ctx, ep.creds.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	cert, err := parseCertificate([]byte(line.Reveal()))
	if err == nil {
		err = checkCertificate(cert, keys[0].PublicKey(), time.Now())
	}
	var signer ssh.Signer
	if err == nil {
		signer, err = ssh.NewCertSigner(cert, keys[0])
	}
	if err != nil {
		return nil, fmt.Errorf("certificate in %s: %w", ep.creds.Certificate, err)
	}
	return signer, nil
}

// parseCertificate reads a file as ssh-keygen writes it: one line of type, key
// and comment.
func parseCertificate(raw []byte) (*ssh.Certificate, error) {
	public, _, _, _, err := ssh.ParseAuthorizedKey(raw)
	if err != nil {
		return nil, errors.New("it is no OpenSSH certificate (a line as in NAME-cert.pub)")
	}
	cert, ok := public.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("it is a plain public key (%s), not a certificate: that is in the file with -cert.pub", public.Type())
	}
	return cert, nil
}

func checkCertificate(cert *ssh.Certificate, key ssh.PublicKey, now time.Time) error {
	switch {
	case cert.CertType != ssh.UserCert:
		return errors.New("it is a host certificate, not a user certificate")
	case !bytes.Equal(cert.Key.Marshal(), key.Marshal()):
		return fmt.Errorf("it is for another key: it certifies %s, the private key is %s",
			ssh.FingerprintSHA256(cert.Key), ssh.FingerprintSHA256(key))
	case now.Before(certTime(cert.ValidAfter)):
		return fmt.Errorf("it is not valid before %s, and it is %s here; check the clock", stamp(cert.ValidAfter), now.UTC().Format(time.RFC3339))
	case cert.ValidBefore != ssh.CertTimeInfinity && !now.Before(certTime(cert.ValidBefore)):
		return fmt.Errorf("it expired at %s, and it is %s here; have it renewed", stamp(cert.ValidBefore), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// certTime is a time of a certificate, in seconds since 1970. Anything may be
// written there; what is beyond the calendar is its end.
func certTime(seconds uint64) time.Time {
	const end = 253402300799 // 9999-12-31T23:59:59Z
	return time.Unix(int64(min(seconds, end)), 0)
}

func stamp(seconds uint64) string { return certTime(seconds).UTC().Format(time.RFC3339) }

// describe tells what a server judges a certificate by, for an error.
func describe(cert *ssh.Certificate) string {
	principals := "no principals, which OpenSSH refuses"
	if len(cert.ValidPrincipals) > 0 {
		principals = "principals " + strings.Join(cert.ValidPrincipals, ", ")
	}
	return foreign(fmt.Sprintf("the certificate (CA %s; %s)", ssh.FingerprintSHA256(cert.SignatureKey), principals))
}
