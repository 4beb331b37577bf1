package bmc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/bmc"
	"capfleet/internal/bmc/bmctest"
	"capfleet/internal/fault"
)

func open(protocol bmc.Protocol) func(testing.TB, bmc.Target) bmc.Reader {
	return func(t testing.TB, target bmc.Target) bmc.Reader {
		t.Helper()
		reader, err := bmc.New(protocol, target, bmc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return reader
	}
}

func TestSupermicroContract(t *testing.T) {
	t.Parallel()
	for name, newer := range map[string]bool{"old": false, "new": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bmctest.Run(t, probeLog(t), bmctest.Subject{
				Serve: func(t testing.TB, log [][]byte) bmc.Target {
					return bmctest.Of(bmctest.StartSupermicro(t, &bmctest.Supermicro{Log: log, NewGeneration: newer}).Server)
				},
				Silent: bmctest.SilentTCP,
				Open:   open(bmc.SupermicroWeb),
			})
		})
	}
}

func TestRedfishContract(t *testing.T) {
	t.Parallel()
	for name, shape := range map[string]bmctest.RedfishShape{
		"managers":      {Under: "Managers"},
		"systems":       {Under: "Systems"},
		"pages":         {Under: "Systems", Page: 5},
		"links":         {Under: "Managers", Links: true},
		"links, paged":  {Under: "Managers", Links: true, Page: 4},
		"newest, paged": {Under: "Systems", Newest: true, Page: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bmctest.Run(t, probeLog(t), bmctest.Subject{
				Serve: func(t testing.TB, log [][]byte) bmc.Target {
					return bmctest.Of(bmctest.StartRedfish(t, log, shape))
				},
				Silent: bmctest.SilentTCP,
				Open:   open(bmc.Redfish),
				Expect: func(e bmc.Entry) bmc.Entry {
					e.Raw, e.Bus, e.Device, e.Function = "", nil, nil, nil
					return e
				},
			})
		})
	}
}

// TestSupermicroReplies: what comes instead of the log.
func TestSupermicroReplies(t *testing.T) {
	t.Parallel()
	real, err := os.ReadFile("testdata/sel_info.xml")
	if err != nil {
		t.Fatal(err)
	}
	const head = `<?xml version="1.0"?><IPMI><SEL_INFO>`
	const tail = `</SEL_INFO></IPMI>`
	record := `<SEL SEL_RD="020002124c015d33000413006fa58012"/>`
	for name, c := range map[string]struct {
		reply   string
		entries int
		kind    fault.Kind
	}{
		"a real log":        {string(real), 17, ""},
		"byte order mark":   {"\ufeff" + string(real), 17, ""},
		"HTML":              {"<html><body>Session expired</body></html>", 0, fault.Auth},
		"nothing":           {"", 0, fault.Auth},
		"cut off":           {string(real[:len(real)/2]), 8, fault.Unparsed},
		"fewer than said":   {head + `<SEL TOTAL_NUMBER="0002"/>` + record + tail, 1, fault.Unparsed},
		"one more":          {head + `<SEL TOTAL_NUMBER="0001"/>` + record + record + tail, 2, ""},
		"hexadecimal":       {head + `<SEL TOTAL_NUMBER="000a"/>` + strings.Repeat(record, 10) + tail, 10, ""},
		"no number":         {head + tail, 0, fault.Unparsed},
		"number of nothing": {head + `<SEL TOTAL_NUMBER="many"/>` + tail, 0, fault.Unparsed},
		"number too large":  {head + `<SEL TOTAL_NUMBER="ffffffff"/>` + tail, 0, fault.Unparsed},
		"short record":      {head + `<SEL TOTAL_NUMBER="0001"/><SEL SEL_RD="0200"/>` + tail, 0, fault.Unparsed},
		"record of words":   {head + `<SEL TOTAL_NUMBER="0001"/><SEL SEL_RD="zz"/>` + tail, 0, fault.Unparsed},
		"no record":         {head + `<SEL TOTAL_NUMBER="0001"/><SEL/>` + tail, 0, fault.Unparsed},
		"entities":          {`<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><IPMI>&c;</IPMI>`, 0, fault.Unparsed},
		"external entity":   {`<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><IPMI/>`, 0, fault.Unparsed},
		"undeclared entity": {head + `<SEL TOTAL_NUMBER="&x;"/>` + tail, 0, fault.Unparsed},
		"deep":              {`<?xml version="1.0"?>` + strings.Repeat("<IPMI>", 1000), 0, fault.Unparsed},
		"other encoding":    {`<?xml version="1.0" encoding="utf-7"?><IPMI/>`, 0, fault.Unparsed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := bmctest.StartSupermicro(t, &bmctest.Supermicro{Reply: append([]byte{}, c.reply...)})
			log, err := open(bmc.SupermicroWeb)(t, bmctest.Of(server.Server)).Read(t.Context())
			if fault.KindOf(err) != c.kind || len(log.Entries) != c.entries {
				t.Errorf("%d entries, kind %q: %v", len(log.Entries), fault.KindOf(err), err)
			}
		})
	}
}

