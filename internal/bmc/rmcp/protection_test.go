package rmcp

import (
	"bytes"
	"testing"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
	"pgregory.net/rapid"
)

// TestProtection holds the datagrams of a session against go-ipmi's own functions:
// each opens what the other sealed, and nothing that was changed on its way.
func TestProtection(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		integrity := rapid.SampledFrom([]types.IntegrityAlg{types.IntegrityAlg_HMAC_SHA1_96, types.IntegrityAlg_HMAC_SHA256_128}).Draw(t, "integrity")
		k1, k2 := rapid.SliceOfN(rapid.Byte(), 20, 32).Draw(t, "k1"), rapid.SliceOfN(rapid.Byte(), 20, 32).Draw(t, "k2")
		message := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "message")
		id, sequence := rapid.Uint32().Draw(t, "session"), rapid.Uint32().Draw(t, "sequence")
		p, err := New(integrity, k1, k2)
		if err != nil {
			t.Fatal(err)
		}

		sealed := p.Seal([]byte("before"), id, sequence, message)[len("before"):]
		packet := &types.Session20{}
		if err := packet.Unpack(sealed[HeaderRMCP:]); err != nil || !IsRMCP(sealed) {
			t.Fatalf("%x is no packet: %v", sealed, err)
		}
		header := packet.SessionHeader20
		if header.SessionID != id || header.Sequence != sequence || !header.PayloadEncrypted || !header.PayloadAuthenticated || header.PayloadType != types.PayloadTypeIPMI {
			t.Fatalf("%+v", header)
		}
		signed := len(sealed) - p.size
		code, err := crypto.SessionIntegrityAuthCode(integrity, sealed[HeaderRMCP:signed], k1, "")
		if err != nil || !bytes.Equal(code, sealed[signed:]) {
			t.Fatalf("code %x, want %x: %v", sealed[signed:], code, err)
		}
		if got, err := crypto.DecryptAESPayload(packet.SessionPayload, k2); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("message %x, want %x: %v", got, message, err)
		}

		theirs := sealedByLibrary(t, integrity, k1, k2, id, sequence, message)
		if got, ok := p.Unseal(bytes.Clone(theirs), id); !ok || !bytes.Equal(got, message) {
			t.Fatalf("message %x, want %x: %v", got, message, ok)
		}
		if _, ok := p.Unseal(bytes.Clone(theirs), id+1); ok {
			t.Fatal("a datagram of another session is taken")
		}
		bent := bytes.Clone(theirs)
		at := rapid.IntRange(HeaderRMCP, len(bent)-1).Draw(t, "at")
		bent[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, ok := p.Unseal(bent, id); ok {
			t.Fatalf("taken with byte %d changed", at)
		}
		if _, ok := p.Unseal(theirs[:rapid.IntRange(0, len(theirs)-1).Draw(t, "cut")], id); ok {
			t.Fatal("taken when cut")
		}
	})
}

func sealedByLibrary(t *rapid.T, integrity types.IntegrityAlg, k1, k2 []byte, id, sequence uint32, message []byte) []byte {
	payload, err := crypto.EncryptAESPayload(message, k2, make([]byte, cipherBlock))
	if err != nil {
		t.Fatal(err)
	}
	header := types.SessionHeader20{
		AuthType: types.AuthTypeRMCPPlus, PayloadEncrypted: true, PayloadAuthenticated: true, PayloadType: types.PayloadTypeIPMI,
		SessionID: id, Sequence: sequence, PayloadLength: uint16(len(payload)),
	}
	packet := append([]byte{6, 0, 0xff, 7}, header.Pack()...)
	packet = append(packet, payload...)
	pad := types.IntegrityPadLen(HeaderSession, len(payload))
	packet = append(packet, bytes.Repeat([]byte{0xff}, pad)...)
	packet = append(packet, byte(pad), nextHeader)
	code, err := crypto.SessionIntegrityAuthCode(integrity, packet[HeaderRMCP:], k1, "")
	if err != nil {
		t.Fatal(err)
	}
	return append(packet, code...)
}

func BenchmarkProtection(b *testing.B) {
	p, err := New(types.IntegrityAlg_HMAC_SHA256_128, make([]byte, 32), make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	var datagram []byte
	b.ReportAllocs()
	for b.Loop() {
		datagram = p.Seal(datagram[:0], 7, 1, make([]byte, 13))
		if _, ok := p.Unseal(datagram, 7); !ok {
			b.Fatal("not its own")
		}
	}
}
