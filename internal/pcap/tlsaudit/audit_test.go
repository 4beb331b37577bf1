package tlsaudit_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/pcaptest"
	"capfleet/internal/pcap/tlsaudit"
	"capfleet/internal/pcap/tlshello"
)

// Hellos as they lie in a stream.
func clientHello(version byte, extra int) []byte {
	body := slices.Concat([]byte{3, min(version, 3)}, make([]byte, 32), []byte{0, 0, 2, 0, 47, 1, 0})
	if version == 4 {
		body = append(body, 0, 7, 0, 43, 0, 3, 2, 3, 4)
	}
	if extra > 0 {
		// An extension that means nothing, before supported_versions.
		ext := append([]byte{0, 21, byte(extra >> 8), byte(extra)}, make([]byte, extra)...)
		if version == 4 {
			ext = append(ext, 0, 43, 0, 3, 2, 3, 4)
			body = body[:len(body)-9]
		}
		body = append(append(body, byte(len(ext)>>8), byte(len(ext))), ext...)
	}
	return handshake(1, body)
}

func serverHello(version byte) []byte {
	body := slices.Concat([]byte{3, min(version, 3)}, bytes.Repeat([]byte{9}, 32), []byte{0, 0, 47, 0})
	if version == 4 {
		body = append(body, 0, 6, 0, 43, 0, 2, 3, 4)
	}
	return handshake(2, body)
}