// TestSupermicroLogsOut also when it is stopped while it waits for the log; the
// server complains of a session that is left.
func TestSupermicroLogsOut(t *testing.T) {
	t.Parallel()
	server := bmctest.StartSupermicro(t, &bmctest.Supermicro{Log: probeLog(t)})
	asked := make(chan struct{})
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cgi/ipmi.cgi" {
			// Only when the body was read does the server see that the reader goes.
			_, _ = io.Copy(io.Discard, r.Body)
			close(asked)
			<-r.Context().Done()
			return
		}
		server.Config.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	// The logout needs a connection of its own, which takes its time on a busy machine.
	reader, err := bmc.New(bmc.SupermicroWeb, bmctest.Of(front), bmc.Options{Parting: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(ctx); !fault.Is(err, fault.Canceled) {
		t.Errorf("kind %s: %v", fault.KindOf(err), err)
	}
}

func TestSupermicroTriesEachFormOnce(t *testing.T) {
	t.Parallel()
	server := bmctest.StartSupermicro(t, &bmctest.Supermicro{Log: probeLog(t)})
	target := bmctest.Of(server.Server)
	target.Username = "nobody"
	_, err := open(bmc.SupermicroWeb)(t, target).Read(t.Context())
	if !fault.Is(err, fault.Auth) || server.Logins() != 2 {
		t.Errorf("%d logins, %v", server.Logins(), err)
	}
}

// TestTrust: no password goes to a server whose certificate is not trusted.
func TestTrust(t *testing.T) {
	t.Parallel()
	var requests int
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests++ }))
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	target := bmctest.Of(server)
	shown, err := bmc.Show(t.Context(), target)
	if err != nil || shown.Fingerprint != target.TLS.Pins[0] || shown.NotAfter.IsZero() {
		t.Errorf("shown %+v, %v", shown, err)
	}
	other := strings.Repeat("ab", 32)
	for name, trust := range map[string]bmc.TLS{"self-signed": {}, "another's pin": {Pins: []string{other}}} {
		for _, protocol := range []bmc.Protocol{bmc.SupermicroWeb, bmc.Redfish} {
			target.TLS = trust
			if _, err := open(protocol)(t, target).Read(t.Context()); !fault.Is(err, fault.HostKey) {
				t.Errorf("%s, %s: kind %s: %v", name, protocol, fault.KindOf(err), err)
			}
		}
	}
	if requests != 0 {
		t.Errorf("%d requests were made", requests)
	}
	// As OpenSSL prints it, and one of several.
	colons := strings.ToLower(shown.Fingerprint)
	for i := 30; i > 0; i-- {
		colons = colons[:2*i] + ":" + colons[2*i:]
	}
	target.TLS = bmc.TLS{Pins: []string{other, colons}}
	if _, err := open(bmc.SupermicroWeb)(t, target).Read(t.Context()); !fault.Is(err, fault.Auth) || requests == 0 {
		t.Errorf("kind %s: %v", fault.KindOf(err), err)
	}
	for _, bad := range []string{"", "abcd", "sha256:" + other, strings.Repeat("xy", 32)} {
		if _, err := bmc.New(bmc.Redfish, bmc.Target{TLS: bmc.TLS{Pins: []string{bad}}}, bmc.Options{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("pin %q: %v", bad, err)
		}
	}
}

