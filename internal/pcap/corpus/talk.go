package corpus

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// tls lets a connection speak TLS.
func (g *writer) tls(c *connection) {
	index := len(g.truth.Sessions)
	g.truth.Sessions = append(g.truth.Sessions, Session{Client: c.client, Server: c.server})
	offered := ssl3 + g.rand.IntN(5)
	chosen := offered
	if g.rand.IntN(4) == 0 {
		chosen = ssl3 + g.rand.IntN(offered-ssl3+1)
	}
	random, session := g.random(32), g.random(32)
	name := ""
	if offered > ssl3 && g.rand.IntN(5) > 0 {
		name = fmt.Sprintf("host%d.example.net", g.rand.IntN(1000))
	}
	pad := 0
	switch g.rand.IntN(6) {
	case 0:
		pad = 2000 + g.rand.IntN(3000) // a hello of several segments
	case 1:
		pad = 200
	}
	hello := clientHello(offered, random, session, name, pad)
	inRecords := records(min(offered, tls10), 16384, hello)
	kind := g.rand.IntN(20)
	switch {
	case kind == 0 && offered < tls13:
		inRecords, name = ssl2Hello(offered, random), ""
	case kind == 1:
		inRecords = records(min(offered, tls10), 40+g.rand.IntN(100), hello)
	}
	begins := g.say(c, false, inRecords)
	c.steps[begins[0]].sessions = []int{index}
	truth := &g.truth.Sessions[index]
	truth.Offered, truth.ServerName = spell(offered), name
	// A repetition may carry the session too, and is later: only the first counts.
	switch {
	case kind == 2:
		truth.Alert = 70
		g.say(c, true, alert(min(offered, tls12), 70))
		return
	case kind == 3 && offered == tls13 && chosen == tls13:
		g.say(c, true, append(records(tls12, 16384, serverHello(tls13, retryRandom, session)), 20, 3, 3, 0, 1, 1))
		g.say(c, false, append([]byte{20, 3, 3, 0, 1, 1}, records(tls12, 16384, hello)...))
	}
	truth.Negotiated = spell(chosen)
	answer := serverHello(chosen, g.random(32), session)
	if chosen < tls13 {
		// With the certificate in the same record or in one of its own.
		certificate := message(11, slices.Clone(g.junk(1200)))
		if g.rand.IntN(2) == 0 {
			answer = append(answer, certificate...)
			certificate = nil
		}
		answer = append(records(min(chosen, tls12), 16384, answer), records(min(chosen, tls12), 16384, certificate)...)
	} else {
		answer = append(records(tls12, 16384, answer), 20, 3, 3, 0, 1, 1)
	}
	g.say(c, true, answer)
	c.add(step{flags: ack | psh, payload: append([]byte{23, 3, 3, 0, 60}, g.junk(60)...)})
	g.bulk(c, false, g.rand.IntN(8))
	g.bulk(c, true, 10+g.rand.IntN(80))
}

func (g *writer) random(n int) []byte { return slices.Clone(g.junk(n)) }

// http lets a connection send requests behind a proxy.
func (g *writer) http(c *connection) {
	for range 1 + g.rand.IntN(8) {
		g.request(c)
		size := g.rand.IntN(12)
		c.add(step{fromServer: true, flags: ack | psh, payload: fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: test\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size*segment)})
		g.bulk(c, true, size)
	}
}

func (g *writer) request(c *connection) {
	headers := []string{
		"Host: www.example.net", "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
		"Accept: text/html,application/xhtml+xml", "Accept-Language: en-GB,en;q=0.5", "Accept-Encoding: gzip, deflate",
		"Cookie: id=" + strings.Repeat("0123456789abcdef", 1+g.rand.IntN(8)),
	}
	line, name, hits := g.forwarded()
	at := g.rand.IntN(len(headers))
	headers = slices.Insert(headers, at, line)
	head := fmt.Sprintf("GET /item/%d HTTP/1.1\r\n", g.rand.IntN(1_000_000))
	before := len(head)
	for _, h := range headers[:at] {
		before += len(h) + 2
	}
	text := head + strings.Join(headers, "\r\n") + "\r\n\r\n"
	var cuts []int
	switch g.rand.IntN(6) {
	case 0: // within the header
		cuts = append(cuts, before+g.rand.IntN(len(line)+2))
	case 1: // twice
		first := before + g.rand.IntN(len(line))
		cuts = append(cuts, first, first+1+g.rand.IntN(len(line)))
	}
	tidy := g.spec.Tidy
	g.spec.Tidy = true // a repeated packet repeats its header: nothing to know about it
	steps := g.say(c, false, []byte(text), cuts...)
	g.spec.Tidy = tidy
	if !hits.IsValid() {
		return
	}
	g.truth.Forwarded = append(g.truth.Forwarded, Forwarded{Client: c.client, Server: c.server, Header: name, Address: hits})
	for _, i := range steps {
		if before < len(c.steps[i].payload) {
			c.steps[i].forwarded = append(c.steps[i].forwarded, len(g.truth.Forwarded)-1)
			return
		}
		before -= len(c.steps[i].payload)
	}
}

// forwarded gives a header that names a client, and the address that is looked for
// when it is there.
func (g *writer) forwarded() (line, name string, hits netip.Addr) {
	others := []string{
		"203.0.113.7", "203.0.113.177", "1203.0.113.77", "203.0.113.770", "203.0.113.77.example", "10.1.2.3", "unknown",
		"2001:db8:77::70", "2001:db8:77:0:7::", "x203.0.113.77",
	}
	address := others[g.rand.IntN(len(others))]
	switch g.rand.IntN(20) {
	case 0:
		hits = netip.MustParseAddr(Address4)
		address = []string{Address4, Address4 + ":51234", "::ffff:203.0.113.77"}[g.rand.IntN(3)]
	case 1:
		hits = netip.MustParseAddr(Address6)
		address = []string{Address6, "2001:DB8:77::7", "2001:0db8:0077:0:0:0:0:0007", "[2001:db8:77::7]:443"}[g.rand.IntN(4)]
	}
	name = []string{"X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-FOR", "X-Real-IP", "Forwarded", "True-Client-IP"}[g.rand.IntN(6)]
	list := []string{address}
	for range g.rand.IntN(3) {
		list = slices.Insert(list, g.rand.IntN(len(list)+1), "192.0.2."+fmt.Sprint(g.rand.IntN(200)))
	}
	colon := []string{": ", ":", ":  "}[g.rand.IntN(3)]
	switch name {
	case "Forwarded":
		for i, a := range list {
			if strings.Contains(a, ":") && !strings.HasPrefix(a, "[") && strings.Count(a, ":") > 1 {
				a = "[" + a + "]"
			}
			list[i] = `for="` + a + `";proto=https`
		}
		return name + colon + strings.Join(list, ", "), name, hits
	case "X-Real-IP", "True-Client-IP":
		return name + colon + address, name, hits
	}
	return name + colon + strings.Join(list, ", "), name, hits
}
