package bmctest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/bmc"
)

// Supermicro is a web interface of a Supermicro board, as strict as the facts
// about it allow.
type Supermicro struct {
	*httptest.Server
	// NewGeneration wants base64, a token in a header and the table's name in op.
	NewGeneration bool
	// Reply, if set, is sent instead of the log.
	Reply []byte
	Log   [][]byte

	mutex    sync.Mutex
	sessions map[string]bool // that are not logged out
	logins   int
}

const csrfToken = "Wn7Aq/K0pG1vXy3rT5uZ8sB2dE4fH6jL9mN0cQ+RtUw"

// StartSupermicro serves over TLS until the test ends. Every session must have
// been logged out by then.
func StartSupermicro(t testing.TB, s *Supermicro) *Supermicro {
	t.Helper()
	s.sessions = map[string]bool{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /cgi/login.cgi", s.login)
	mux.HandleFunc("GET /cgi/url_redirect.cgi", s.page)
	mux.HandleFunc("POST /cgi/ipmi.cgi", s.data)
	mux.HandleFunc("GET /cgi/logout.cgi", func(w http.ResponseWriter, r *http.Request) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		delete(s.sessions, session(r))
	})
	s.Server = httptest.NewTLSServer(mux)
	t.Cleanup(func() {
		s.Close()
		s.mutex.Lock()
		defer s.mutex.Unlock()
		if len(s.sessions) > 0 {
			t.Errorf("%d sessions were never logged out", len(s.sessions))
		}
	})
	return s
}

// Logins tells how many logins were tried.
func (s *Supermicro) Logins() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.logins
}

func (s *Supermicro) login(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.logins++
	name, password, check := r.PostFormValue("name"), r.PostFormValue("pwd"), ""
	wantName, wantPassword := Username, Password
	if s.NewGeneration {
		check = "00"
		wantName = base64.StdEncoding.EncodeToString([]byte(wantName))
		wantPassword = base64.StdEncoding.EncodeToString([]byte(wantPassword))
	}
	if name != wantName || password != wantPassword || r.PostFormValue("check") != check {
		// 200 all the same, as the real one.
		http.SetCookie(w, &http.Cookie{Name: "SID", Value: ""})
		fmt.Fprint(w, "<html><script>alert('Invalid username or password')</script></html>")
		return
	}
	id := strings.ToLower(rand.Text())
	s.sessions[id] = true
	http.SetCookie(w, &http.Cookie{Name: "SID", Value: id, Path: "/"})
	fmt.Fprint(w, `<html><script>window.location="/cgi/url_redirect.cgi?url_name=mainmenu"</script></html>`)
}

func (s *Supermicro) page(w http.ResponseWriter, r *http.Request) {
	if s.NewGeneration && s.known(r) {
		fmt.Fprintf(w, "<html><script>SmcCsrfInsert (\"CSRF_TOKEN\", \"%s\");</script></html>", csrfToken)
		return
	}
	fmt.Fprint(w, "<html></html>")
}

func (s *Supermicro) known(r *http.Request) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.sessions[session(r)]
}

func (s *Supermicro) data(w http.ResponseWriter, r *http.Request) {
	ok := s.known(r)
	if s.NewGeneration {
		ok = ok && r.Header.Get("CSRF_TOKEN") == csrfToken && r.PostFormValue("op") == "SEL_INFO.XML" &&
			r.PostFormValue("r") == "(1,c0)" && r.Header.Get("X-Requested-With") == "XMLHttpRequest"
	} else {
		ok = ok && r.PostFormValue("SEL_INFO.XML") == "(1,c0)" && r.Header.Get("Referer") != ""
	}
	switch {
	case !ok:
		fmt.Fprint(w, "<html>session expired</html>")
	case s.Reply != nil:
		_, _ = w.Write(s.Reply)
	default:
		fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<IPMI>\n<SEL_INFO>\n<SEL TOTAL_NUMBER=\"%04x\"/>\n", len(s.Log))
		for _, raw := range s.Log {
			fmt.Fprintf(w, "<SEL TIME=\"2019/06/12 19:01:38\" SEL_RD=\"%s\" SENSOR_ID=\"NO Sensor String\" ERTYPE=\"FF\"/>\n", hex.EncodeToString(raw))
		}
		fmt.Fprint(w, "</SEL_INFO>\n</IPMI>\n")
	}
}

func session(r *http.Request) string {
	c, err := r.Cookie("SID")
	if err != nil {
		return ""
	}
	return c.Value
}