func TestRedfishHostile(t *testing.T) {
	t.Parallel()
	entries := "/redfish/v1/Managers/1/LogServices/Log1/Entries"
	for name, c := range map[string]struct {
		altered func(path string, body map[string]any)
		kind    fault.Kind
	}{
		"links elsewhere": {func(p string, b map[string]any) {
			if p == "/redfish/v1/" {
				b["Managers"] = map[string]any{"@odata.id": "https://evil.example/redfish/v1/Managers"}
			}
		}, fault.Unparsed},
		"links to a host": {func(p string, b map[string]any) {
			if p == "/redfish/v1/" {
				b["Managers"] = map[string]any{"@odata.id": "@evil.example/redfish/"}
			}
		}, fault.Unparsed},
		"pages in a circle": {func(p string, b map[string]any) {
			if p == entries {
				b["Members@odata.nextLink"] = entries
			}
		}, fault.Unparsed},
		"fewer than said": {func(p string, b map[string]any) {
			if p == entries {
				b["Members@odata.count"] = 100
			}
		}, fault.Busy},
		"members of text": {func(p string, b map[string]any) {
			if p == entries {
				b["Members"] = []any{"x"}
			}
		}, fault.Unparsed},
		"wrong types": {func(p string, b map[string]any) {
			if p == entries {
				b["Members"] = "none"
			}
		}, fault.Unparsed},
		"no such log": {func(p string, b map[string]any) {
			if strings.HasSuffix(p, "/Log1") {
				b["LogEntryType"] = "Event"
			}
		}, fault.Unsupported},
		"a link to nothing": {func(p string, b map[string]any) {
			if strings.HasSuffix(p, "/Log1") {
				b["Entries"] = map[string]any{"@odata.id": "/redfish/v1/nothing"}
			}
		}, fault.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := bmctest.StartRedfish(t, probeLog(t), bmctest.RedfishShape{Under: "Managers", Altered: c.altered})
			if _, err := open(bmc.Redfish)(t, bmctest.Of(server)).Read(t.Context()); !fault.Is(err, c.kind) {
				t.Errorf("kind %s: %v", fault.KindOf(err), err)
			}
		})
	}
}

