package corpus

import "encoding/binary"

// Versions as messages have them.
const (
	ssl3  = 0x0300
	tls10 = 0x0301
	tls11 = 0x0302
	tls12 = 0x0303
	tls13 = 0x0304
)

func spell(version int) string {
	switch version {
	case 0:
		return ""
	case ssl3:
		return "ssl3"
	}
	return "tls1." + string(rune('0'+version-tls10))
}

// vector gives bytes behind their length, which takes size bytes.
func vector(size int, body ...byte) []byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(len(body))) //nolint:gosec // messages are short
	return append(b[4-size:len(b):len(b)], body...)
}

func pair(v int) []byte { return []byte{byte(v >> 8), byte(v)} }

func extension(kind int, body ...byte) []byte { return append(pair(kind), vector(2, body...)...) }

func message(kind byte, body []byte) []byte { return append([]byte{kind}, vector(3, body...)...) }

// clientHello gives a ClientHello that offers up to the version; pad makes it longer.
func clientHello(version int, random, session []byte, name string, pad int) []byte {
	b := pair(min(version, tls12))
	b = append(b, random...)
	b = append(b, vector(1, session...)...)
	ciphers := []byte{0xc0, 0x2f, 0x00, 0x2f, 0x00, 0x35, 0x00, 0x0a}
	if version == tls13 {
		ciphers = append([]byte{0x3a, 0x3a, 0x13, 0x01, 0x13, 0x02}, ciphers...)
	}
	b = append(b, vector(2, ciphers...)...)
	b = append(b, 1, 0)
	if version == ssl3 {
		return message(1, b)
	}
	ext := extension(0x0a, vector(2, 0, 0x1d, 0, 0x17)...)
	if name != "" {
		ext = append(ext, extension(0, vector(2, append([]byte{0}, vector(2, []byte(name)...)...)...)...)...)
	}
	if pad > 0 {
		ext = append(ext, extension(21, make([]byte, pad)...)...)
	}
	if version == tls13 {
		ext = append(ext, extension(43, vector(1, 0x7a, 0x7a, 3, 4, 3, 3, 3, 2)...)...)
	}
	return message(1, append(b, vector(2, ext...)...))
}

// retryRandom makes a ServerHello a HelloRetryRequest (RFC 8446 section 4.1.3).
var retryRandom = []byte("\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c") //nolint:gochecknoglobals // a constant of the protocol

// serverHello gives a ServerHello that chooses the version.
func serverHello(version int, random, session []byte) []byte {
	b := pair(min(version, tls12))
	b = append(b, random...)
	b = append(b, vector(1, session...)...)
	cipher := []byte{0x00, 0x2f}
	if version == tls13 {
		cipher = []byte{0x13, 0x01}
	}
	b = append(append(b, cipher...), 0)
	switch {
	case version == tls13:
		b = append(b, vector(2, append(extension(51, 0, 0x1d), extension(43, 3, 4)...)...)...)
	case version > ssl3:
		b = append(b, vector(2, extension(0xff01, 0)...)...)
	}
	return message(2, b)
}

// records wraps a message into records of at most size bytes.
func records(version, size int, message []byte) []byte {
	var b []byte
	for len(message) > 0 {
		n := min(size, len(message))
		b = append(b, 22)
		b = append(b, pair(version)...)
		b = append(b, vector(2, message[:n]...)...)
		message = message[n:]
	}
	return b
}

// ssl2Hello gives a hello in the form of SSL 2.0 that offers a later version.
func ssl2Hello(version int, challenge []byte) []byte {
	body := append([]byte{1}, pair(version)...)
	body = append(body, 0, 6, 0, 0)
	body = append(body, pair(len(challenge))...)
	body = append(body, 0x00, 0x00, 0x2f, 0x00, 0x00, 0x0a)
	body = append(body, challenge...)
	return append([]byte{0x80, byte(len(body))}, body...)
}

func alert(version int, description byte) []byte {
	return append(append([]byte{21}, pair(version)...), 0, 2, 2, description)
}