// RedfishShape is how a Redfish service is built; services differ in all of it.
type RedfishShape struct {
	Under   string // "Managers" or "Systems"
	Links   bool   // the log's collection has links instead of entries
	Page    int    // entries of a page; 0 is all of them
	Newest  bool   // newest first
	Altered func(path string, body map[string]any)
}

// StartRedfish serves a log over TLS until the test ends.
func StartRedfish(t testing.TB, log [][]byte, shape RedfishShape) *httptest.Server {
	t.Helper()
	const root = "/redfish/v1"
	holder := root + "/" + shape.Under + "/1"
	entriesPath := holder + "/LogServices/Log1/Entries"
	ref := func(path string) map[string]any { return map[string]any{"@odata.id": path} }
	entry := func(i int) map[string]any {
		e, err := bmc.Decode(log[i])
		if err != nil {
			panic(err)
		}
		severity := map[bmc.Severity]string{bmc.OK: "OK", bmc.Warning: "Warning", bmc.Critical: "Critical"}[e.Severity]
		body := map[string]any{
			"@odata.id": fmt.Sprintf("%s/%d", entriesPath, e.RecordID), "Id": fmt.Sprint(e.RecordID), "EntryType": "SEL", "Severity": severity,
			"EntryCode": "Assert", "SensorType": e.SensorType, "SensorNumber": e.SensorNumber, "Message": e.Event,
		}
		if e.Time != nil {
			body["Created"] = e.Time.In(time.FixedZone("", 2*3600)).Format(time.RFC3339)
		}
		return body
	}
	at := func(i int) int {
		if shape.Newest {
			return len(log) - 1 - i
		}
		return i
	}
	mux := http.NewServeMux()
	serve := func(path string, body func(r *http.Request) map[string]any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if user, password, ok := r.BasicAuth(); path != root+"/{$}" && (!ok || user != Username || password != Password) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			b := body(r)
			if shape.Altered != nil {
				shape.Altered(r.URL.Path, b)
			}
			_ = json.NewEncoder(w).Encode(b)
		})
	}
	fixed := func(body map[string]any) func(*http.Request) map[string]any {
		return func(*http.Request) map[string]any {
			copied := map[string]any{}
			for k, v := range body {
				copied[k] = v
			}
			return copied
		}
	}
	members := func(paths ...string) map[string]any {
		var refs []any
		for _, p := range paths {
			refs = append(refs, ref(p))
		}
		return map[string]any{"Members": refs, "Members@odata.count": len(paths)}
	}
	serve(root+"/{$}", fixed(map[string]any{"RedfishVersion": "1.8.0", "Managers": ref(root + "/Managers"), "Systems": ref(root + "/Systems")}))
	for _, kind := range []string{"Managers", "Systems"} {
		serve(root+"/"+kind, fixed(members(root+"/"+kind+"/1")))
		if kind != shape.Under {
			serve(root+"/"+kind+"/1", fixed(map[string]any{"Id": "1"}))
		}
	}
	serve(holder, fixed(map[string]any{"Id": "1", "LogServices": ref(holder + "/LogServices")}))
	serve(holder+"/LogServices", fixed(members(holder+"/LogServices/Audit", holder+"/LogServices/Log1")))
	serve(holder+"/LogServices/Audit", fixed(map[string]any{"Id": "Audit", "LogEntryType": "Event", "Entries": ref(root + "/wrong")}))
	serve(holder+"/LogServices/Log1", fixed(map[string]any{"Id": "Log1", "LogEntryType": "SEL", "Entries": ref(entriesPath)}))
	serve(entriesPath, func(r *http.Request) map[string]any {
		from, to := 0, len(log)
		_, _ = fmt.Sscan(r.URL.Query().Get("$skip"), &from)
		body := map[string]any{"Members@odata.count": len(log)}
		if shape.Page > 0 && from+shape.Page < to {
			to = from + shape.Page
			body["Members@odata.nextLink"] = fmt.Sprintf("%s?$skip=%d", entriesPath, to)
		}
		list := []any{}
		for i := from; i < to; i++ {
			e := entry(at(i))
			if shape.Links {
				e = ref(e["@odata.id"].(string))
			}
			list = append(list, e)
		}
		body["Members"] = list
		return body
	})
	serve(entriesPath+"/{id}", func(r *http.Request) map[string]any {
		n := 0
		_, _ = fmt.Sscan(r.PathValue("id"), &n)
		return entry(n - 1)
	})
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	return server
}

// Of gives the target of a test server, its certificate pinned.
func Of(server *httptest.Server) bmc.Target {
	address := server.Listener.Addr().(*net.TCPAddr)
	target := Account(address.IP.String(), address.Port)
	target.TLS.Pins = []string{bmc.Fingerprint(server.Certificate().Raw)}
	return target
}
