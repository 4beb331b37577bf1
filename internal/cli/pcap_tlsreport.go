package cli

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"capfleet/internal/cli/output"
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
	negotiated                       map[tlshello.Version]uint64
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
		if t.negotiated == nil {
			t.negotiated = map[tlshello.Version]uint64{}
		}
		if _, ok := t.negotiated[s.Negotiated]; ok || len(t.negotiated) < maxTLSVersions {
			t.negotiated[s.Negotiated]++
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
	for v, n := range t.negotiated {
		c.Negotiated[v.String()] += n
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

// writeCSV writes the sessions as tlsView would have it. There may be very many.
func (r *tlsReport) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	columns := tlsView().CSV
	line := make([]string, len(columns))
	for i, c := range columns {
		line[i] = c.Head
	}
	if err := out.Write(line); err != nil {
		return err
	}
	yes := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	var file, cell string // the last name of a file, and what it is in a cell
	for i := range r.sessions {
		s := r.sessions[i]
		clear(line)
		line[0], line[1] = s.Client.Addr().String(), s.Server.Addr().String()
		line[2], line[3] = strconv.Itoa(int(s.Client.Port())), strconv.Itoa(int(s.Server.Port()))
		if s.HasNegotiated {
			line[4] = s.Negotiated.String()
		}
		if s.HasOffered {
			line[5] = s.Offered.String()
		}
		line[6] = output.Cell(s.ServerName)
		if at := captureTime(s.Time, s.HasTime); at != nil {
			line[7] = at.Format(time.RFC3339Nano)
		}
		line[8], line[9] = yes(s.Truncated), yes(s.Gap)
		if s.HasAlert {
			line[10] = tlsaudit.AlertName(s.Alert)
		}
		if weak, known := s.Weak(r.weak); known {
			line[11] = yes(weak)
		}
		if s.file != file || cell == "" {
			file, cell = s.file, output.Cell(s.file)
		}
		line[12], line[13] = strconv.FormatUint(s.Packet, 10), cell
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
