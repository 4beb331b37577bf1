package sim

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// expression is a compiled filter.
type expression func(packetFacts) bool

// filterWord splits a filter into brackets, operators and words.
var filterWord = regexp.MustCompile(`\s+|[()]|\[[^\]]*\]|&&|\|\||[!<>=]=|[!<>=&|+*/-]|[^\s()\[\]!<>=&|+*]+`)

// filterParser reads the part of libpcap's language that is about what the
// simulated traffic has. Other primitives that the language has are taken, and
// match everything: a real host tells about those.
type filterParser struct{ words []string }

var errFilterSyntax = errors.New("syntax error")

func parseExpression(text string) (expression, error) {
	p := &filterParser{}
	for _, w := range filterWord.FindAllString(text, -1) {
		if strings.TrimSpace(w) != "" {
			p.words = append(p.words, w)
		}
	}
	if len(p.words) == 0 {
		return func(packetFacts) bool { return true }, nil
	}
	e, err := p.or(0)
	if err == nil && len(p.words) > 0 {
		err = errFilterSyntax
	}
	return e, err
}

func (p *filterParser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *filterParser) take() string {
	w := p.peek()
	if w != "" {
		p.words = p.words[1:]
	}
	return w
}

func (p *filterParser) or(depth int) (expression, error) {
	left, err := p.and(depth)
	for err == nil && (p.peek() == "or" || p.peek() == "||") {
		p.take()
		var right expression
		a := left
		if right, err = p.and(depth); err == nil {
			left = func(f packetFacts) bool { return a(f) || right(f) }
		}
	}
	return left, err
}

func (p *filterParser) and(depth int) (expression, error) {
	left, err := p.not(depth)
	for err == nil && (p.peek() == "and" || p.peek() == "&&") {
		p.take()
		var right expression
		a := left
		if right, err = p.not(depth); err == nil {
			left = func(f packetFacts) bool { return a(f) && right(f) }
		}
	}
	return left, err
}

func (p *filterParser) not(depth int) (expression, error) {
	if depth > 100 {
		return nil, errFilterSyntax
	}
	switch p.peek() {
	case "not", "!":
		p.take()
		e, err := p.not(depth + 1)
		return func(f packetFacts) bool { return !e(f) }, err
	case "(":
		p.take()
		e, err := p.or(depth + 1)
		if err == nil && p.take() != ")" {
			err = errFilterSyntax
		}
		return e, err
	default:
		return p.primitive()
	}
}

// primitive reads such as "tcp", "src host A", "udp dst port 53", "net 10.0.0.0/8"
// and "tcp[13] & 4 != 0".
func (p *filterParser) primitive() (expression, error) {
	proto, dir := func(packetFacts) bool { return true }, ""
	named := false
	switch w := p.peek(); w {
	case "tcp", "udp", "icmp", "arp", "ip", "ip6", "ether", "vlan", "esp", "ah", "icmp6", "rarp", "sctp", "mpls":
		p.take()
		named = true
		proto = ofProtocol(w)
		if strings.HasPrefix(p.peek(), "[") {
			return p.relation()
		}
		if w == "vlan" {
			if _, err := strconv.Atoi(p.peek()); err == nil {
				p.take()
			}
		}
	}
	switch p.peek() {
	case "src", "dst":
		dir = p.take()
	}
	either := func(match func(addr netip.Addr, port uint16) bool) expression {
		return func(f packetFacts) bool {
			return proto(f) && (dir != "dst" && match(f.src, f.sport) || dir != "src" && match(f.dst, f.dport))
		}
	}
	switch p.peek() {
	case "host":
		p.take()
		addr, err := netip.ParseAddr(p.take())
		if err != nil {
			return nil, errors.New("unknown host")
		}
		return either(func(a netip.Addr, _ uint16) bool { return a == addr }), nil
	case "net":
		p.take()
		net, err := netip.ParsePrefix(p.take())
		if err != nil {
			return nil, errFilterSyntax
		}
		return either(func(a netip.Addr, _ uint16) bool { return net.Contains(a) }), nil
	case "port", "portrange":
		p.take()
		from, to, ranged := strings.Cut(p.take(), "-")
		low, err := strconv.ParseUint(from, 10, 16)
		high := low
		if err == nil && ranged {
			high, err = strconv.ParseUint(to, 10, 16)
		}
		if err != nil {
			return nil, errors.New("unknown port")
		}
		return either(func(_ netip.Addr, port uint16) bool { return uint64(port) >= low && uint64(port) <= high && port != 0 }), nil
	}
	if named && dir == "" {
		return proto, nil
	}
	return nil, errFilterSyntax
}

// relation reads a comparison of header bytes, which matches everything here.
func (p *filterParser) relation() (expression, error) {
	for p.peek() != "" {
		w := p.take()
		switch w {
		case "==", "!=", ">=", "<=", "=", ">", "<":
			if p.take() == "" {
				return nil, errFilterSyntax
			}
			return func(packetFacts) bool { return true }, nil
		case "and", "or", "not":
			return nil, errFilterSyntax
		}
	}
	return nil, errFilterSyntax
}

func ofProtocol(name string) expression {
	return func(f packetFacts) bool {
		switch name {
		case "tcp":
			return f.tcp
		case "udp":
			return f.udp
		case "icmp":
			return f.icmp
		case "arp":
			return f.arp
		case "ip":
			return !f.arp
		case "ether":
			return true
		default:
			return false
		}
	}
}
