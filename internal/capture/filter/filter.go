// Package filter writes capture filters from questions: what an operator wants to
// see, in the words of a ticket, becomes an expression of libpcap's language and
// the command line that captures it on each platform.
//
// libpcap is authoritative for the language (pcap-filter(7)). Only what releases of
// long ago understand is written: numbers instead of the later names for bytes and
// flags. tcp[...] looks at IPv4 alone, so IPv6 is spelled out beside it, for
// packets without extension headers.
package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"capfleet/internal/fault"
)

// Question is what is to be seen; all that is given has to hold.
type Question struct {
	// Topics are from Topics; a packet of any of them is wanted.
	Topics []string
	// Hosts and Nets are addresses and networks; packets to or from any of them.
	Hosts, Nets []string
	// Peers are the other side: with Hosts, packets between one of each.
	Peers []string
	// Ports are TCP, UDP or SCTP ports or ranges such as 8000-8100; any of them.
	Ports []string
	// Protocol is tcp, udp, sctp, icmp, esp or ah; "" is any.
	Protocol string
	// Flags are TCP flags that are all set: fin, syn, rst, psh, ack, urg.
	Flags []string
	// VLAN is a tag, or "any".
	VLAN string
	// Without are hosts whose packets are left out.
	Without []string
}

// Topic is something that operators often look for.
type Topic struct {
	Name, Text, Expression string
}

// Topics lists the topics.
func Topics() []Topic {
	return []Topic{
		{"arp", "who has which address", "arp"},
		{"dhcp", "address leases", "(udp port 67 or udp port 68 or udp port 546 or udp port 547)"},
		{"dns", "name resolution, over UDP and TCP", "(udp port 53 or tcp port 53)"},
		{"handshakes", "TCP connections that begin: SYN and SYN/ACK", flagged(2, false)},
		{"icmp", "pings and error messages", "(icmp or icmp6)"},
		{"ike", "the key exchange of IPsec, also behind a NAT", "(udp port 500 or udp port 4500)"},
		{"ipfix", "flow records on their usual port", "(udp port 4739 or tcp port 4739)"},
		{"ntp", "clocks", "udp port 123"},
		{"resets", "TCP connections that are refused or broken off", flagged(4, false)},
		{"syslog", "log messages over UDP and TCP", "(udp port 514 or tcp port 514)"},
		{"tls-handshakes", "TLS handshake records at the start of a segment", "(tcp[((tcp[12] & 0xf0) >> 2)] = 22 or (ip6[6] = 6 and ip6[40 + ((ip6[52] & 0xf0) >> 2)] = 22))"},
	}
}

// flagged is a filter for TCP flags by their bits, all or any of them.
func flagged(bits int, all bool) string {
	test := "!= 0"
	if all {
		test = "= " + strconv.Itoa(bits)
	}
	return fmt.Sprintf("(tcp[13] & %d %s or (ip6[6] = 6 and ip6[53] & %d %s))", bits, test, bits, test)
}

func invalid(format string, args ...any) error {
	return &fault.Error{Kind: fault.Invalid, Act: "write the filter", Err: fmt.Errorf(format, args...)}
}

// Build writes the expression. Everything in it is made of checked parts, so it
// holds no text that somebody typed as it was.
func Build(q Question) (string, error) {
	var parts []string
	add := func(part string, err error) error {
		if err == nil && part != "" {
			parts = append(parts, part)
		}
		return err
	}
	topics, err := anyOf(q.Topics, topic)
	if err := add(topics, err); err != nil {
		return "", err
	}
	if q.Protocol != "" {
		if !slices.Contains([]string{"tcp", "udp", "sctp", "icmp", "esp", "ah"}, q.Protocol) {
			return "", invalid("protocol %q is none of tcp, udp, sctp, icmp, esp, ah", q.Protocol)
		}
		expr := q.Protocol
		if expr == "icmp" {
			expr = "(icmp or icmp6)"
		}
		parts = append(parts, expr)
	}
	if len(q.Peers) > 0 && len(q.Hosts)+len(q.Nets) == 0 {
		return "", invalid("a peer is the other side of a host or a network, and none is given")
	}
	sides, err := anyOf(slices.Concat(hostsOf(q.Hosts), netsOf(q.Nets)), endpoint)
	if err := add(sides, err); err != nil {
		return "", err
	}
	peers, err := anyOf(hostsOf(q.Peers), endpoint)
	if err := add(peers, err); err != nil {
		return "", err
	}
	ports, err := anyOf(q.Ports, port)
	if err := add(ports, err); err != nil {
		return "", err
	}
	if len(q.Flags) > 0 {
		bits, err := flags(q.Flags)
		if err != nil {
			return "", err
		}
		parts = append(parts, flagged(bits, true))
	}
	for _, host := range q.Without {
		expr, err := endpoint("host " + host)
		if err != nil {
			return "", err
		}
		parts = append(parts, "not "+expr)
	}
	return tagged(q.VLAN, strings.Join(parts, " and "))
}

