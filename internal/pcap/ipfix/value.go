package ipfix

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// reverseEnterprise marks elements of the other direction of a flow: RFC 5103.
const reverseEnterprise = 29305

// name gives the name of a field and how its value is read. Elements of enterprises
// and those that the registry has grown by since are "enterprise/number" and "number".
func (f field) name() (string, kind) {
	number := strconv.Itoa(int(f.id))
	switch f.enterprise {
	case 0:
		if e := registered(f.id); e.name != "" {
			return e.name, e.kind
		}
		return number, octets
	case reverseEnterprise:
		if e := registered(f.id); e.name != "" {
			return "reverse" + strings.ToUpper(e.name[:1]) + e.name[1:], e.kind
		}
	}
	return strconv.FormatUint(uint64(f.enterprise), 10) + "/" + number, octets
}

// ntpEpoch is 1970 in seconds since 1900.
const ntpEpoch = 2208988800

// value gives the value of a field for JSON. One whose length does not fit its kind is
// hexadecimal, as are octets.
func (k kind) value(b []byte) any {
	switch k {
	case unsigned:
		if len(b) > 0 && len(b) <= 8 {
			return number(b)
		}
	case float:
		switch len(b) {
		case 4:
			return finite(float64(math.Float32frombits(binary.BigEndian.Uint32(b))))
		case 8:
			return finite(math.Float64frombits(binary.BigEndian.Uint64(b)))
		}
	case boolean:
		if len(b) == 1 && (b[0] == 1 || b[0] == 2) {
			return b[0] == 1
		}
	case address:
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
	case mac:
		if len(b) == 6 {
			return net.HardwareAddr(b).String()
		}
	case text:
		return strings.ToValidUTF8(strings.TrimRight(string(b), "\x00"), "\uFFFD")
	case seconds:
		if len(b) == 4 {
			return stamp(time.Unix(int64(number(b)), 0)) //nolint:gosec // 4 bytes
		}
	case milliseconds:
		if len(b) == 8 && b[0] < 0x40 {
			return stamp(time.UnixMilli(int64(number(b)))) //nolint:gosec // bounded above
		}
	case ntp:
		if len(b) == 8 {
			nanos := uint64(binary.BigEndian.Uint32(b[4:])) * 1e9 >> 32
			return stamp(time.Unix(int64(binary.BigEndian.Uint32(b))-ntpEpoch, int64(nanos))) //nolint:gosec // below 10^9
		}
	}
	return hex.EncodeToString(b)
}

func number(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// stamp gives a time as JSON can have it: up to the year 9999.
func stamp(t time.Time) string {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return strconv.FormatInt(t.Unix(), 10)
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// finite gives a number, or its name where JSON has none for it.
func finite(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return v
}
