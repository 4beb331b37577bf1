package cli

import (
	"cmp"
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/cli/output"
	"capfleet/internal/pcap/tlsaudit"
)

// sort puts the sessions from first on in the order of their packets.
func (r *tlsReport) sort(first int) {
	// Numbers that lie together are compared much faster than those behind pointers.
	type numbered struct {
		packet uint64
		tlsSession
	}
	sessions := r.sessions[first:]
	list := make([]numbered, len(sessions))
	for i, s := range sessions {
		list[i] = numbered{s.Packet, s}
	}
	slices.SortFunc(list, func(x, y numbered) int {
		if x.packet != y.packet {
			return cmp.Compare(x.packet, y.packet)
		}
		return x.Client.Compare(y.Client)
	})
	for i := range list {
		sessions[i] = list[i].tlsSession
	}
}

// writeCSV writes the sessions as tlsView would have it. There may be very many.
func (r *tlsReport) writeCSV(w io.Writer) error {
	const chunk = 64 << 10
	b := make([]byte, 0, chunk+4<<10)
	for i, c := range tlsView().CSV {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, quotedCell(c.Head)...)
	}
	b = append(b, '\n')
	var file, cell string // the last name of a file, and what it is in a cell
	for i := range r.sessions {
		s := &r.sessions[i]
		if s.file != file || i == 0 {
			file, cell = s.file, quotedCell(output.Cell(s.file))
		}
		b = append(r.appendCSV(b, s), cell...)
		if b = append(b, '\n'); len(b) >= chunk {
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	_, err := w.Write(b)
	return err
}

// appendCSV appends a session's line up to the cell of the file.
func (r *tlsReport) appendCSV(b []byte, s *tlsSession) []byte {
	b = append(s.Client.Addr().AppendTo(b), ',')
	b = append(s.Server.Addr().AppendTo(b), ',')
	b = append(strconv.AppendUint(b, uint64(s.Client.Port()), 10), ',')
	b = append(strconv.AppendUint(b, uint64(s.Server.Port()), 10), ',')
	if s.HasNegotiated {
		b = append(b, s.Negotiated.String()...)
	}
	b = append(b, ',')
	if s.HasOffered {
		b = append(b, s.Offered.String()...)
	}
	b = append(b, ',')
	if isHostName(s.ServerName) {
		b = append(b, s.ServerName...)
	} else {
		b = append(b, quotedCell(output.Cell(s.ServerName))...)
	}
	b = append(b, ',')
	if at := captureTime(s.Time, s.HasTime); at != nil {
		b = at.AppendFormat(b, time.RFC3339Nano)
	}
	b = appendYes(append(b, ','), s.Truncated)
	b = append(appendYes(append(b, ','), s.Gap), ',')
	if s.HasAlert {
		b = append(b, tlsaudit.AlertName(s.Alert)...)
	}
	b = append(b, ',')
	if weak, known := s.Weak(r.weak); known {
		b = appendYes(b, weak)
	}
	return append(strconv.AppendUint(append(b, ','), s.Packet, 10), ',')
}

func appendYes(b []byte, yes bool) []byte {
	if yes {
		return append(b, "yes"...)
	}
	return append(b, "no"...)
}

// isHostName reports whether a name is one that a cell holds as it is.
func isHostName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return true
}

// quotedCell gives a cell with the quotes that it may need.
func quotedCell(text string) string {
	if text == "" {
		return ""
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write([]string{text}) // a Builder takes all
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}
