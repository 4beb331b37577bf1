// Package rmcp encrypts and authenticates the datagrams of an IPMI 2.0 session
// (RMCP+), as either side of it needs. go-ipmi's algorithms and the specification's
// sections 13.6, 13.28 and 13.29 are authoritative; how a session is set up and what
// is said in it is none of this package's business.
package rmcp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // cipher suite 3, which is all that many BMCs have
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"

	"capfleet/internal/fault"
)

const (
	// HeaderRMCP is the size of a datagram's first header, in bytes.
	HeaderRMCP = 4
	// HeaderSession is the size of the one behind it in a datagram that is not of an OEM
	// payload, in bytes.
	HeaderSession = 12

	cipherBlock = aes.BlockSize
	// protectedIPMI is the payload type of an IPMI message (0) with its bits for
	// encrypted and authenticated.
	protectedIPMI = 0xc0
	nextHeader    = 0x07 // reserved; the last byte before the integrity code
)

// Header gives the RMCP header: version 1, a sequence number that asks for no
// acknowledgement, class IPMI.
func Header() [HeaderRMCP]byte { return [...]byte{0x06, 0x00, 0xff, 0x07} }

// IsRMCP tells a datagram with the version and class of Header.
func IsRMCP(datagram []byte) bool {
	header := Header()
	return len(datagram) >= HeaderRMCP && datagram[0] == header[0] && datagram[3] == header[3]
}

// Protection has the keys of one session: AES-CBC-128 under K2 and an HMAC under K1.
// They are made ready once; go-ipmi's functions do so for each datagram, which costs
// more than all else that is done with one, and so does a cipher.BlockMode, which
// copies them. It is used by one goroutine.
type Protection struct {
	block cipher.Block
	mac   hash.Hash
	size  int // of the code in a datagram, in bytes: what is left of the HMAC
	code  [sha256.Size]byte
}

// New makes the keys of a session ready: K1 of any length, of K2 the first 16 bytes.
// Integrity algorithms other than HMAC-SHA1-96 and HMAC-SHA256-128 are refused.
func New(integrity types.IntegrityAlg, k1, k2 []byte) (*Protection, error) {
	if len(k2) < cipherBlock {
		return nil, fault.New(fault.Internal, "a key of %d bytes is none of AES-128", len(k2))
	}
	p := &Protection{}
	switch integrity {
	case types.IntegrityAlg_HMAC_SHA1_96:
		p.mac = hmac.New(sha1.New, k1)
	case types.IntegrityAlg_HMAC_SHA256_128:
		p.mac = hmac.New(sha256.New, k1)
	default:
		return nil, fault.New(fault.Internal, "integrity algorithm %d is not one that is offered", integrity)
	}
	p.size, _ = crypto.IntegrityAuthCodeLen(integrity)
	block, err := aes.NewCipher(k2[:cipherBlock])
	p.block = block
	return p, fault.Wrap(fault.Internal, "make a cipher ready", err)
}

// sign gives the integrity code of what follows the RMCP header; it is good until
// the next call.
func (p *Protection) sign(signed []byte) []byte {
	p.mac.Reset()
	_, _ = p.mac.Write(signed) // never fails
	return p.mac.Sum(p.code[:0])[:p.size]
}

// Seal appends the datagram of a message, of at most a few hundred bytes, to dst.
// sessionID is the one that the receiver chose.
func (p *Protection) Seal(dst []byte, sessionID, sequence uint32, message []byte) []byte {
	pad := (cipherBlock - (len(message)+1)%cipherBlock) % cipherBlock
	length := cipherBlock + len(message) + pad + 1
	from := len(dst)
	header := Header()
	dst = append(dst, header[:]...)
	dst = append(dst, byte(types.AuthTypeRMCPPlus), protectedIPMI)
	dst = binary.LittleEndian.AppendUint32(dst, sessionID)
	dst = binary.LittleEndian.AppendUint32(dst, sequence)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(length)) //nolint:gosec // a few blocks
	iv := len(dst)
	dst = append(dst, make([]byte, cipherBlock)...)
	_, _ = rand.Read(dst[iv:]) // never fails
	dst = append(dst, message...)
	for i := range pad {
		dst = append(dst, byte(i+1)) //nolint:gosec // at most 15
	}
	dst = append(dst, byte(pad)) //nolint:gosec // at most 15
	for at := iv + cipherBlock; at < len(dst); at += cipherBlock {
		block := dst[at : at+cipherBlock]
		subtle.XORBytes(block, block, dst[at-cipherBlock:at])
		p.block.Encrypt(block, block)
	}
	align := types.IntegrityPadLen(HeaderSession, length)
	for range align {
		dst = append(dst, 0xff)
	}
	dst = append(dst, byte(align), nextHeader) //nolint:gosec // at most 3
	return append(dst, p.sign(dst[from+HeaderRMCP:])...)
}

// Where the fields of a datagram are.
const (
	atFormat  = HeaderRMCP
	atKind    = atFormat + 1
	atSession = atKind + 1
	atLength  = atSession + 4 + 4
	atPayload = HeaderRMCP + HeaderSession
)

// Proves reports whether a datagram, whatever it carries, is authenticated and of the
// session that the receiver knows as sessionID: whoever made it has the session's
// keys.
func (p *Protection) Proves(datagram []byte, sessionID uint32) bool {
	const authenticated = 0x40
	signed := len(datagram) - p.size
	return signed >= atPayload && IsRMCP(datagram) && datagram[atFormat] == byte(types.AuthTypeRMCPPlus) && datagram[atKind]&authenticated != 0 &&
		binary.LittleEndian.Uint32(datagram[atSession:]) == sessionID &&
		hmac.Equal(p.sign(datagram[HeaderRMCP:signed]), datagram[signed:])
}

// Unseal gives the message of a datagram of the session that the receiver knows as
// sessionID, decrypted in its place; ok is false for any other. The integrity code is
// checked before anything that is under it is believed.
func (p *Protection) Unseal(datagram []byte, sessionID uint32) (message []byte, ok bool) {
	if len(datagram) < atPayload || datagram[atKind] != protectedIPMI || !p.Proves(datagram, sessionID) {
		return nil, false
	}
	length := int(binary.LittleEndian.Uint16(datagram[atLength:]))
	if atPayload+length > len(datagram)-p.size || length < 2*cipherBlock || length%cipherBlock != 0 {
		return nil, false
	}
	text := datagram[atPayload : atPayload+length]
	for at := length - cipherBlock; at > 0; at -= cipherBlock {
		block := text[at : at+cipherBlock]
		p.block.Decrypt(block, block)
		subtle.XORBytes(block, block, text[at-cipherBlock:at])
	}
	message, err := crypto.UnpadAES(text[cipherBlock:])
	return message, err == nil
}
