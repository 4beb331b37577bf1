package transcript

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Known is what the caller knows to be private, beside what can be told by its
// looks. Empty strings are ignored.
type Known struct {
	Hosts []string // names and addresses of devices
	Users []string
	Words []string // whatever else the operator named
	// Prompt is the prompt that the command was typed at; the host and the user in
	// it are blanked everywhere.
	Prompt string
}

// Kind of what was blanked.
type Kind string

// Kinds.
const (
	Host    Kind = "host name"
	User    Kind = "user name"
	Word    Kind = "named word"
	Address Kind = "address"
	MAC     Kind = "MAC address"
	Email   Kind = "e-mail address"
	UUID    Kind = "UUID"
	Serial  Kind = "serial number"
	Secret  Kind = "secret"
)

// Blank tells how much of a kind was blanked.
type Blank struct {
	Kind  Kind `json:"kind"`
	Count int  `json:"count"` // places, not different values
	// As is what stands in the place of the first one.
	As string `json:"as"`
}

// Clean blanks a text. Letters become x or X, digits 0, so that the shape stays;
// addresses become addresses of the ranges for documentation, the same one always
// the same, with the spaces after it evened out. The list is in order of first
// appearance.
func Clean(text string, known Known) (string, []Blank) {
	c := &cleaner{ipv4: map[netip.Addr]int{}, ipv6: map[netip.Addr]int{}, names: names(known)}
	var b strings.Builder
	b.Grow(len(text))
	for line := range strings.Lines(text) {
		body := strings.TrimRight(line, "\r\n")
		b.WriteString(c.line(body))
		b.WriteString(line[len(body):])
	}
	return b.String(), c.blanks
}

type name struct {
	text string // lower case
	kind Kind
}

type cleaner struct {
	names      []name
	ipv4, ipv6 map[netip.Addr]int // numbers of addresses, in order of appearance
	inKey      bool               // between the lines of a private key
	blanks     []Blank
}

// accounts are names that a device comes with. They tell nothing, and mean
// something else as often as not.
var accounts = []string{"root", "admin", "administrator", "operator", "monitor", "guest", "user", "support", "default"}

// names lists what is known, the longest first, so that a name inside another one
// does not cut it up.
func names(known Known) []name {
	var out []name
	add := func(text string, kind Kind) {
		text = strings.ToLower(strings.TrimSpace(text))
		if len(text) < 2 || !strings.ContainsFunc(text, letter) || slices.ContainsFunc(out, func(n name) bool { return n.text == text }) {
			return // a bare number or address is told by its looks
		}
		out = append(out, name{text, kind})
	}
	for _, w := range known.Words {
		if w = strings.TrimSpace(w); w != "" && !strings.ContainsFunc(w, letter) {
			out = append(out, name{w, Word}) // a number, but one that was asked for
			continue
		}
		add(w, Word)
	}
	host, user := prompted(known.Prompt)
	for _, h := range append(slices.Clone(known.Hosts), host) {
		add(h, Host)
	}
	for _, u := range append(slices.Clone(known.Users), user) {
		if !slices.Contains(accounts, strings.ToLower(u)) {
			add(u, User)
		}
	}
	slices.SortStableFunc(out, func(a, b name) int { return len(b.text) - len(a.text) })
	return out
}

var (
	promptUser = regexp.MustCompile(`([A-Za-z0-9._-]+)@\(?([A-Za-z0-9][A-Za-z0-9._-]*)`)
	promptHost = regexp.MustCompile(`^(?:\([^)]*\) )?([A-Za-z0-9][A-Za-z0-9._-]*)`)
)

// prompted gives the host and the user that a prompt shows: "host [role] #",
// "(maintenance) host >", "user@(host)(state)#", "user@host:~$".
func prompted(prompt string) (host, user string) {
	if m := promptUser.FindStringSubmatch(prompt); m != nil {
		return m[2], m[1]
	}
	if m := promptHost.FindStringSubmatch(prompt); m != nil {
		return m[1], ""
	}
	return "", ""
}

func (c *cleaner) note(kind Kind, as string) string {
	for i := range c.blanks {
		if c.blanks[i].Kind == kind {
			c.blanks[i].Count++
			return as
		}
	}
	c.blanks = append(c.blanks, Blank{Kind: kind, Count: 1, As: as})
	return as
}

// shape blanks letters and digits and keeps everything else.
func shape(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return '0'
		case r >= 'A' && r <= 'Z':
			return 'X'
		case r >= 'a' && r <= 'z', r > 0x7f:
			return 'x'
		}
		return r
	}, s)
}

func letter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 0x7f }

func wordByte(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '_' || b > 0x7f
}