// TestNotABMC: other things that answer on the port of a web server.
func TestNotABMC(t *testing.T) {
	t.Parallel()
	endless := func(w http.ResponseWriter, _ *http.Request) {
		for line := bytes.Repeat([]byte("x"), 1<<16); ; {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}
	redirect := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "{")
	}
	html := func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<html><head><title>Wireless\n router</title></head></html>")
	}
	for name, c := range map[string]struct {
		handler      http.HandlerFunc
		web, redfish fault.Kind
		says         string
	}{
		"another page": {html, fault.Auth, fault.Unparsed, `"Wireless router"`},
		"not found":    {http.NotFound, fault.Unsupported, fault.Unsupported, "404"},
		"redirects":    {redirect, fault.Unsupported, fault.Unsupported, "/elsewhere"},
		"half":         {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, ` {"Managers": {"@odata.id"`) }, fault.Auth, fault.Unparsed, "unexpected end"},
		"text":         {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "It works!") }, fault.Auth, fault.Unsupported, "/redfish/v1/"},
		"endless":      {endless, fault.TooLarge, fault.TooLarge, "larger"},
		"cut off":      {cut, fault.Disconnected, fault.Disconnected, "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(c.handler)
			defer server.Close()
			for protocol, want := range map[bmc.Protocol]fault.Kind{bmc.SupermicroWeb: c.web, bmc.Redfish: c.redfish} {
				_, err := open(protocol)(t, bmctest.Of(server)).Read(t.Context())
				if !fault.Is(err, want) {
					t.Errorf("%s: kind %s: %v", protocol, fault.KindOf(err), err)
				}
				if protocol == bmc.Redfish && !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

func TestFirst(t *testing.T) {
	t.Parallel()
	records := probeLog(t)
	lan := func() bmc.Reader { return openLAN(unhurried)(t, serveSim(t, records)) }
	dead := openLAN(quick)(t, bmctest.SilentUDP(t))
	web := open(bmc.SupermicroWeb)(t, bmctest.Of(bmctest.StartSupermicro(t, &bmctest.Supermicro{Log: records}).Server))
	server := bmctest.StartSupermicro(t, &bmctest.Supermicro{Log: records})
	wrong := serveSim(t, records)
	wrong.Username = "nobody"
	router := httptest.NewTLSServer(http.NotFoundHandler())
	defer router.Close()
	untrusted := bmctest.Of(router)
	untrusted.TLS = bmc.TLS{}
	for name, c := range map[string]struct {
		readers []bmc.Reader
		by      bmc.Protocol
		kind    fault.Kind
	}{
		"the first":         {[]bmc.Reader{lan(), web}, bmc.IPMILan, ""},
		"the second":        {[]bmc.Reader{dead, web}, bmc.SupermicroWeb, ""},
		"the last":          {[]bmc.Reader{dead, open(bmc.Redfish)(t, bmctest.Of(router)), web}, bmc.SupermicroWeb, ""},
		"none":              {[]bmc.Reader{dead, open(bmc.Redfish)(t, bmctest.Of(router))}, "", fault.Timeout},
		"one untrusted":     {[]bmc.Reader{dead, open(bmc.Redfish)(t, untrusted)}, "", fault.HostKey},
		"a refused account": {[]bmc.Reader{openLAN(unhurried)(t, wrong), open(bmc.SupermicroWeb)(t, bmctest.Of(server.Server))}, bmc.IPMILan, fault.Auth},
	} {
		log, err := bmc.First(c.readers...).Read(t.Context())
		if log.Protocol != c.by || fault.KindOf(err) != c.kind || (err == nil) != (len(log.Entries) == len(records)) {
			t.Errorf("%s: %d entries by %q, kind %q: %v", name, len(log.Entries), log.Protocol, fault.KindOf(err), err)
		}
	}
	if server.Logins() != 0 {
		t.Error("a refused account was tried again")
	}
	target := bmctest.Account("bmc.invalid", 623)
	if _, err := bmc.New(bmc.Auto, target, bmc.Options{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("auto with a port: %v", err)
	}
}

func TestRedfishWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		kind     bmc.Kind
		severity bmc.Severity
	}{
		`{"SensorType":"Critical Interrupt","Message":"PCI SERR","Severity":"OK"}`:                    {bmc.PCISerr, bmc.Critical},
		`{"SensorType":"Critical Interrupt","Message":"PCI SERR","EntryCode":"Deassert"}`:             {bmc.PCISerr, bmc.OK},
		`{"SensorType":"Critical Interrupt","Message":"Bus Uncorrectable Error"}`:                     {bmc.PCIeNonFatal, bmc.Critical},
		`{"SensorType":"Critical Interrupt","Message":"Bus Correctable Error","Severity":"Critical"}`: {bmc.PCIeCorrectable, bmc.Warning},
		`{"SensorType":"Critical Interrupt","Message":"Non-Fatal"}`:                                   {bmc.PCIeNonFatal, bmc.Critical},
		`{"SensorType":"Critical Interrupt","Message":"Bus Fatal Error"}`:                             {bmc.PCIeFatal, bmc.Critical},
		`{"SensorType":"Critical Interrupt","Message":"Front panel NMI","Severity":"Warning"}`:        {bmc.NMI, bmc.Warning},
		`{"SensorType":"Critical Interrupt","Message":"?","Severity":"Critical"}`:                     {bmc.PCIOther, bmc.Critical},
		`{"SensorType":"Physical Security","Message":"Chassis Intrusion","Severity":"Critical"}`:      {bmc.Other, bmc.Critical},
		`{"Message":"PCI SERR on slot 3"}`:                                                            {bmc.PCISerr, bmc.Critical},
		`{"SensorType":"Memory","Message":"Correctable ECC","Severity":"Warning"}`:                    {bmc.Other, bmc.Warning},
	} {
		e, err := bmc.DecodeRedfish([]byte(text))
		if err != nil || e.Kind != want.kind || e.Severity != want.severity {
			t.Errorf("%s: %s %s, %v", text, e.Kind, e.Severity, err)
		}
	}
	e, err := bmc.DecodeRedfish([]byte(`{"Id":"x","Created":"1970-01-01T00:08:49Z"}`))
	if diff := cmp.Diff(bmc.Entry{Severity: bmc.OK, Kind: bmc.Other}, e); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func FuzzSELInfo(f *testing.F) {
	real, err := os.ReadFile("testdata/sel_info.xml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Add([]byte(`<?xml version="1.0"?><IPMI><SEL_INFO><SEL TOTAL_NUMBER="0000"/></SEL_INFO></IPMI>`))
	f.Add([]byte(`<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><IPMI>&a;</IPMI>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		entries, err := bmc.ParseSELInfo(body)
		if k := fault.KindOf(err); err != nil && k != fault.Auth && k != fault.Unparsed && k != fault.TooLarge {
			t.Fatalf("kind %s: %v", k, err)
		}
		for _, e := range entries {
			if len(e.Raw) != 32 {
				t.Fatalf("raw %q", e.Raw)
			}
		}
	})
}

func FuzzRedfishEntry(f *testing.F) {
	f.Add([]byte(`{"Id":"2","Created":"2019-06-12T21:01:38+02:00","Severity":"Critical","SensorType":"Critical Interrupt","SensorNumber":0,"Message":"PCI SERR"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := bmc.DecodeRedfish(body)
		if err != nil {
			return
		}
		if e.Kind == "" || e.Severity == "" || len(e.Event) > 1024 || e.Time != nil && e.Time.Location() != time.UTC {
			t.Fatalf("%+v", e)
		}
	})
}
