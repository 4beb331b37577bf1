package transcript

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

var (
	keyBegin = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)
	keyEnd   = regexp.MustCompile(`-----END [A-Z ]*PRIVATE KEY-----`)

	// The name of a secret, then its value: the rest up to a space, or a quoted text.
	secretPair = regexp.MustCompile(`(?i)\b(?:[a-z-]*password|passwd|passphrase|[a-z-]*secret|community(?:-name)?|token|psk|pre-shared-key|api-?key|auth-key|priv-key)\b\s*[:=]?\s*(?:\d\s+)?("[^"]*"|\S+)`)
	// Crypt's form of a hash, and keys in OpenSSH's.
	secretForm = regexp.MustCompile(`\$(?:1|2[aby]|5|6|y|7)\$[./A-Za-z0-9$]+|AAAA[A-Za-z0-9+/]{40,}={0,2}`)
	serialPair = regexp.MustCompile(`(?i)\b(?:serial(?:[ _-]?(?:number|num|no\.?|#))?|s/n|service[ _-]tag|asset[ _-]tag|chassis[ _-](?:serial|id)|host[ _-]?id|system[ _-]id|(?:base )?registration key|licen[cs]e[ _-]key|machine[ _-]id)\s*[:=#]?\s+("[^"]*"|[A-Za-z0-9][A-Za-z0-9._/-]*)`)

	uuidForm  = regexp.MustCompile(`\b[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\b`)
	macForm   = regexp.MustCompile(`\b[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2}){5}\b|\b[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\b`)
	emailForm = regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b`)
	ipv6Form  = regexp.MustCompile(`[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*`)
	ipv4Form  = regexp.MustCompile(`[0-9]{1,3}(?:\.[0-9]{1,3}){3}`)
	// Before a version of four numbers, which looks like an address.
	versionWord = regexp.MustCompile(`(?i)\b(?:version|release|build|edition|product|image|big-?ip|osm|firmware|kernel|hotfix)\b`)
)

// line cleans a line or, around the marks of a private key, what is left of one.
func (c *cleaner) line(s string) string {
	if c.inKey {
		at := keyEnd.FindStringIndex(s)
		if at == nil {
			return c.keyText(s)
		}
		c.inKey = false
		return c.keyText(s[:at[0]]) + s[at[0]:at[1]] + c.line(s[at[1]:])
	}
	if at := keyBegin.FindStringIndex(s); at != nil {
		head := c.plain(s[:at[0]]) + s[at[0]:at[1]]
		c.inKey = true
		return head + c.line(s[at[1]:])
	}
	return c.plain(s)
}

func (c *cleaner) keyText(s string) string {
	if s == "" {
		return ""
	}
	return c.note(Secret, shape(s))
}

// plain cleans text in which no private key is.
func (c *cleaner) plain(s string) string {
	s = c.values(s, secretPair, Secret)
	s = secretForm.ReplaceAllStringFunc(s, func(m string) string { return c.note(Secret, shape(m)) })
	s = c.values(s, serialPair, Serial)
	s = uuidForm.ReplaceAllStringFunc(s, func(m string) string { return c.note(UUID, zeros(m)) })
	s = macForm.ReplaceAllStringFunc(s, func(m string) string { return c.note(MAC, zeros(m)) })
	s = emailForm.ReplaceAllStringFunc(s, func(m string) string { return c.note(Email, shape(m)) })
	s = c.addresses(s, ipv6Form, 6)
	s = c.addresses(s, ipv4Form, 4)
	for _, n := range c.names {
		s = c.replace(s, n)
	}
	return s
}

// zeros keeps a number written in hexadecimal one.
func zeros(s string) string {
	return strings.Map(func(r rune) rune {
		if letter(r) || r >= '0' && r <= '9' {
			return '0'
		}
		return r
	}, s)
}

// values blanks the first group of a pattern. Words that say that there is no
// value stay.
func (c *cleaner) values(s string, pattern *regexp.Regexp, kind Kind) string {
	var b strings.Builder
	last := 0
	for _, at := range pattern.FindAllStringSubmatchIndex(s, -1) {
		value := s[at[2]:at[3]]
		switch strings.ToLower(strings.Trim(value, `".,:`)) {
		case "", "none", "null", "-", "n/a", "not", "is", "no", "yes", "set", "unset", "enabled", "disabled", "required", "unknown", "{", "}":
			continue
		}
		if kind == Serial && !strings.ContainsAny(value, "0123456789") {
			continue // a word of the sentence, not a number
		}
		b.WriteString(s[last:at[2]] + c.note(kind, shape(value)))
		last = at[3]
	}
	return b.String() + s[last:]
}

