package sim

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"
)

// startWeb serves the board's web interface or its Redfish service until the
// fleet ends.
func (b *board) startWeb(port int) error {
	cert, err := b.certificate()
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(b.dev.fleet.ctx, "tcp4", loopback(port))
	if err != nil {
		return err
	}
	addr, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return errors.Join(fmt.Errorf("%T is no TCP address", listener.Addr()), listener.Close())
	}
	b.port = addr.Port
	mux := http.NewServeMux()
	if b.protocol == bmcRedfish {
		b.redfish(mux)
	} else {
		b.web(mux)
	}
	server := &http.Server{
		Handler:           b.disturbed(mux),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ErrorLog:          log.New(io.Discard, "", 0), // clients that do not trust it
		BaseContext:       func(net.Listener) context.Context { return b.dev.fleet.ctx },
	}
	if !b.dev.fleet.spawn(func() {
		stop := context.AfterFunc(b.dev.fleet.ctx, func() { _ = server.Close() })
		defer stop()
		if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			b.dev.fleet.log.Error("simulated BMC ended", "device", b.dev.name, "err", err)
		}
	}) {
		return listener.Close()
	}
	return nil
}

// disturbed serves with the faults that are in force.
func (b *board) disturbed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := &b.dev.ordered.Load().bmc
		if f.down {
			panic(http.ErrAbortHandler) // ends the connection without an answer
		}
		if pause(r.Context(), f.slow) != nil {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		// Close waits for what is spawned, and not for the server's own goroutines.
		done := make(chan struct{})
		if b.dev.fleet.spawn(func() { defer close(done); next.ServeHTTP(w, r) }) {
			<-done
		}
	})
}

// web is the interface that ATEN wrote for Supermicro's boards.
func (b *board) web(mux *http.ServeMux) {
	mux.HandleFunc("POST /cgi/login.cgi", b.login)
	mux.HandleFunc("GET /cgi/url_redirect.cgi", func(w http.ResponseWriter, r *http.Request) {
		if b.token && b.loggedIn(r) {
			_, _ = fmt.Fprintf(w, "<html><script>SmcCsrfInsert (\"CSRF_TOKEN\", \"%s\");</script></html>", b.csrfToken())
			return
		}
		_, _ = io.WriteString(w, "<html></html>")
	})
	mux.HandleFunc("POST /cgi/ipmi.cgi", b.data)
	mux.HandleFunc("GET /cgi/logout.cgi", func(_ http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.sessions, sessionOf(r))
	})
}

// csrfToken has 43 characters of base64.
func (b *board) csrfToken() string {
	return base64.RawStdEncoding.EncodeToString(b.dev.fleet.keys.derive("bmc token", b.dev.name))
}

// maxWebSessions is how many sessions a board has. Sessions that nobody ends
// keep their places.
const maxWebSessions = 16

