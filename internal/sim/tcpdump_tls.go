package sim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"time"
)

// The HTTPS that passes by: real sessions of crypto/tls, made once and seen again and
// again, so that what reads captures finds real handshakes, and with the secrets of a
// BIG-IP's trailers real plaintext.

// tlsSession is what two ends said to each other, turn by turn: the client first.
type tlsSession struct {
	flights [][]byte
	secrets tlsSecrets
}

// tlsSecrets are the secrets of a session as the trailers of a BIG-IP give them.
type tlsSecrets struct {
	clientRandom, serverRandom []byte
	master                     []byte   // up to TLS 1.2
	traffic                    [][]byte // TLS 1.3: client and server of the handshake, then of the application
}

// serverName is whom the clients ask for.
const serverName = "www.example.net"

// recordSessions makes one session of each version that the clients speak.
func recordSessions() ([]tlsSession, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serverName}, DNSNames: []string{serverName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(leaf)
	var all []tlsSession
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS10} {
		var secrets bytes.Buffer
		server := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
			MinVersion: version, MaxVersion: version, SessionTicketsDisabled: true}
		client := &tls.Config{RootCAs: trusted, ServerName: serverName, MinVersion: version, MaxVersion: version, KeyLogWriter: &secrets}
		s, err := recordSession(client, server)
		if err == nil {
			err = s.readSecrets(secrets.String())
		}
		if err != nil {
			return nil, fmt.Errorf("make TLS traffic: %w", err)
		}
		all = append(all, s)
	}
	return all, nil
}

// recordSession has a client ask a server for a page.
func recordSession(client, server *tls.Config) (tlsSession, error) {
	var s tlsSession
	near, far := net.Pipe()
	var mu sync.Mutex
	ends := []*recorder{{Conn: near, mu: &mu, s: &s}, {Conn: far, mu: &mu, s: &s, server: true}}
	served := make(chan error, 1)
	go func() {
		c := tls.Server(ends[1], server)
		_, err := io.ReadFull(c, make([]byte, len(httpRequest)))
		if err == nil {
			_, err = io.WriteString(c, httpAnswer())
		}
		served <- err
	}()
	c := tls.Client(ends[0], client)
	_, err := io.WriteString(c, httpRequest)
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, len(httpAnswer())))
	}
	if err != nil {
		_ = near.Close() // the server gives up, too
	}
	err = errors.Join(err, <-served)
	_, _ = near.Close(), far.Close()
	return s, err
}

const httpRequest = "GET /inventory HTTP/1.1\r\nHost: " + serverName + "\r\nX-Forwarded-For: 203.0.113.77\r\n\r\n"

func httpAnswer() string {
	body := strings.Repeat("simulated answer ", 50)
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// recorder is one end, which notes what it sends.
type recorder struct {
	net.Conn
	mu     *sync.Mutex
	s      *tlsSession
	server bool
}

// Write implements net.Conn.
func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	turn := len(r.s.flights) - 1
	if turn < 0 || (turn%2 == 1) != r.server {
		r.s.flights = append(r.s.flights, nil)
		turn++
	}
	r.s.flights[turn] = append(r.s.flights[turn], p...)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// readSecrets reads a key log and the ServerHello.
func (s *tlsSession) readSecrets(log string) error {
	const serverRandomAt, randomLength = 5 + 4 + 2, 32
	if len(s.flights) < 2 || len(s.flights[1]) < serverRandomAt+randomLength {
		return errors.New("no ServerHello")
	}
	s.secrets.serverRandom = s.flights[1][serverRandomAt : serverRandomAt+randomLength]
	labels := []string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}
	traffic := map[string][]byte{}
	for line := range strings.Lines(log) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return fmt.Errorf("key log line %q", line)
		}
		clientRandom, err1 := hex.DecodeString(f[1])
		secret, err2 := hex.DecodeString(f[2])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		s.secrets.clientRandom = clientRandom
		if f[0] == "CLIENT_RANDOM" {
			s.secrets.master = secret
		}
		traffic[f[0]] = secret
	}
	for _, l := range labels {
		if secret := traffic[l]; secret != nil {
			s.secrets.traffic = append(s.secrets.traffic, secret)
		}
	}
	if s.secrets.master == nil && len(s.secrets.traffic) != len(labels) {
		return errors.New("no secrets in the key log")
	}
	return nil
}

// trailerMagic begins a trailer of TMOS 14.0 and later.
const trailerMagic = 0xf5deb0f5

// secretTrailer is a trailer in the form of TMOS 14.0 and later: the low level of
// detail and, where there are any, the secrets of the connection.
func secretTrailer(secrets *tlsSecrets) []byte {
	const noise, noiseLow, tlsProvider, tlsOld, tls13 = 1, 1, 4, 0, 2
	tlv := func(provider, kind, version uint16, data []byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, provider)
		b = binary.BigEndian.AppendUint16(b, kind)
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(data))) //nolint:gosec // a few hundred
		return append(binary.BigEndian.AppendUint16(b, version), data...)
	}
	body := tlv(noise, noiseLow, 2, append([]byte{1, 0, 1, byte(len(virtualServer))}, virtualServer...))
	switch {
	case secrets == nil:
	case secrets.master != nil:
		body = append(body, tlv(tlsProvider, tlsOld, 0, bytes.Join([][]byte{secrets.master, secrets.clientRandom, secrets.serverRandom}, nil))...)
	default:
		const slot = 64
		data := make([]byte, 1+slot, 1+5*slot+64) // no early traffic
		data[0] = byte(len(secrets.traffic[0]))
		for _, secret := range secrets.traffic {
			data = append(data, append(secret[:len(secret):len(secret)], make([]byte, slot-len(secret))...)...)
		}
		data = append(append(data, secrets.clientRandom...), secrets.serverRandom...)
		body = append(body, tlv(tlsProvider, tls13, 1, data)...)
	}
	head := binary.BigEndian.AppendUint32(nil, trailerMagic)
	head = binary.BigEndian.AppendUint16(head, uint16(8+len(body))) //nolint:gosec // a few hundred
	return append(binary.BigEndian.AppendUint16(head, 1), body...)
}
