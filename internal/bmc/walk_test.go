package bmc

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/bougou/go-ipmi/pkg/command/storage"
	"github.com/bougou/go-ipmi/pkg/types"

	"capfleet/internal/bmc/rmcp"
	"capfleet/internal/fault"
)

// chain answers Get SEL Entry with the record and the next id that it has for an
// id; 0 is the first record. An id that it has not is not present.
type chain map[uint16]struct {
	record []byte
	next   uint16
}

func (c chain) command(_ context.Context, request types.Request, response types.Response) error {
	link, ok := c[request.(*storage.GetSELEntryRequest).RecordID]
	if !ok {
		return types.NewResponseError(codeNotPresent, "")
	}
	return response.Unpack(append(binary.LittleEndian.AppendUint16(nil, link.next), link.record...))
}

func TestWalk(t *testing.T) {
	t.Parallel()
	record := make([]byte, RecordSize)
	for name, c := range map[string]struct {
		chain   chain
		entries int
		kind    fault.Kind
	}{
		"empty":        {chain{}, 0, ""},
		"one":          {chain{0: {record, 0xffff}}, 1, ""},
		"gaps":         {chain{0: {record, 9}, 9: {record, 3}, 3: {record, 0xffff}}, 3, ""},
		"to itself":    {chain{0: {record, 1}, 1: {record, 1}}, 2, fault.Unparsed},
		"round":        {chain{0: {record, 1}, 1: {record, 2}, 2: {record, 1}}, 3, fault.Unparsed},
		"to the first": {chain{0: {record, 1}, 1: {record, 0}}, 2, fault.Unparsed},
		"cleared":      {chain{0: {record, 5}}, 1, fault.Busy},
		"short":        {chain{0: {record[:10], 0xffff}}, 0, fault.Unparsed},
		"nothing":      {chain{0: {nil, 0xffff}}, 0, fault.Unparsed},
	} {
		entries, err := walk(t.Context(), c.chain, selFirst, nil, nil)
		if len(entries) != c.entries || fault.KindOf(err) != c.kind {
			t.Errorf("%s: %d entries, kind %q: %v", name, len(entries), fault.KindOf(err), err)
		}
	}
}

// FuzzDatagram: whatever comes over UDP, it is not the session's unless it has
// the session's code, and nothing panics.
func FuzzDatagram(f *testing.F) {
	for _, suite := range cipherSuites {
		f.Add(fuzzSession(f, suite).seal(&storage.GetSELEntryRequest{}))
	}
	f.Add([]byte{6, 0, 0xff, 7, 6, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 4})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		for _, suite := range cipherSuites {
			s := fuzzSession(t, suite)
			if message, ok := s.protection.Unseal(bytes.Clone(datagram), s.consoleID); ok { // it decrypts in place
				var answer types.IPMIResponse
				_ = answer.Unpack(message)
			}
			// And what the BMC itself signs may still be nonsense.
			if len(datagram) < maxDatagram {
				if _, ok := s.protection.Unseal(s.seal(nonsense(datagram)), s.consoleID); !ok {
					t.Fatal("a datagram of our own is refused")
				}
			}
			parsePacket(datagram)
		}
	})
}

func fuzzSession(t testing.TB, suite types.CipherSuiteID) *session {
	t.Helper()
	s := &session{consoleID: 7, bmcID: 7}
	var ok bool
	if s.auth, s.integrity, s.crypt, ok = types.GetCipherSuiteAlgorithms(suite); !ok {
		t.Fatal("no such suite")
	}
	var err error
	if s.protection, err = rmcp.New(s.integrity, make([]byte, 32), make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	return s
}

// nonsense is a request of any bytes.
type nonsense []byte

func (n nonsense) Command() types.Command { return types.CommandGetSELEntry }
func (n nonsense) Pack() []byte           { return n }

// FuzzSensorRecord: whatever a sensor record holds, it is read or refused.
func FuzzSensorRecord(f *testing.F) {
	f.Add([]byte{1, 0, 0x51, 1, 10, 0x20, 0, 4, 7, 1, 0x7f, 0x68, 1, 1})
	f.Fuzz(func(t *testing.T, record []byte) {
		source := sensorSource{record}
		if _, err := walkSensors(t.Context(), source); err != nil && !fault.Is(err, fault.Unparsed) {
			t.Fatal(err)
		}
	})
}

// sensorSource has one sensor record, and a reading for any sensor.
type sensorSource struct{ record []byte }

func (s sensorSource) command(_ context.Context, request types.Request, response types.Response) error {
	if _, is := request.(*storage.GetSDRRequest); is {
		return response.Unpack(append([]byte{0xff, 0xff}, s.record...))
	}
	return response.Unpack([]byte{0x2a, 0x40, 0xc0})
}
