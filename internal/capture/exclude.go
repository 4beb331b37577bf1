package capture

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// shifts are the words of the filter language after which the rest of an
// expression is decoded further inside the packet.
var shifts = regexp.MustCompile(`\b(?:vlan|mpls|pppoes|geneve|vxlan)\b`)

// exclude adds to a filter that our own SSH sessions with the device are left out,
// by the addresses that the device sees, also behind a NAT and a jump host. Each
// packet captured makes packets of such a session, which would be captured again.
// All sessions from there to its SSH port are meant, because two captures at the
// same time would feed each other.
//
// The filter stands in brackets, so that an "or" in it takes nothing back. The
// exclusion comes first, where it is decoded as it is meant: after a "vlan" the
// same words look further inside. Where that can happen it stands behind as well,
// for sessions inside a tag.
func exclude(filter string, peer, own netip.AddrPort) (string, bool) {
	filter = strings.TrimSpace(filter)
	if !peer.IsValid() || !own.IsValid() || peer.Addr().Is4() != own.Addr().Is4() {
		return filter, false
	}
	not := fmt.Sprintf("not (host %s and host %s and tcp port %d)", peer.Addr(), own.Addr(), own.Port())
	if filter == "" {
		return not, true
	}
	out := not + " and (" + filter + ")"
	if shifts.MatchString(filter) {
		out += " and " + not
	}
	return out, true
}
