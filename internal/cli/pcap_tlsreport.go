package cli

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"capfleet/internal/pcap/tlsaudit"
	"capfleet/internal/pcap/tlshello"
)

// tlsReport collects the sessions of all captures.
type tlsReport struct {
	weak     tlshello.Version
	limit    int
	stream   func(tlsSession) error // in place of keeping the sessions
	failed   error                  // of stream
	sessions []tlsSession
	all      tlsTally
	clients  map[netip.Addr]*tlsTally
	others   tlsTally
}

// maxTLSClients bounds the clients that are summed up one by one.
const maxTLSClients = 100_000

// tlsTally is a tlsClient that still counts.
type tlsTally struct {
	sessions, weak, refused, unknown uint64
	low, high                        tlshello.Version
	hasLow, hasHigh                  bool
	negotiated                       []tlsCount
}

// tlsCount is how many sessions of a client were negotiated at a version.
type tlsCount struct {
	version  tlshello.Version
	sessions uint64
}

// maxTLSVersions bounds the different versions of a client: the field has 65536
// values, and captures come from strangers.
const maxTLSVersions = 64

// add takes a session.
func (r *tlsReport) add(s tlsSession) {
	r.count(s.Session)
	switch {
	case r.stream != nil:
		if r.failed == nil {
			r.failed = r.stream(s)
		}
	case len(r.sessions) < r.limit:
		r.sessions = append(r.sessions, s)
	}
}

func (r *tlsReport) row(s tlsSession) tlsaudit.Row { return s.Row(s.file, r.weak) }

func (r *tlsReport) count(s *tlsaudit.Session) {
	c := r.clients[s.Client.Addr()]
	if c == nil {
		c = &r.others
		if len(r.clients) < maxTLSClients {
			c = &tlsTally{}
			r.clients[s.Client.Addr()] = c
		}
	}
	weak, known := s.Weak(r.weak)
	c.add(s, weak, known)
	c.version(s)
	r.all.add(s, weak, known)
}

func (t *tlsTally) add(s *tlsaudit.Session, weak, known bool) {
	t.sessions++
	switch {
	case !known:
		t.unknown++
	case weak:
		t.weak++
	}
	if s.Refused() {
		t.refused++
	}
}

// version counts a session's versions.
func (t *tlsTally) version(s *tlsaudit.Session) {
	if s.HasNegotiated {
		i := slices.IndexFunc(t.negotiated, func(c tlsCount) bool { return c.version == s.Negotiated })
		switch {
		case i >= 0:
			t.negotiated[i].sessions++
		case len(t.negotiated) < maxTLSVersions:
			t.negotiated = append(t.negotiated, tlsCount{s.Negotiated, 1})
		}
		if !t.hasLow || t.low.NewerThan(s.Negotiated) {
			t.low, t.hasLow = s.Negotiated, true
		}
	}
	if s.HasOffered && (!t.hasHigh || s.Offered.NewerThan(t.high)) {
		t.high, t.hasHigh = s.Offered, true
	}
}

func (t *tlsTally) client(name string) tlsClient {
	c := tlsClient{ClientIP: name, Sessions: t.sessions, Weak: t.weak, Refused: t.refused, Unknown: t.unknown, Negotiated: map[string]uint64{}}
	for _, n := range t.negotiated {
		c.Negotiated[n.version.String()] += n.sessions
	}
	if t.hasLow {
		c.Lowest = new(t.low.String())
	}
	if t.hasHigh {
		c.Highest = new(t.high.String())
	}
	return c
}

// summary gives the clients, those with weak sessions first.
func (r *tlsReport) summary() []tlsClient {
	addresses := slices.SortedFunc(maps.Keys(r.clients), netip.Addr.Compare)
	all := make([]tlsClient, 0, len(addresses)+1)
	for _, addr := range addresses {
		all = append(all, r.clients[addr].client(addr.String()))
	}
	slices.SortStableFunc(all, func(x, y tlsClient) int { return cmp.Compare(y.Weak, x.Weak) })
	if r.others.sessions > 0 {
		all = append(all, r.others.client("others"))
	}
	return all
}

// leftOut is how many sessions are not kept for printing.
func (r *tlsReport) leftOut() uint64 {
	if r.stream != nil {
		return 0
	}
	return r.all.sessions - uint64(len(r.sessions))
}

func (r *tlsReport) conclusion() string {
	text := fmt.Sprintf("%s of %s: %d weak (%s or older)", count(int(r.all.sessions), "TLS session"), count(len(r.clients), "client"), r.all.weak, r.weak) //nolint:gosec // a count
	if r.all.unknown > 0 {
		text += fmt.Sprintf(", %d of which the capture does not tell the version", r.all.unknown)
	}
	if left := r.leftOut(); left > 0 {
		text += fmt.Sprintf("; %d are not printed: raise --limit, or use -o jsonl", left)
	}
	return text
}