func handshake(kind byte, body []byte) []byte {
	message := append([]byte{kind, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	return append(append([]byte{22, 3, 1}, binary.BigEndian.AppendUint16(nil, uint16(len(message)))...), message...)
}

func talk() *pcaptest.Talk {
	return &pcaptest.Talk{Client: 1, Server: 2, ClientPort: 40000, ServerPort: 8443}
}

// text gives a session in short: offered>negotiated and what else is known.
func text(s *tlsaudit.Session) string {
	version := func(v interface{ String() string }, has bool) string {
		if has {
			return v.String()
		}
		return "?"
	}
	parts := []string{version(s.Offered, s.HasOffered) + ">" + version(s.Negotiated, s.HasNegotiated)}
	for name, set := range map[string]bool{"cut": s.Truncated, "gap": s.Gap, "retry": s.Retried, "alert": s.HasAlert, "alert by server": s.HasAlert && s.AlertFromServer, "refused": s.Refused()} {
		if set {
			parts = append(parts, name)
		}
	}
	slices.Sort(parts[1:])
	if s.Client.Port() != 40000 {
		parts = append(parts, "from port "+s.Client.String())
	}
	return strings.Join(parts, ", ")
}

func texts(all []tlsaudit.Session) string {
	list := make([]string, 0, len(all))
	for i := range all {
		list = append(list, text(&all[i]))
	}
	return strings.Join(list, "; ")
}

func TestSessions(t *testing.T) {
	t.Parallel()
	client, server := clientHello(4, 0), serverHello(4)
	long := clientHello(4, 3000)
	n, m := len(client), len(server)
	type script = func(c *pcaptest.Talk)
	hellos := func(c *pcaptest.Talk) {
		c.Say(false, 0, 0, client)
		c.Say(true, 0, n, server)
	}
	for name, c := range map[string]struct {
		script script
		want   string
	}{
		"whole":                      {func(c *pcaptest.Talk) { c.Open(); hellos(c); c.Close(n, m) }, "tls1.3>tls1.3"},
		"without its opening":        {hellos, "tls1.3>tls1.3"},
		"no answer":                  {func(c *pcaptest.Talk) { c.Open(); c.Say(false, 0, 0, client) }, "tls1.3>?"},
		"answer alone":               {func(c *pcaptest.Talk) { c.Open(); c.Say(true, 0, n, server) }, "?>tls1.3"},
		"answer alone, no opening":   {func(c *pcaptest.Talk) { c.Say(true, 0, n, server) }, "?>tls1.3"},
		"answer before the question": {func(c *pcaptest.Talk) { c.Open(); c.Say(true, 0, n, server); c.Say(false, 0, 0, client) }, "tls1.3>tls1.3"},
		"byte by byte": {func(c *pcaptest.Talk) {
			c.Open()
			for i := range client {
				c.Say(false, i, 0, client[i:i+1])
			}
			for i := range server {
				c.Say(true, i, n, server[i:i+1])
			}
		}, "tls1.3>tls1.3"},
		"backwards": {func(c *pcaptest.Talk) {
			c.Open()
			for i := n - 3; i > -3; i -= 3 {
				c.Say(false, max(i, 0), 0, client[max(i, 0):i+3])
			}
			c.Say(true, 40, n, server[40:])
			c.Say(true, 0, n, server[:40])
		}, "tls1.3>tls1.3"},
		"all twice, and once more behind": {func(c *pcaptest.Talk) {
			for range 2 {
				c.Open()
				hellos(c)
			}
			c.Close(n, m)
			hellos(c)
		}, "tls1.3>tls1.3"},
		"overlaps, of which the first bytes stay": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, client[:30])
			c.Say(false, 10, 0, append(bytes.Repeat([]byte{0xff}, 20), client[30:]...))
		}, "tls1.3>?"},
		"the middle is missing": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, long[:1400])
			c.Say(false, 2800, 0, long[2800:])
			c.Say(true, 0, len(long), serverHello(3))
			c.Close(len(long), m)
		}, "?>tls1.2, gap"},
		"the beginning is missing": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 1400, 0, long[1400:])
			c.Say(true, 0, len(long), server)
		}, "?>tls1.3"},
		"the capture ends": {func(c *pcaptest.Talk) { c.Open(); c.Say(false, 0, 0, client[:20]) }, "?>?, gap"},
		"much behind a gap": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, long[:1400])
			for at := 2800; at < 400_000; at += 1400 {
				c.Say(false, at, 0, make([]byte, 1400))
			}
			c.Say(true, 0, len(long), serverHello(3))
		}, "?>tls1.2, gap"},
		"refused": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, clientHello(1, 0))
			c.Say(true, 0, n, []byte{21, 3, 1, 0, 2, 2, 70})
		}, "tls1.0>?, alert, alert by server, refused"},
		"warned and answered": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, client)
			c.Say(true, 0, n, append([]byte{21, 3, 1, 0, 2, 1, 112}, server...))
		}, "tls1.3>tls1.3"},
		"refused by the client": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, client)
			c.Say(true, 0, n, serverHello(1))
			c.Say(false, n, m, []byte{21, 3, 1, 0, 2, 2, 70})
		}, "tls1.3>tls1.0, alert, refused"},
		"in a tunnel that was asked for": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(true, 0, 0, []byte("220 mail\r\n"))
			c.Say(false, 0, 10, []byte("STARTTLS\r\n"))
			c.Say(true, 10, 10, []byte("220 go\r\n"))
			c.Say(false, 10, 18, client)
			c.Say(true, 18, 10+n, server)
		}, "tls1.3>tls1.3"},
		"no TLS": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, []byte("GET / HTTP/1.1\r\n\r\n"))
			c.Say(true, 0, 18, bytes.Repeat([]byte{22, 3, 3, 0, 40, 0, 9, 9, 9, 9, 9, 9}, 100))
		}, ""},
		"encrypted records behind": {func(c *pcaptest.Talk) {
			c.Open()
			hellos(c)
			c.Say(false, n, m, append([]byte{22, 3, 3, 0, 40, 1, 0xaa, 0xbb}, bytes.Repeat([]byte{7}, 37)...))
			c.Say(true, m, n, append([]byte{21, 3, 3, 0, 26}, bytes.Repeat([]byte{7}, 26)...))
		}, "tls1.3>tls1.3"},
		"the ports come back": {func(c *pcaptest.Talk) {
			c.Open()
			hellos(c)
			c.Segment(false, 0x02, 1_000_000, 0, nil)
			c.Segment(true, 0x12, 2_000_000, 1_000_001, nil)
			c.Say(false, 1_000_001, 2_000_001, clientHello(2, 0))
			c.Say(true, 2_000_001, 1_000_001+n, serverHello(2))
		}, "tls1.3>tls1.3; tls1.1>tls1.1"},
		"the ports come back, unseen": {func(c *pcaptest.Talk) {
			hellos(c)
			c.Say(false, 1_000_001, 2_000_001, clientHello(2, 0))
			c.Say(true, 2_000_001, 1_000_001+n, serverHello(2))
		}, "tls1.3>tls1.3; tls1.1>tls1.1"},
		"reset": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, client)
			c.Segment(true, 0x14, 0, n, nil)
		}, "tls1.3>?"},
		"SSL 2.0": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, append([]byte{0x80, 31, 1, 0, 2, 0, 6, 0, 0, 0, 16}, make([]byte, 22)...))
			c.Say(true, 0, 33, append([]byte{0x80, 31, 4, 0, 1, 0, 2, 0, 1, 0, 3, 0, 16, 9}, make([]byte, 19)...))
		}, "ssl2>ssl2"},
		"SSL 2.0 without its opening": {func(c *pcaptest.Talk) {
			c.Say(false, 0, 0, append([]byte{0x80, 31, 1, 0, 2, 0, 6, 0, 0, 0, 16}, make([]byte, 22)...))
			c.Say(true, 0, 33, append([]byte{0x80, 31, 4, 0, 1, 0, 2, 0, 1, 0, 3, 0, 16, 9}, make([]byte, 19)...))
		}, "ssl2>ssl2"},
		"refused by the client, which says more": {func(c *pcaptest.Talk) {
			c.Open()
			c.Say(false, 0, 0, client)
			c.Say(true, 0, n, serverHello(1))
			c.Say(false, n, m, []byte{21, 3, 1, 0, 2, 2, 70, 21, 3, 1, 0, 2, 1, 0})
		}, "tls1.3>tls1.0, alert, refused"},
		"data with the opening": {func(c *pcaptest.Talk) {
			c.Segment(false, 0x02, -1, 0, client[:20])
			c.Segment(true, 0x12, -1, 20, nil)
			c.Say(false, 20, 0, client[20:])
			c.Say(true, 0, n, server)
		}, "tls1.3>tls1.3"},
	} {
		c1 := talk()
		c.script(c1)
		if got := texts(audit(t, bytes.NewReader(c1.File()))); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Cut packets are said to be cut, and what could lie in the rest is not guessed.
func TestTruncatedPackets(t *testing.T) {
	t.Parallel()
	for _, opened := range []bool{true, false} {
		for snap := 54; snap < 160; snap++ {
			for _, version := range []byte{1, 4} {
				c := talk()
				c.Snap = snap
				if opened {
					c.Open()
				}
				c.Say(false, 0, 0, clientHello(version, 0))
				c.Say(true, 0, len(clientHello(version, 0)), serverHello(version))
				all := audit(t, bytes.NewReader(c.File()))
				if len(all) > 1 || opened && len(all) == 0 && snap > 54 {
					t.Fatalf("snap length %d: %s", snap, texts(all))
				}
				for i := range all {
					s := &all[i]
					whole := s.HasOffered && s.HasNegotiated && snap >= 54+max(len(clientHello(version, 0)), len(serverHello(version)))
					if s.Truncated == whole || s.Gap {
						t.Errorf("snap length %d: %s", snap, text(s))
					}
					if s.HasOffered && s.Offered != tlshello.Version(0x300+uint16(version)) || s.HasNegotiated && s.Negotiated != tlshello.Version(0x300+uint16(version)) {
						t.Errorf("snap length %d: guessed %s", snap, text(s))
					}
				}
			}
		}
	}
}

// What is not known of connections is bounded, however many there are.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	var found int
	a := tlsaudit.New(func(*tlsaudit.Session) { found++ })
	hello := clientHello(4, 3000)
	p := pcap.Packet{Link: pcap.LinkEthernet}
	for i := range 50_000 {
		tcp := pcaptest.TCP(1000, 0, 0x18, nil, hello[:1400]...)
		binary.BigEndian.PutUint16(tcp, uint16(i))
		ip := pcaptest.IPv4(6, 0, nil, tcp...)
		binary.BigEndian.PutUint32(ip[12:], uint32(i))
		p.Data = pcaptest.Ethernet(0x0800, ip...)
		p.Length = uint32(len(p.Data))
		p.Number++
		a.Packet(&p)
	}
	if found < 17_000 {
		t.Errorf("%d of 50000 sessions were given up", found)
	}
	a.Close()
	if found != 50_000 {
		t.Errorf("%d sessions", found)
	}
}

