package filter

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"capfleet/internal/fault"
)

// frames are one of each kind, by name.
func frames() map[string][]byte {
	tcp := func(sport, dport uint16, flags byte, payload ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, sport)
		b = binary.BigEndian.AppendUint16(b, dport)
		return append(append(b, 0, 0, 0, 1, 0, 0, 0, 1, 5<<4, flags, 0, 9, 0, 0, 0, 0), payload...)
	}
	udp := func(port uint16) []byte {
		b := binary.BigEndian.AppendUint16([]byte{0xc0, 0}, port)
		return append(b, 0, 12, 0, 0, 1, 2, 3, 4)
	}
	v4 := func(protocol byte, body []byte) []byte {
		h := []byte{0x45, 0, 0, byte(20 + len(body)), 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1}
		return ethernet(0x0800, append(h, body...))
	}
	v6 := func(protocol byte, body []byte) []byte {
		a, b := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("2001:db8::2").As16()
		h := append([]byte{0x60, 0, 0, 0, 0, byte(len(body)), protocol, 64}, a[:]...)
		return ethernet(0x86dd, append(append(h, b[:]...), body...))
	}
	inner := v4(6, tcp(40000, 443, 2))
	return map[string][]byte{
		"arp":       ethernet(0x0806, append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 20)...)),
		"syn":       v4(6, tcp(40000, 443, 2)),
		"synack":    v4(6, tcp(443, 40000, 18)),
		"rst":       v4(6, tcp(443, 40000, 20)),
		"hello":     v4(6, tcp(40000, 443, 24, 22, 3, 1, 0, 5)),
		"dns":       v4(17, udp(53)),
		"ike":       v4(17, udp(4500)),
		"ipfix":     v4(17, udp(4739)),
		"ping":      v4(1, []byte{8, 0, 0, 0, 0, 0, 0, 0}),
		"syn6":      v6(6, tcp(40000, 443, 2)),
		"rst6":      v6(6, tcp(443, 40000, 20)),
		"hello6":    v6(6, tcp(40000, 443, 24, 22, 3, 1, 0, 5)),
		"syn in 12": append(append(bytes.Clone(inner[:12]), 0x81, 0, 0, 12), inner[12:]...),
	}
}

func ethernet(kind uint16, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 12), kind)
	return append(b, body...)
}

// tcpdump is asked which frames a filter lets through.
func passes(t *testing.T, expression string, frame []byte) bool {
	t.Helper()
	file := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	file = append(file, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
	for _, v := range []int{1, 0, len(frame), len(frame)} {
		file = binary.LittleEndian.AppendUint32(file, uint32(v))
	}
	cmd := exec.CommandContext(t.Context(), "tcpdump", "-n", "-t", "-r", "-", expression)
	cmd.Stdin = bytes.NewReader(append(file, frame...))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tcpdump %q: %v\n%s", expression, err, errs.String())
	}
	return len(bytes.TrimSpace(out)) > 0
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		q    Question
		want []string
	}{
		"arp":            {Question{Topics: []string{"arp"}}, []string{"arp"}},
		"resets":         {Question{Topics: []string{"resets"}}, []string{"rst", "rst6"}},
		"handshakes":     {Question{Topics: []string{"handshakes"}}, []string{"syn", "synack", "syn6"}},
		"tls":            {Question{Topics: []string{"tls-handshakes"}}, []string{"hello", "hello6"}},
		"ike or dns":     {Question{Topics: []string{"ike", "dns"}}, []string{"ike", "dns"}},
		"ipfix":          {Question{Topics: []string{"ipfix"}}, []string{"ipfix"}},
		"icmp":           {Question{Protocol: "icmp"}, []string{"ping"}},
		"flags":          {Question{Flags: []string{"SYN", "ack"}}, []string{"synack"}},
		"host, port":     {Question{Hosts: []string{"192.0.2.1"}, Ports: []string{"53", "4000-5000"}}, []string{"dns", "ike", "ipfix"}},
		"between":        {Question{Hosts: []string{"2001:db8::1"}, Peers: []string{"2001:db8::2"}, Topics: []string{"resets"}}, []string{"rst6"}},
		"other peer":     {Question{Hosts: []string{"192.0.2.1"}, Peers: []string{"192.0.2.9"}}, nil},
		"net, without":   {Question{Nets: []string{"192.0.2.77/24"}, Without: []string{"198.51.100.1"}}, nil},
		"vlan":           {Question{VLAN: "12"}, []string{"syn in 12"}},
		"any vlan":       {Question{VLAN: "any", Ports: []string{"443"}}, []string{"syn in 12"}},
		"other vlan":     {Question{VLAN: "13", Topics: []string{"handshakes"}}, nil},
		"vlan and flags": {Question{VLAN: "12", Flags: []string{"syn"}}, []string{"syn in 12"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expression, err := Build(c.q)
			if err != nil {
				t.Fatal(err)
			}
			for frame, raw := range frames() {
				want := false
				for _, w := range c.want {
					want = want || w == frame
				}
				if got := passes(t, expression, raw); got != want {
					t.Errorf("%s: %s passes %v, want %v", expression, frame, got, want)
				}
			}
		})
	}
}

func TestEveryTopicCompiles(t *testing.T) {
	t.Parallel()
	for _, topic := range Topics() {
		passes(t, topic.Expression, frames()["syn"])
	}
}

func TestBadQuestions(t *testing.T) {
	t.Parallel()
	for says, q := range map[string]Question{
		"no topic":       {Topics: []string{"cats"}},
		"no IP address":  {Hosts: []string{"example.net"}},
		"is no IP":       {Without: []string{"1.1.1.1 or tcp"}},
		"no network":     {Nets: []string{"192.0.2.1"}},
		"neither a port": {Ports: []string{"80;reboot"}},
		"a range":        {Ports: []string{"90-80"}},
		"protocol":       {Protocol: "tcp or udp"},
		"TCP flag":       {Flags: []string{"xmas"}},
		"VLAN":           {VLAN: "4095"},
		"other side":     {Peers: []string{"192.0.2.1"}},
	} {
		if _, err := Build(q); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// A real shell takes the line apart again as it was meant.
func TestQuotedForAShell(t *testing.T) {
	t.Parallel()
	expression, err := Build(Question{Topics: []string{"resets", "tls-handshakes"}, Hosts: []string{"192.0.2.1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(Commands(expression, ""), Commands(`$(reboot) 'x' \`, "0.0:nnn")...) {
		got, err := exec.CommandContext(t.Context(), "sh", "-c", `show() { for a; do printf '%s\0' "$a"; done; }; show `+c.Line).Output()
		if want := strings.Join(c.Args, "\x00") + "\x00"; err != nil || string(got) != want {
			t.Errorf("%s gives %q, %v", c.Line, got, err)
		}
	}
}
