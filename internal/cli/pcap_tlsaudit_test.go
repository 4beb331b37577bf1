package cli

import (
	"bytes"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/tlsaudit"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/pcap/pcaptest"
)

// The hellos of a client that offers TLS 1.0 alone, and of a server that takes it.
func oldHellos() (client, server []byte) {
	client = slices.Concat([]byte{22, 3, 1, 0, 67, 1, 0, 0, 63, 3, 1}, make([]byte, 32), []byte{0, 0, 2, 0, 47, 1, 0},
		[]byte{0, 20, 0, 0, 0, 16, 0, 14, 0, 0, 11}, []byte("=cmd|' /C x"))
	server = slices.Concat([]byte{22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1}, make([]byte, 32), []byte{0, 0, 47, 0})
	return client, server
}

// oldTLS is a capture with a session of TLS 1.0 and one that is not answered.
func oldTLS() []byte {
	client, server := oldHellos()
	one := &pcaptest.Talk{Client: 1, Server: 2, ClientPort: 40000, ServerPort: 8443}
	one.Open()
	one.Say(false, 0, 0, client)
	one.Say(true, 0, len(client), server)
	one.Close(len(client), len(server))
	two := &pcaptest.Talk{Client: 3, Server: 2, ClientPort: 40001, ServerPort: 8443, Snap: 60}
	two.Say(false, 0, 0, client)
	three := &pcaptest.Talk{Client: 3, Server: 2, ClientPort: 40002, ServerPort: 8443, Snap: 80}
	three.Open()
	three.Say(false, 0, 0, slices.Concat(client[:9], []byte{3, 3}, client[11:]))
	return one.File(two, three)
}

type tlsAnswer struct {
	Rows []struct {
		ClientIP   string  `json:"client_ip"`
		Offered    *string `json:"offered"`
		Negotiated *string `json:"negotiated"`
		SNI        *string `json:"sni"`
		Truncated  bool    `json:"truncated"`
		Weak       *bool   `json:"weak"`
		Packet     int     `json:"packet"`
		File       string  `json:"file"`
	} `json:"rows"`
	Clients []struct {
		ClientIP string  `json:"client_ip"`
		Sessions int     `json:"sessions"`
		Weak     int     `json:"weak_sessions"`
		Unknown  int     `json:"unknown_sessions"`
		Lowest   *string `json:"lowest_version"`
	} `json:"clients"`
	Files []struct {
		File     string `json:"file"`
		Packets  int    `json:"packets"`
		Complete bool   `json:"complete"`
		Offset   *int64 `json:"error_offset"`
	} `json:"files"`
	LeftOut int `json:"left_out"`
}

