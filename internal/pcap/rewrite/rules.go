// Package rewrite changes addresses, ports, MAC addresses and VLAN tags of packets
// and leaves their checksums right.
//
// The rules are authoritative about what changes; everything else of a packet stays
// byte for byte. A checksum that was right before is right after, also of a packet
// that was captured in part: it is then moved by the difference (RFC 1624) and not
// made anew. One that was wrong becomes right where all that it covers was captured. A
// frame check sequence that was captured and right is one of them.
package rewrite

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Side says which end of a packet a rule is for.
type Side int

// The sides. Both maps a source and a destination alike, so that what goes there
// and what comes back stay one conversation.
const (
	Both Side = iota
	Source
	Destination
)

// AddressRule maps the addresses of one prefix into another of the same length;
// the bits behind it stay.
type AddressRule struct {
	Side     Side
	From, To netip.Prefix
}

// PortRule maps TCP and UDP ports.
type PortRule struct {
	Side     Side
	From, To uint16
}

// MACRule changes Ethernet addresses. Without From it sets every one of its side,
// which cannot be Both; with From it maps that one, also within ARP.
type MACRule struct {
	Side Side
	From *[6]byte
	To   [6]byte
}

// Rules say what is changed. Of several rules for a field the first that fits is
// taken.
type Rules struct {
	Addresses []AddressRule
	Ports     []PortRule
	MACs      []MACRule
	// StripVLAN removes all tags; SetVLAN changes the identifier of the outermost
	// tag, or adds one where there is none. Not both.
	StripVLAN bool
	SetVLAN   *uint16
}

const maxVLAN = 4094

func (r *Rules) check() error {
	for _, a := range r.Addresses {
		switch {
		case !a.From.IsValid() || !a.To.IsValid():
			return errors.New("an address rule has no prefix")
		case a.From.Addr().BitLen() != a.To.Addr().BitLen():
			return fmt.Errorf("%v and %v are of different IP versions", a.From, a.To)
		case a.From.Bits() != a.To.Bits():
			return fmt.Errorf("%v and %v are of different length, so that addresses have no one place to go to", a.From, a.To)
		}
	}
	for _, m := range r.MACs {
		if m.From == nil && m.Side == Both {
			return errors.New("one MAC address for both ends would make them the same: say source or destination")
		}
	}
	if r.SetVLAN != nil && *r.SetVLAN > maxVLAN {
		return fmt.Errorf("VLAN %d: identifiers are 0 to %d", *r.SetVLAN, maxVLAN)
	}
	if r.SetVLAN != nil && r.StripVLAN {
		return errors.New("a VLAN tag cannot be removed and set at once")
	}
	return nil
}

// address gives what a becomes at one end.
func (r *Rules) address(a netip.Addr, at Side) (netip.Addr, bool) {
	for _, rule := range r.Addresses {
		if (rule.Side == Both || rule.Side == at) && rule.From.Contains(a) {
			return moved(a, rule.To), true
		}
	}
	return a, false
}

// moved puts the bits of a behind the prefix to.
func moved(a netip.Addr, to netip.Prefix) netip.Addr {
	old, prefix := a.AsSlice(), to.Masked().Addr().AsSlice()
	for i := range old {
		keep := min(max(to.Bits()-8*i, 0), 8)
		mask := byte(0xff) << (8 - keep)
		old[i] = prefix[i]&mask | old[i]&^mask
	}
	out, _ := netip.AddrFromSlice(old) // as long as it was
	return out
}

func (r *Rules) port(p uint16, at Side) (uint16, bool) {
	for _, rule := range r.Ports {
		if (rule.Side == Both || rule.Side == at) && rule.From == p {
			return rule.To, true
		}
	}
	return p, false
}

// mac gives what an address becomes at one end; mapOnly leaves out the rules that
// set every address.
func (r *Rules) mac(m [6]byte, at Side, mapOnly bool) ([6]byte, bool) {
	for _, rule := range r.MACs {
		if rule.Side != Both && rule.Side != at || rule.From == nil && mapOnly {
			continue
		}
		if rule.From == nil || *rule.From == m {
			return rule.To, true
		}
	}
	return m, false
}

// ParseAddressRule reads FROM=TO, each an address or a prefix.
func ParseAddressRule(side Side, text string) (AddressRule, error) {
	from, to, err := cut(text)
	if err != nil {
		return AddressRule{}, err
	}
	rule := AddressRule{Side: side}
	if rule.From, err = parsePrefix(from); err != nil {
		return AddressRule{}, err
	}
	if rule.To, err = parsePrefix(to); err != nil {
		return AddressRule{}, err
	}
	check := Rules{Addresses: []AddressRule{rule}}
	return rule, check.check()
}

// ParsePortRule reads FROM=TO.
func ParsePortRule(side Side, text string) (PortRule, error) {
	from, to, err := cut(text)
	if err != nil {
		return PortRule{}, err
	}
	var ports [2]uint16
	for i, s := range []string{from, to} {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return PortRule{}, fmt.Errorf("%q is no port", s)
		}
		ports[i] = uint16(n)
	}
	return PortRule{Side: side, From: ports[0], To: ports[1]}, nil
}

// ParseMACRule reads FROM=TO, or for one side TO alone, which is set everywhere.
func ParseMACRule(side Side, text string) (MACRule, error) {
	rule := MACRule{Side: side}
	to := text
	if side == Both {
		from, rest, err := cut(text)
		if err != nil {
			return MACRule{}, err
		}
		mac, err := parseMAC(from)
		if err != nil {
			return MACRule{}, err
		}
		rule.From, to = &mac, rest
	}
	mac, err := parseMAC(to)
	rule.To = mac
	return rule, err
}

func cut(text string) (from, to string, err error) {
	from, to, ok := strings.Cut(text, "=")
	if !ok {
		return "", "", fmt.Errorf("%q is not of the form FROM=TO", text)
	}
	return from, to, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no address and no prefix", s)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%v has bits behind its prefix; %v is meant, or %v", p, p.Masked(), p.Addr())
	}
	return p, nil
}

func parseMAC(s string) (mac [6]byte, err error) {
	b, err := net.ParseMAC(s)
	if err != nil || len(b) != len(mac) {
		return mac, fmt.Errorf("%q is no MAC address", s)
	}
	return [6]byte(b), nil
}
