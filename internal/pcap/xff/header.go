package xff

import (
	"bytes"
	"net/netip"
	"strings"
)

// Headers gives the names of the headers that are looked at.
//
// Forwarded is RFC 7239; X-Forwarded-For is the one that everything else grew from.
// The others are those of products: nginx and Envoy, Akamai, Cloudflare and Fastly,
// Azure, WebLogic and older proxies.
func Headers() []string {
	return []string{
		"X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP",
		"CF-Connecting-IP", "CF-Connecting-IPv6", "Fastly-Client-IP", "X-Original-Forwarded-For", "X-Envoy-External-Address",
		"X-Azure-ClientIP", "Client-IP", "Forwarded-For", "X-Forwarded", "Proxy-Client-IP", "WL-Proxy-Client-IP",
	}
}

const forwarded = "forwarded"

// ValidName reports whether a header can have this name (RFC 9110 section 5.6.2),
// and it begins with a letter.
func ValidName(name string) bool {
	if name == "" || len(name) > 256 {
		return false
	}
	for i := range len(name) {
		c := name[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || (name[i] < '0' || name[i] > '9') && name[i] != '-' && name[i] != '_') {
			return false
		}
	}
	return true
}

// names is the set of header names, by what a line begins with.
type names struct {
	lower   []string // in lower case
	first   [256]bool
	longest int
	// vectors is set where scanLines looks for the letters in first.
	vectors bool
	letters [2 * 16]byte
}

// vector is how many places scanLines looks at together.
const vector = 32

func newNames(list []string) *names {
	n := &names{vectors: hasVectors()}
	for _, name := range list {
		name = strings.ToLower(name)
		n.lower = append(n.lower, name)
		n.first[name[0]], n.first[strings.ToUpper(name)[0]] = true, true
		n.letters[name[0]&0x1f] = name[0]
		n.longest = max(n.longest, len(name))
	}
	return n
}

// next gives the first place behind a line's end, from a place on, where a line begins
// as a header may; -1 when there is none.
func (n *names) next(b []byte, from int) int {
	if limit := (len(b) - from - 1) &^ (vector - 1); n.vectors && limit > 0 {
		at := scanLines(&b[from], limit, &n.letters)
		from += at
		if at < limit {
			return from + 1
		}
	}
	for {
		end := bytes.IndexByte(b[from:], '\n')
		from += end + 1
		if end < 0 || from == len(b) {
			return -1
		}
		if n.first[b[from]] {
			return from
		}
	}
}

// match says what the beginning of a line is.
type match int

const (
	other match = iota
	// header: one of the names, a colon, and what follows.
	header
	// begun: it may become one, with more bytes.
	begun
)

// line looks at the beginning of a line, and gives the name's length.
func (n *names) line(b []byte) (m match, name int) {
	if len(b) == 0 || !n.first[b[0]] {
		return other, 0
	}
	end := bytes.IndexByte(b[:min(len(b), n.longest+1)], ':')
	typed := b
	if end >= 0 {
		typed = b[:end]
	} else if len(b) > n.longest {
		return other, 0
	}
	for _, name := range n.lower {
		if len(typed) > len(name) || end >= 0 && len(typed) != len(name) || !equalFold(typed, name[:len(typed)]) {
			continue
		}
		if end >= 0 {
			return header, end
		}
		return begun, 0
	}
	return other, 0
}

// equalFold compares with a name in lower case.
func equalFold(b []byte, lower string) bool {
	for i := range lower {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// names reports whether a header's value names the address.
func (s *Search) names(name, value []byte) bool {
	if len(name) == len(forwarded) && equalFold(name, forwarded) {
		return s.inForwarded(value)
	}
	for len(value) > 0 {
		var element []byte
		element, value, _ = bytes.Cut(value, []byte{','})
		if s.is(element) {
			return true
		}
	}
	return false
}

// inForwarded looks at the parameters "for" of a Forwarded header.
func (s *Search) inForwarded(value []byte) bool {
	for len(value) > 0 {
		// Addresses hold neither a comma nor a semicolon, also within quotes.
		i := bytes.IndexAny(value, ",;")
		pair := value
		if i >= 0 {
			pair, value = value[:i], value[i+1:]
		} else {
			value = nil
		}
		key, node, ok := bytes.Cut(pair, []byte{'='})
		if ok && bytes.EqualFold(bytes.TrimSpace(key), []byte("for")) && s.is(node) {
			return true
		}
	}
	return false
}

// maxElement is longer than any address with its port, zone and quotes.
const maxElement = 80

// is compares an element of a list: an address, perhaps in quotes or brackets and
// with a port.
func (s *Search) is(element []byte) bool {
	element = bytes.Trim(element, " \t\"")
	if len(element) < 2 || len(element) > maxElement {
		return false
	}
	if element[0] == '[' {
		end := bytes.IndexByte(element, ']')
		if end < 0 || len(element) > end+1 && !isPort(element[end+1:]) {
			return false
		}
		element = element[1:end]
	} else if i := bytes.IndexByte(element, ':'); i >= 0 && bytes.IndexByte(element[i+1:], ':') < 0 {
		if !isPort(element[i:]) {
			return false
		}
		element = element[:i]
	}
	addr, err := netip.ParseAddr(string(element))
	return err == nil && addr.Unmap().WithZone("") == s.address
}

// isPort reports whether b is a colon and a port; RFC 7239 allows obfuscated ones.
func isPort(b []byte) bool {
	if len(b) < 2 || b[0] != ':' {
		return false
	}
	for _, c := range b[1:] {
		if (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}