func TestPcapTLSAudit(t *testing.T) {
	whole := oldTLS()
	file := captureFile(t, whole)
	got := session{}.run(t.Context(), t, "pcap", "tls-audit", file, "-o", "json")
	var doc tlsAnswer
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if got.code != 0 || len(doc.Rows) != 2 || len(doc.Clients) != 2 || !doc.Files[0].Complete || doc.Files[0].Packets != 12 {
		t.Fatalf("%+v", got)
	}
	first, second := doc.Rows[0], doc.Rows[1]
	if first.ClientIP != "10.0.0.1" || *first.Offered != "tls1.0" || *first.Negotiated != "tls1.0" || first.Truncated || !*first.Weak || first.Packet != 4 || first.File != file {
		t.Errorf("%+v", first)
	}
	if second.ClientIP != "10.0.0.3" || second.Offered != nil || second.Negotiated != nil || !second.Truncated || second.Weak != nil || second.SNI != nil {
		t.Errorf("%+v", second)
	}
	if c := doc.Clients[0]; c.ClientIP != "10.0.0.1" || c.Weak != 1 || *c.Lowest != "tls1.0" || doc.Clients[1].Unknown != 1 {
		t.Errorf("%+v", doc.Clients)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		has  string // in the output
	}{
		"weak":            {[]string{"--fail-on", "weak", file}, fault.ExitFound, "10.0.0.1"},
		"not so weak":     {[]string{"--fail-on", "weak", "--weak", "ssl3", file}, 0, "10.0.0.1"},
		"weak and cut":    {[]string{"--fail-on", "weak", file, captureFile(t, whole[:len(whole)-3])}, fault.ExitUsage, "10.0.0.1"},
		"csv":             {[]string{"-o", "csv", file}, 0, "Source IP,Destination IP,Source Port,Destination Port,TLS Version,"},
		"a row":           {[]string{"-o", "csv", file}, 0, "10.0.0.1,10.0.0.2,40000,8443,tls1.0,tls1.0,,2023-11-14T22:13:23Z,no,no,,yes,4,"},
		"jsonl":           {[]string{"-o", "jsonl", file}, 0, `"negotiated":"tls1.0"`},
		"summary":         {[]string{file}, 0, "OFFERS UP TO"},
		"limit":           {[]string{"--limit", "1", file, "-o", "json"}, 0, `"left_out": 1`},
		"unknown version": {[]string{"--weak", "tls1.4", file}, fault.ExitUsage, ""},
		"unknown finding": {[]string{"--fail-on", "lost", file}, fault.ExitUsage, ""},
		"bad limit":       {[]string{"--limit", "-1", file}, fault.ExitUsage, ""},
		"no file":         {nil, fault.ExitUsage, ""},
		"nothing there":   {[]string{file + "x"}, fault.ExitUsage, ""},
	} {
		got := session{}.run(t.Context(), t, append([]string{"pcap", "tls-audit"}, c.args...)...)
		if got.code != c.code || !strings.Contains(got.out, c.has) || c.has == "" && got.out != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	stdin := session{stdin: string(pcaptest.Gzip(whole))}.run(t.Context(), t, "pcap", "tls-audit", "-", "-o", "jsonl")
	if stdin.code != 0 || strings.Count(stdin.out, "\n") != 2 {
		t.Errorf("stdin: %+v", stdin)
	}
}

// The CSV file that is written without rows is the one that rows would give.
func TestTLSAuditCSVIsThatOfTheView(t *testing.T) {
	report := &tlsReport{limit: 10}
	a := tlsSessionsOf(t, oldTLS(), report)
	for _, name := range []string{"=1+1", "-x", ".", "\\.", `a,"b"`, "a b", "'", "host-1.example.net", "", "\x1b"} {
		s := *a[0].Session
		s.ServerName = name
		report.sessions = append(report.sessions, tlsSession{&s, "a, b.pcap"})
	}
	var direct, rows strings.Builder
	if err := report.writeCSV(&direct); err != nil {
		t.Fatal(err)
	}
	var list []tlsaudit.Row
	for i := range report.sessions {
		list = append(list, report.row(report.sessions[i]))
	}
	encoded, err := output.Rows(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := output.Write(&rows, output.CSV, tlsView(), encoded, nil, output.Screen{}); err != nil {
		t.Fatal(err)
	}
	if direct.String() != rows.String() || !strings.Contains(rows.String(), "'=1+1") {
		t.Errorf("written:\n%s\nfrom rows:\n%s", direct.String(), rows.String())
	}
}

func TestPcapXFF(t *testing.T) {
	c := &pcaptest.Talk{Client: 1, Server: 2, ClientPort: 40000, ServerPort: 80}
	c.Say(false, 0, 0, []byte("GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1, 203.0.113.7\r\nX-Mine: 203.0.113.8\r\n\r\n"))
	whole := c.File()
	file := captureFile(t, whole)
	for name, test := range map[string]struct {
		args []string
		code int
		has  string
	}{
		"found":       {[]string{"--ip", "203.0.113.7", file, "-o", "csv"}, 0, "2023-11-14T22:13:20Z,10.0.0.1,40000,10.0.0.2,80,X-Forwarded-For,1," + file},
		"not found":   {[]string{"--ip", "203.0.113.70", file, "-o", "jsonl"}, 0, ""},
		"own header":  {[]string{"--ip", "203.0.113.8", "--header", "x-mine", file, "-o", "jsonl"}, 0, `"header":"X-Mine"`},
		"cut":         {[]string{"--ip", "203.0.113.7", captureFile(t, append(slices.Clone(whole), 1, 2, 3)), "-o", "json"}, fault.ExitUsage, `"error_offset": `},
		"limit":       {[]string{"--ip", "203.0.113.7", "--limit", "0", file, "-o", "json"}, 0, `"left_out": 1`},
		"no address":  {[]string{file}, fault.ExitUsage, ""},
		"bad address": {[]string{"--ip", "203.0.113", file}, fault.ExitUsage, ""},
		"bad header":  {[]string{"--ip", "203.0.113.7", "--header", "X:", file}, fault.ExitUsage, ""},
	} {
		got := session{}.run(t.Context(), t, append([]string{"pcap", "xff"}, test.args...)...)
		if got.code != test.code || !strings.Contains(got.out, test.has) || test.has == "" && got.out != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// tlsSessionsOf lets a report take the sessions of a capture.
func tlsSessionsOf(t *testing.T, content []byte, report *tlsReport) []tlsSession {
	t.Helper()
	report.clients = map[netip.Addr]*tlsTally{}
	audit := tlsaudit.New(func(s *tlsaudit.Session) { report.add(tlsSession{s, "a file, and =more"}) })
	if _, err := pcap.Scan(t.Context(), bytes.NewReader(content), pcap.ReaderOptions{}, audit); err != nil {
		t.Fatal(err)
	}
	audit.Close()
	return report.sessions
}