// A capture without an end gives its sessions when asked, each once.
func TestFlush(t *testing.T) {
	t.Parallel()
	c := talk()
	c.Open()
	c.Say(false, 0, 0, clientHello(4, 0))
	var all []tlsaudit.Session
	a := tlsaudit.New(func(s *tlsaudit.Session) { all = append(all, *s) })
	scan := func(c *pcaptest.Talk) {
		if _, err := pcap.Scan(t.Context(), bytes.NewReader(c.File()), pcap.ReaderOptions{}, a); err != nil {
			t.Fatal(err)
		}
		a.Flush()
	}
	scan(c)
	if len(all) != 0 {
		t.Errorf("before the answer: %s", texts(all))
	}
	answer := talk()
	answer.Say(true, 0, len(clientHello(4, 0)), serverHello(4))
	scan(answer)
	a.Close()
	if texts(all) != "tls1.3>tls1.3" {
		t.Errorf("%s", texts(all))
	}
}

func FuzzAudit(f *testing.F) {
	c := talk()
	c.Open()
	c.Say(false, 0, 0, clientHello(4, 0))
	c.Say(true, 0, 60, serverHello(4))
	c.Close(60, 60)
	f.Add(c.File())
	f.Fuzz(func(t *testing.T, b []byte) {
		var list []tlsaudit.Session
		a := tlsaudit.New(func(s *tlsaudit.Session) { list = append(list, *s) })
		r, err := pcap.Scan(t.Context(), bytes.NewReader(b), pcap.ReaderOptions{}, a)
		a.Close()
		if err == nil && len(list) > int(r.Packets()) {
			t.Fatalf("%d sessions in %d packets", len(list), r.Packets())
		}
		for i := range list {
			if s := &list[i]; s.Packet == 0 || s.Packet > r.Packets() || !s.Client.IsValid() || !s.Server.IsValid() {
				t.Fatalf("%+v", s)
			}
		}
	})
}