func (b *board) login(w http.ResponseWriter, r *http.Request) {
	name, password := r.PostFormValue("name"), r.PostFormValue("pwd")
	form := r.PostFormValue("check") == ""
	if b.token {
		form = r.PostFormValue("check") == "00"
		plainName, nameErr := base64.StdEncoding.DecodeString(name)
		plainPassword, passwordErr := base64.StdEncoding.DecodeString(password)
		form = form && nameErr == nil && passwordErr == nil
		if form {
			name, password = string(plainName), string(plainPassword)
		}
	}
	if !form {
		name, password = "", "" // the other generation's: an account that does not exist
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.admits(name, password) || len(b.sessions) >= maxWebSessions {
		// 200 all the same, as real boards have it.
		http.SetCookie(w, &http.Cookie{Name: "SID", Value: ""}) //nolint:gosec // as real boards set it
		_, _ = io.WriteString(w, "<html><script>alert('Invalid username or password')</script></html>")
		return
	}
	id := strings.ToLower(rand.Text())
	b.sessions[id] = true
	http.SetCookie(w, &http.Cookie{Name: "SID", Value: id, Path: "/"}) //nolint:gosec // as real boards set it
	_, _ = io.WriteString(w, `<html><script>window.location="/cgi/url_redirect.cgi?url_name=mainmenu"</script></html>`)
}

func sessionOf(r *http.Request) string {
	c, err := r.Cookie("SID")
	if err != nil {
		return ""
	}
	return c.Value
}

func (b *board) loggedIn(r *http.Request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[sessionOf(r)]
}

// data gives the event log or the sensors. Without session or token the answer is
// a page, and 200.
func (b *board) data(w http.ResponseWriter, r *http.Request) {
	ok, table, part := b.loggedIn(r), "", ""
	if b.token {
		table, part = r.PostFormValue("op"), r.PostFormValue("r")
		ok = ok && r.Header.Get("CSRF_TOKEN") == b.csrfToken() && r.Header.Get("X-Requested-With") == "XMLHttpRequest"
	} else {
		for _, name := range []string{"SEL_INFO.XML", "SENSOR_INFO.XML"} {
			if v := r.PostFormValue(name); v != "" {
				table, part = name, v
			}
		}
		ok = ok && r.Header.Get("Referer") != ""
	}
	f := &b.dev.ordered.Load().bmc
	var text string
	switch {
	case !ok || f.garbage:
		text = "<html><body>Your session has timed out. You will need to open a new session.</body></html>"
	case table == "SEL_INFO.XML" && part == "(1,c0)":
		text = b.selXML(f)
	case table == "SENSOR_INFO.XML" && part == "(1,ff)":
		text = b.sensorXML()
	default:
		text = "<?xml version=\"1.0\"?>\n<IPMI></IPMI>\n"
	}
	if f.truncated {
		text = text[:len(text)*2/3]
	}
	_, _ = io.WriteString(w, text)
}

func (b *board) selXML(f *bmcFaults) string {
	log, _ := b.records()
	var out strings.Builder
	out.WriteString("<?xml version=\"1.0\"?>\n")
	if f.entities {
		out.WriteString("<!DOCTYPE IPMI [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY f SYSTEM \"file:///etc/passwd\">]>\n")
	}
	fmt.Fprintf(&out, "<IPMI>\n<SEL_INFO>\n<SEL TOTAL_NUMBER=\"%04x\"/>\n", len(log))
	for i, raw := range log {
		at := time.Unix(int64(binary.LittleEndian.Uint32(raw[3:])), 0).UTC()
		name, kind := "NO Sensor String", "FF"
		if raw[10] == 0x05 {
			name, kind = fmt.Sprintf("%-16s", "Chassis Intru"), "6f"
		}
		if f.entities {
			name = "&b;&f;"
		}
		if f.short && i == len(log)/2 {
			raw = raw[:15]
		}
		fmt.Fprintf(&out, "<SEL TIME=\"%s\" SEL_RD=\"%s\" SENSOR_ID=\"%s\" ERTYPE=\"%s\"/>\n", at.Format("2006/01/02 15:04:05"), hex.EncodeToString(raw), name, kind)
	}
	out.WriteString("</SEL_INFO>\n</IPMI>\n")
	return out.String()
}

// sensor is a reading that boards give.
type sensor struct {
	name, unit string
	value      float64
}

func (b *board) sensors() []sensor {
	r := b.dev.random("sensors")
	return []sensor{
		{"CPU1 Temp", "C", 45 + float64(r.IntN(30))}, {"System Temp", "C", 25 + float64(r.IntN(15))},
		{"FAN1", "RPM", 3000 + 100*float64(r.IntN(30))}, {"FAN2", "RPM", 3000 + 100*float64(r.IntN(30))},
		{"12V", "V", 11.9 + float64(r.IntN(30))/100},
	}
}

func (b *board) sensorXML() string {
	var out strings.Builder
	out.WriteString("<?xml version=\"1.0\"?>\n<IPMI>\n<SENSOR_INFO>\n")
	for i, s := range b.sensors() {
		fmt.Fprintf(&out, "<SENSOR ID=\"%03x\" NUMBER=\"%02x\" NAME=\"%s\" READING=\"%02x0000\" OPTION=\"c0\" UNIT1=\"00\" UNIT=\"01\"/>\n",
			i+1, i+1, html.EscapeString(s.name), int(s.value)&0xff)
	}
	out.WriteString("</SENSOR_INFO>\n</IPMI>\n")
	return out.String()
}

// writeJSON sends a resource, as far as the faults let it.
func (b *board) writeJSON(w http.ResponseWriter, body map[string]any) {
	f := &b.dev.ordered.Load().bmc
	text, err := json.Marshal(body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if f.garbage {
		text = []byte("<html><body>Service is starting</body></html>")
	}
	if f.truncated {
		text = text[:len(text)*2/3]
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}