// replace blanks a known name where it stands as a word; of a host name the
// domain after it goes too.
func (c *cleaner) replace(s string, n name) string {
	lower := strings.ToLower(s)
	if len(lower) != len(s) {
		lower = s // a letter whose lower case is longer; the exact name is still found
	}
	var b strings.Builder
	last := 0
	for from := 0; ; {
		i := strings.Index(lower[from:], n.text)
		if i < 0 {
			break
		}
		i += from
		end := i + len(n.text)
		if i > 0 && wordByte(s[i-1]) || end < len(s) && wordByte(s[end]) {
			from = i + 1
			continue
		}
		if n.kind == Host {
			end += domain(s[end:])
		}
		b.WriteString(s[last:i] + c.note(n.kind, shape(s[i:end])))
		last, from = end, end
	}
	return b.String() + s[last:]
}

// domain gives the length of the rest of a qualified host name.
func domain(s string) int {
	end := 0
	for end+1 < len(s) && s[end] == '.' && wordByte(s[end+1]) {
		if at := ipv6Form.FindStringIndex(s[end+1:]); at != nil && at[0] == 0 {
			break // an address, which has been seen to
		}
		end++
		for end < len(s) && (wordByte(s[end]) || s[end] == '-') {
			end++
		}
	}
	return end
}

// addresses puts documentation addresses in the place of a family's. What says
// nothing about a network (loopback, unspecified, masks) stays.
func (c *cleaner) addresses(s string, form *regexp.Regexp, family int) string {
	var b strings.Builder
	last := 0
	for _, at := range form.FindAllStringIndex(s, -1) {
		from, to := at[0], at[1]
		if family == 6 {
			to = from + len(strings.TrimRight(s[from:to], ".")) // the end of a sentence
		}
		text := s[from:to]
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.IsLoopback() || addr.IsUnspecified() || family == 4 && !c.isIPv4(s, from, to, addr) ||
			family == 6 && (from > 0 && wordByte(s[from-1]) || to < len(s) && wordByte(s[to]) || documentation6.Contains(addr)) {
			continue
		}
		as := c.address(addr)
		c.note(Address, as)
		b.WriteString(s[last:from] + as)
		last = to + spaces(&b, s[to:], len(text)-len(as))
	}
	return b.String() + s[last:]
}

func (c *cleaner) isIPv4(s string, from, to int, addr netip.Addr) bool {
	if addr.As4()[0] == 255 {
		return false // a mask
	}
	if from > 0 && (wordByte(s[from-1]) || strings.IndexByte(".-", s[from-1]) >= 0) {
		return false
	}
	if to < len(s) && (wordByte(s[to]) || s[to] == '-' || s[to] == '.' && to+1 < len(s) && wordByte(s[to+1])) {
		return false
	}
	return !versionWord.MatchString(s[:from])
}

var documentation6 = netip.MustParsePrefix("2001:db8::/32")

// address gives the documentation address of an address: in each text the first
// one is number 1.
func (c *cleaner) address(addr netip.Addr) string {
	// Each family by itself, so that both begin with 1.
	numbers := c.ipv4
	if addr.Is6() {
		numbers = c.ipv6
	}
	n, ok := numbers[addr]
	if !ok {
		n = len(numbers)
		numbers[addr] = n
	}
	if addr.Is6() {
		return fmt.Sprintf("2001:db8::%x", n+1)
	}
	nets := []string{"192.0.2", "198.51.100", "203.0.113"}
	return fmt.Sprintf("%s.%d", nets[n/254%len(nets)], n%254+1)
}

// spaces evens out a column: it writes spaces for what the text became shorter,
// and gives how many of those that follow are left out for what it became longer.
// One space stays, and what no space follows needs none.
func spaces(b *strings.Builder, rest string, shorter int) (skip int) {
	if rest == "" || rest[0] != ' ' || strings.TrimLeft(rest, " ") == "" {
		return 0
	}
	if shorter > 0 {
		if len(rest) > 1 && rest[1] == ' ' { // a column and not a sentence
			b.WriteString(strings.Repeat(" ", shorter))
		}
		return 0
	}
	for skip < -shorter && skip+1 < len(rest) && rest[skip] == ' ' && rest[skip+1] == ' ' {
		skip++
	}
	return skip
}
