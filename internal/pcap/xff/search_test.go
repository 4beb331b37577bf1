package xff_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/pcaptest"
	"capfleet/internal/pcap/xff"
)

func talk() *pcaptest.Talk {
	return &pcaptest.Talk{Client: 1, Server: 2, ClientPort: 40000, ServerPort: 80}
}

const head = "GET / HTTP/1.1\r\nHost: x\r\n"

func TestHeaders(t *testing.T) {
	t.Parallel()
	const four, six = "10.1.1.1", "2001:db8::1"
	for line, want := range map[string]string{
		"X-Forwarded-For: 10.1.1.1":                                    four,
		"x-forwarded-for:10.1.1.1":                                     four,
		"X-FoRwArDeD-fOr:\t 10.1.1.1 \t":                               four,
		"X-Forwarded-For: 10.1.1.10":                                   "",
		"X-Forwarded-For: 110.1.1.1":                                   "",
		"X-Forwarded-For: 10.1.1.1.example":                            "",
		"X-Forwarded-For: 10.1.1.01":                                   "",
		"X-Forwarded-For: a, 192.0.2.1, 10.1.1.1":                      four,
		"X-Forwarded-For: 10.1.1.1, 192.0.2.1":                         four,
		"X-Forwarded-For: 192.0.2.1,10.1.1.1,192.0.2.2":                four,
		"X-Forwarded-For: 10.1.1.1:8080":                               four,
		"X-Forwarded-For: 10.1.1.1:80x80!":                             "",
		"X-Forwarded-For: ::ffff:10.1.1.1":                             four,
		"X-Forwarded-For: ::ffff:a01:101":                              four,
		"X-Forwarded-For: 2001:db8::1":                                 six,
		"X-Forwarded-For: 2001:0DB8:0:0::0001":                         six,
		"X-Forwarded-For: [2001:db8::1]:443, 192.0.2.1":                six,
		"X-Forwarded-For: \"2001:db8::1\"":                             six,
		"X-Forwarded-For: 2001:db8::10":                                "",
		"X-Forwarded-For: 2001:db8::1%eth0":                            six,
		"X-Forwarded-For : 10.1.1.1":                                   "",
		"X-Forwarded-Fo: 10.1.1.1":                                     "",
		"X-Forwarded-For2: 10.1.1.1":                                   "",
		"Y-Forwarded-For: 10.1.1.1":                                    "",
		"Cookie: X-Forwarded-For: 10.1.1.1":                            "",
		"X-Real-IP: 10.1.1.1":                                          four,
		"True-Client-IP: 2001:db8::1":                                  six,
		"Forwarded: for=10.1.1.1":                                      four,
		"Forwarded: for=192.0.2.1;by=10.9.9.9, FOR=\"10.1.1.1:123\"":   four,
		"Forwarded: for=\"[2001:db8::1]:_x\";proto=http":               six,
		"Forwarded: by=10.1.1.1;for=unknown":                           "",
		"Forwarded: host=\"10.1.1.1\"":                                 "",
		"X-Forwarded-For: " + strings.Repeat("192.0.2.1, ", 50) + four: four,
		"X-Forwarded-For: " + strings.Repeat("9", 5000) + ", 10.1.1.1": four,
		"X-Customer-IP: 10.1.1.1":                                      "",
	} {
		for _, address := range []string{four, six} {
			// In one packet, and cut in two at every place.
			text := head + line + "\r\nAccept: */*\r\n\r\n"
			for cut := range min(len(text), 120) {
				if in := cut - len(head); in > 0 && in < strings.Index(line, "For:") && (line[0] == 'C' || line[0] == 'Y') {
					continue // the beginning of a segment is taken for that of a line
				}
				c := talk()
				c.Open()
				c.Say(false, 0, 0, []byte(text[:cut]))
				c.Say(false, cut, 0, []byte(text[cut:]))
				hits := search(t, bytes.NewReader(c.File()), address)
				if (len(hits) == 1) != (want == address) || len(hits) > 1 {
					t.Fatalf("%q cut at %d: %d headers name %s", line, cut, len(hits), address)
				}
				if len(hits) == 0 {
					continue
				}
				packet := uint64(5)
				if cut > len(head) {
					packet = 4
				}
				name, _, _ := strings.Cut(line, ":")
				if h := hits[0]; h.Packet != packet || h.Header != name || h.Source.String() != "10.0.0.1:40000" || h.Destination.String() != "10.0.0.2:80" || h.Time.Sec != 1_700_000_000+int64(packet)-1 {
					t.Errorf("%q cut at %d: %+v", line, cut, h)
				}
			}
		}
	}
}