// tagged puts the tag first: what follows it is decoded behind the tag.
func tagged(vlan, rest string) (string, error) {
	expr := "vlan"
	switch vlan {
	case "":
		return rest, nil
	case "any":
	default:
		n, err := strconv.ParseUint(vlan, 10, 16)
		if err != nil || n > 4094 {
			return "", invalid("VLAN %q is neither a number from 0 to 4094 nor any", vlan)
		}
		expr += " " + strconv.FormatUint(n, 10)
	}
	if rest == "" {
		return expr, nil
	}
	return expr + " and " + rest, nil
}

// anyOf joins the expressions of several values with or.
func anyOf(values []string, expression func(string) (string, error)) (string, error) {
	var parts []string
	for _, v := range values {
		e, err := expression(v)
		if err != nil {
			return "", err
		}
		parts = append(parts, e)
	}
	if len(parts) < 2 {
		return strings.Join(parts, ""), nil
	}
	return "(" + strings.Join(parts, " or ") + ")", nil
}

func topic(name string) (string, error) {
	var names []string
	for _, t := range Topics() {
		if t.Name == name {
			return t.Expression, nil
		}
		names = append(names, t.Name)
	}
	return "", invalid("there is no topic %q; there are: %s", name, strings.Join(names, ", "))
}

func hostsOf(l []string) []string { return prefixed("host ", l) }
func netsOf(l []string) []string  { return prefixed("net ", l) }

func prefixed(prefix string, l []string) []string {
	out := make([]string, 0, len(l))
	for _, s := range l {
		out = append(out, prefix+s)
	}
	return out
}

// endpoint checks "host ADDRESS" and "net ADDRESS/LENGTH". Names are not taken: the
// device would resolve them, each in its own way.
func endpoint(text string) (string, error) {
	kind, value, _ := strings.Cut(text, " ")
	if kind == "net" {
		p, err := netip.ParsePrefix(value)
		if err != nil || p.Addr().Zone() != "" {
			return "", invalid("%q is no network such as 192.0.2.0/24", value)
		}
		return "net " + p.Masked().String(), nil
	}
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" {
		return "", invalid("%q is no IP address; a name would mean something else on each device", value)
	}
	return "host " + a.String(), nil
}

func port(text string) (string, error) {
	from, to, ranged := strings.Cut(text, "-")
	low, err := strconv.ParseUint(from, 10, 16)
	high := low
	if err == nil && ranged {
		high, err = strconv.ParseUint(to, 10, 16)
	}
	if err != nil || high < low {
		return "", invalid("%q is neither a port nor a range such as 8000-8100", text)
	}
	if !ranged {
		return "port " + strconv.FormatUint(low, 10), nil
	}
	return fmt.Sprintf("portrange %d-%d", low, high), nil
}

func flags(names []string) (int, error) {
	known := []string{"fin", "syn", "rst", "psh", "ack", "urg"}
	bits := 0
	for _, n := range names {
		i := slices.Index(known, strings.ToLower(n))
		if i < 0 {
			return 0, invalid("%q is no TCP flag; there are: %s", n, strings.Join(known, ", "))
		}
		bits |= 1 << i
	}
	return bits, nil
}

// Command is the command line of a capture on a platform.
type Command struct {
	Platform string   `json:"platform"`
	Args     []string `json:"args"`
	// Line is Args for a POSIX shell.
	Line string `json:"line"`
}

// Commands gives the command line of each platform, on its usual interface where
// none is given.
func Commands(expression, iface string) []Command {
	args := func(usual string, more ...string) []string {
		on := iface
		if on == "" {
			on = usual
		}
		args := append([]string{"tcpdump", "-n", "-s", "0", "-i", on}, more...)
		args = append(args, "-w", "-")
		if expression != "" {
			args = append(args, expression)
		}
		return args
	}
	out := []Command{
		{Platform: "linux", Args: args("eth0", "-U")},
		{Platform: "f5_bigip", Args: args("0.0:nnnp")},
	}
	for i := range out {
		out[i].Line = Quote(out[i].Args)
	}
	return out
}

// Quote writes arguments as a line that a person can paste into a POSIX shell.
func Quote(args []string) string {
	words := make([]string, 0, len(args))
	for _, a := range args {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool {
			return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_.:,/+-@", r))
		}) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
