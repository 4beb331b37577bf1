package f5

import (
	"bytes"
	"encoding/hex"
)

// TLS is a set of secrets of a connection. What the device did not have yet is all
// zeros on the wire, and empty here.
type TLS struct {
	ClientRandom, ServerRandom []byte
	// Master is the master secret of TLS up to 1.2.
	Master []byte
	// The secrets of TLS 1.3.
	Early, ClientHandshake, ServerHandshake, ClientTraffic, ServerTraffic []byte
}

const (
	randomSize = 32
	masterSize = 48
	slotSize   = 64
)

// tls reads a part with secrets.
func (p part) tls() (TLS, bool) {
	b := p.body
	switch {
	case p.kind == 0 && p.version == 0 && len(b) == masterSize+2*randomSize:
		return TLS{Master: secret(b[:masterSize]), ClientRandom: secret(b[masterSize : masterSize+randomSize]), ServerRandom: secret(b[masterSize+randomSize:])}, true
	case p.kind == 2 && (p.version == 0 || p.version == 1):
		return tls13(p.version, b)
	}
	return TLS{}, false
}

// tls13 reads five slots, or the four of the older version, which may leave the first
// of five unused.
func tls13(version uint16, b []byte) (TLS, bool) {
	const four, five = 1 + 4*slotSize + 2*randomSize, 1 + 5*slotSize + 2*randomSize
	if len(b) != five && (version != 0 || len(b) != four) {
		return TLS{}, false
	}
	size := int(b[0])
	if size > slotSize {
		return TLS{}, false
	}
	var t TLS
	slots := []*[]byte{&t.ClientHandshake, &t.ServerHandshake, &t.ClientTraffic, &t.ServerTraffic}
	b = b[1:]
	if version == 1 {
		slots = append([]*[]byte{&t.Early}, slots...)
	} else if len(b) == five-1 {
		b = b[slotSize:]
	}
	for _, slot := range slots {
		*slot = secret(b[:size])
		b = b[slotSize:]
	}
	t.ClientRandom, t.ServerRandom = secret(b[:randomSize]), secret(b[randomSize:])
	return t, true
}

// secret gives a copy of b, nil where there is nothing in it.
func secret(b []byte) []byte {
	if len(bytes.Trim(b, "\x00")) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

// KeyLog collects secrets per connection and gives the lines of an SSLKEYLOGFILE, each
// once. Random and secrets of a connection may come on different packets.
type KeyLog struct {
	connections map[string]*TLS
	given       map[string]bool
}

// maxConnections bounds what is kept of a capture of strangers.
const maxConnections = 1 << 20

// NewKeyLog gives an empty one.
func NewKeyLog() *KeyLog {
	return &KeyLog{connections: map[string]*TLS{}, given: map[string]bool{}}
}

// Add takes the secrets of a packet of a connection, by any name that both of its
// directions have, and gives the lines that are new, without line ends.
func (k *KeyLog) Add(connection string, secrets []TLS) (lines []string) {
	for i := range secrets {
		s := &secrets[i]
		c := k.connections[connection]
		switch {
		case c == nil && len(k.connections) >= maxConnections:
			c = &TLS{}
		case c == nil, len(s.ClientRandom) > 0 && len(c.ClientRandom) > 0 && !bytes.Equal(s.ClientRandom, c.ClientRandom):
			// Another session on the same addresses and ports.
			c = &TLS{}
			k.connections[connection] = c
		}
		c.take(s)
		for _, line := range c.lines() {
			if !k.given[line] {
				k.given[line] = true
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// take fills what is not known yet, and replaces what has changed.
func (t *TLS) take(s *TLS) {
	for _, f := range []struct{ to, from *[]byte }{
		{&t.ClientRandom, &s.ClientRandom}, {&t.ServerRandom, &s.ServerRandom}, {&t.Master, &s.Master}, {&t.Early, &s.Early},
		{&t.ClientHandshake, &s.ClientHandshake}, {&t.ServerHandshake, &s.ServerHandshake}, {&t.ClientTraffic, &s.ClientTraffic}, {&t.ServerTraffic, &s.ServerTraffic},
	} {
		if len(*f.from) > 0 {
			*f.to = *f.from
		}
	}
}

// lines gives what is known by the labels of an SSLKEYLOGFILE.
func (t *TLS) lines() (lines []string) {
	if len(t.ClientRandom) == 0 {
		return nil
	}
	random := hex.EncodeToString(t.ClientRandom)
	for _, l := range []struct {
		label  string
		secret []byte
	}{
		{"CLIENT_RANDOM", t.Master},
		{"CLIENT_EARLY_TRAFFIC_SECRET", t.Early},
		{"CLIENT_HANDSHAKE_TRAFFIC_SECRET", t.ClientHandshake},
		{"SERVER_HANDSHAKE_TRAFFIC_SECRET", t.ServerHandshake},
		{"CLIENT_TRAFFIC_SECRET_0", t.ClientTraffic},
		{"SERVER_TRAFFIC_SECRET_0", t.ServerTraffic},
	} {
		if len(l.secret) > 0 {
			lines = append(lines, l.label+" "+random+" "+hex.EncodeToString(l.secret))
		}
	}
	return lines
}