// A header goes on over repetition, overlaps and lost order, and is given up where
// its end is not in the capture.
func TestSplitHeaders(t *testing.T) {
	t.Parallel()
	text := []byte(head + "X-Forwarded-For: 192.0.2.1, 10.1.1.1, 192.0.2.2\r\n\r\n")
	a, b := len(head)+10, len(head)+35
	for name, c := range map[string]struct {
		script func(c *pcaptest.Talk)
		hits   string
	}{
		"in three": {func(c *pcaptest.Talk) {
			c.Say(false, 0, 0, text[:a])
			c.Say(false, a, 0, text[a:b])
			c.Say(false, b, 0, text[b:])
		}, "1"},
		"last before middle": {func(c *pcaptest.Talk) {
			c.Say(false, 0, 0, text[:a])
			c.Say(false, b, 0, text[b:])
			c.Say(false, a, 0, text[a:b])
		}, "1"},
		"first twice": {func(c *pcaptest.Talk) {
			c.Say(false, 0, 0, text[:a])
			c.Say(false, 0, 0, text[:a])
			c.Say(false, a, 0, text[a:])
		}, "1"},
		"overlapping": {func(c *pcaptest.Talk) { c.Say(false, 0, 0, text[:b]); c.Say(false, a, 0, text[a:]) }, "1"},
		"byte by byte": {func(c *pcaptest.Talk) {
			for i := range text {
				c.Say(false, i, 0, text[i:i+1])
			}
		}, fmt.Sprint(len(head) + 1)},
		"other traffic between": {func(c *pcaptest.Talk) {
			c.Say(false, 0, 0, text[:a])
			c.Say(true, 0, a, []byte("HTTP/1.1 100\r\n\r\n"))
			c.Say(false, a, 0, text[a:])
		}, "1"},
		"kept alive": {func(c *pcaptest.Talk) {
			for i := range 3 {
				at := i * len(text)
				c.Say(false, at, 0, text[:a])
				c.Say(false, at+a, 0, text[a:])
			}
		}, "1 3 5"},
		"whole, and the same again": {func(c *pcaptest.Talk) { c.Say(false, 0, 0, text); c.Say(false, 0, 0, text) }, "1 2"},
		"the middle is missing":     {func(c *pcaptest.Talk) { c.Say(false, 0, 0, text[:a]); c.Say(false, b, 0, text[b:]) }, ""},
		"nothing that would go on":  {func(c *pcaptest.Talk) { c.Say(false, 0, 0, text[:a]); c.Say(false, 900_000, 0, text) }, "2"},
		"a line without an end": {func(c *pcaptest.Talk) {
			c.Say(false, 0, 0, text[:a])
			c.Say(false, a, 0, bytes.Repeat([]byte("9"), 40_000))
			c.Say(false, a+40_000, 0, text)
		}, "3"},
		"cut by the snap length": {func(c *pcaptest.Talk) {
			c.Snap = 54 + a
			c.Say(false, 0, 0, text)
			c.Snap = 0
			c.Say(false, len(text), 0, text)
		}, "2"},
		"the other way": {func(c *pcaptest.Talk) { c.Say(true, 0, 0, text) }, "1"},
	} {
		conversation := talk()
		c.script(conversation)
		var hits []string
		for _, h := range search(t, bytes.NewReader(conversation.File()), "10.1.1.1") {
			hits = append(hits, fmt.Sprint(h.Packet))
		}
		if got := strings.Join(hits, " "); got != c.hits {
			t.Errorf("%s: in packets %q, want %q", name, got, c.hits)
		}
	}
}

func TestOwnHeaders(t *testing.T) {
	t.Parallel()
	c := talk()
	c.Say(false, 0, 0, []byte(head+"x-customer-ip: 10.1.1.1\r\n\r\n"))
	found := 0
	s := xff.New(netip.MustParseAddr("10.1.1.1"), []string{"X-Customer-IP"}, func(xff.Hit) { found++ })
	if _, err := pcap.Scan(t.Context(), bytes.NewReader(c.File()), pcap.ReaderOptions{}, s); err != nil || found != 1 {
		t.Errorf("%d headers, error %v", found, err)
	}
	for name, valid := range map[string]bool{"X-Customer-IP": true, "a": true, "": false, "X:": false, "-x": false, "x y": false, "é": false} {
		if xff.ValidName(name) != valid {
			t.Errorf("%q: %v", name, !valid)
		}
	}
}

// Open lines of more connections than can be kept are given up, the oldest first.
func TestManyOpenLines(t *testing.T) {
	t.Parallel()
	var all []*pcaptest.Talk
	for _, part := range []struct {
		at   int
		text string
	}{{0, head + "X-Forwarded-For: 10."}, {len(head) + len("X-Forwarded-For: 10."), "1.1.1\r\n"}} {
		for i := range uint16(6000) {
			c := &pcaptest.Talk{Client: 1, Server: 2, ClientPort: 1000 + i, ServerPort: 80}
			c.Say(false, part.at, 0, []byte(part.text))
			all = append(all, c)
		}
	}
	if hits := search(t, bytes.NewReader(all[0].File(all[1:]...)), "10.1.1.1"); len(hits) != 4096 || hits[0].Source.Port() != 1000+6000-4096 {
		t.Errorf("%d headers", len(hits))
	}
}

func FuzzSearch(f *testing.F) {
	c := talk()
	text := []byte(head + "X-Forwarded-For: 10.1.1.1\r\nForwarded: for=10.1.1.1\r\n\r\n")
	c.Say(false, 0, 0, text[:40])
	c.Say(false, 40, 0, text[40:])
	f.Add(c.File())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := xff.New(netip.MustParseAddr("10.1.1.1"), xff.Headers(), func(h xff.Hit) {
			if h.Packet == 0 || h.Header == "" || !h.Source.IsValid() {
				t.Fatalf("%+v", h)
			}
		})
		_, _ = pcap.Scan(t.Context(), bytes.NewReader(b), pcap.ReaderOptions{}, s) // what it finds is checked; that it ends is the point
	})
}
