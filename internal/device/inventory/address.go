package inventory

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxHost is the longest host name that DNS can carry.
const maxHost = 253

// parseAddress reads host, host:port, [v6]:port, [v6] or a bare IPv6 address.
// Without a port it gives defaultPort. The host has no brackets.
func parseAddress(s string, defaultPort int) (host string, port int, err error) {
	host, port = s, defaultPort
	switch {
	case s == "":
		return "", 0, errors.New("an address is host, host:port or [v6]:port")
	case strings.HasPrefix(s, "["):
		inside, rest, ok := strings.Cut(s[1:], "]")
		if !ok {
			return "", 0, errors.New(`the "]" is missing`)
		}
		ip, err := netip.ParseAddr(inside)
		if err != nil || !ip.Is6() {
			return "", 0, fmt.Errorf("%q is no IPv6 address", inside)
		}
		host = inside
		if rest != "" {
			p, ok := strings.CutPrefix(rest, ":")
			if !ok {
				return "", 0, fmt.Errorf("after the \"]\" comes :port, not %q", rest)
			}
			if port, err = parsePort(p); err != nil {
				return "", 0, err
			}
		}
		return host, port, nil
	case strings.Count(s, ":") > 1:
		if ip, err := netip.ParseAddr(s); err != nil || !ip.Is6() {
			return "", 0, errors.New("it is no IPv6 address; with a port one is written [v6]:port")
		}
		return host, port, nil
	case strings.Contains(s, ":"):
		var p string
		host, p, _ = strings.Cut(s, ":")
		if port, err = parsePort(p); err != nil {
			return "", 0, err
		}
	}
	return host, port, checkHost(host)
}

func parsePort(s string) (int, error) {
	// ParseUint alone would take "+22".
	if n, err := strconv.ParseUint(s, 10, 16); err == nil && n > 0 && s[0] != '+' {
		return int(n), nil
	}
	return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
}

// checkHost accepts an IPv4 address or a host name. A name whose last part is a
// number can only be a mistyped address: no top-level domain is one.
func checkHost(host string) error {
	if host == "" {
		return errors.New("the host is missing")
	}
	if len(host) > maxHost {
		return fmt.Errorf("the host is longer than %d characters", maxHost)
	}
	parts := strings.Split(strings.TrimSuffix(host, "."), ".")
	if last := parts[len(parts)-1]; last != "" && strings.Trim(last, "0123456789") == "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("%q is no IPv4 address", host)
		}
		return nil
	}
	for _, p := range parts {
		if p == "" || len(p) > 63 {
			return fmt.Errorf("%q is no host name: each part has 1 to 63 characters", host)
		}
		if p[0] == '-' || p[len(p)-1] == '-' {
			return fmt.Errorf("%q is no host name: a part begins or ends with -", host)
		}
		for _, r := range p {
			// The underscore is not in the standard but in use.
			if !isAlnum(r) && r != '-' && r != '_' {
				return fmt.Errorf("%q is no host name: %q is not allowed in one", host, r)
			}
		}
	}
	return nil
}

func isAlnum(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
