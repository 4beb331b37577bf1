package bmc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"capfleet/internal/fault"
)

// supermicroReader reads the event log page of the web interface that ATEN wrote
// for Supermicro's boards up to X11. docs/formats/sel.md says what is known of it.
type supermicroReader struct {
	target Target
	opts   Options
}

// StageSession is the stage of an error of a session that began with a login that
// was taken: the account is not the reason.
const StageSession = "session"

const (
	loginPath  = "/cgi/login.cgi"
	logoutPath = "/cgi/logout.cgi"
	dataPath   = "/cgi/ipmi.cgi"
	menuPath   = "/cgi/url_redirect.cgi?url_name=topmenu"
	eventsPath = "/cgi/url_redirect.cgi?url_name=servh_event"

	sessionCookie = "SID"
	tokenHeader   = "CSRF_TOKEN"
	selRange      = "(1,c0)"
	sensorRange   = "(1,ff)"
)

// csrfToken is how the pages of the newer generation carry their token.
var csrfToken = regexp.MustCompile(`SmcCsrfInsert\s*\(\s*"CSRF_TOKEN"\s*,\s*"([A-Za-z0-9+/=_-]{1,256})"`)

func (r *supermicroReader) Read(ctx context.Context) (log Log, err error) {
	log.Protocol = SupermicroWeb
	err = r.inSession(ctx, func(web *webClient, session http.Header) error {
		body, err := r.table(ctx, web, session, "SEL_INFO.XML", selRange)
		if err != nil {
			return err
		}
		log.Entries, err = parseSELInfo(body)
		return err
	})
	return log, fault.Wrap(fault.Unparsed, "read event log of BMC "+r.target.Host+" by its web interface", err)
}

// inSession logs in, does something with the session and logs out.
func (r *supermicroReader) inSession(ctx context.Context, do func(*webClient, http.Header) error) error {
	web, err := newWebClient(r.target, r.opts)
	if err != nil {
		return err
	}
	defer web.close()
	session, err := r.login(ctx, web)
	if err != nil {
		return fault.Wrap(fault.Unreachable, "log in", err)
	}
	defer func() {
		// Sessions are few, and one that is left keeps its place for long.
		last, cancel := parting(ctx, r.opts)
		defer cancel()
		_, _ = web.do(last, http.MethodGet, logoutPath, session, nil)
	}()
	return do(web, session)
}

// login gives the headers of a session. The status is 200 whether it succeeds
// or not, so the cookie and the page are what tells. The newer generation wants
// user and password in base64; each generation takes the other's form for an
// account that it does not have, so that trying both counts once against the
// account.
func (r *supermicroReader) login(ctx context.Context, web *webClient) (http.Header, error) {
	name, password := r.target.Username, r.target.Password.Reveal()
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, form := range []url.Values{
		{"name": {name}, "pwd": {password}},
		{"name": {encode(name)}, "pwd": {encode(password)}, "check": {"00"}},
	} {
		reply, err := web.do(ctx, http.MethodPost, loginPath, nil, form)
		switch {
		case err != nil:
			return nil, err
		case reply.status != http.StatusOK:
			return nil, statusError(loginPath, reply)
		}
		if id := cookie(reply.header); id != "" && bytes.Contains(reply.body, []byte("/cgi/url_redirect.cgi?url_name=mainmenu")) {
			return http.Header{
				"Cookie":           {sessionCookie + "=" + id + "; langSetFlag=0; language=English; mainpage=health; subpage=servh_event"},
				"Referer":          {web.base + eventsPath},
				"Origin":           {web.base},
				"X-Requested-With": {"XMLHttpRequest"},
			}, nil
		}
	}
	return nil, &fault.Error{Kind: fault.Auth, Stage: "login", Err: errors.New("the BMC refuses the login"), Next: "check user name and password, and whether the account is locked"}
}

func cookie(header http.Header) string {
	for _, c := range (&http.Response{Header: header}).Cookies() {
		if c.Name == sessionCookie && c.Value != "" {
			return c.Value
		}
	}
	return ""
}

// table asks the web interface for one of its tables, in the form of the
// generation: the one with a token on its pages names the table in another field.
// An HTML page or nothing instead of XML is how this server says that it does not
// know the session.
func (r *supermicroReader) table(ctx context.Context, web *webClient, session http.Header, name, part string) ([]byte, error) {
	menu, err := web.do(ctx, http.MethodGet, menuPath, session, nil)
	if err != nil {
		return nil, err
	}
	form := url.Values{name: {part}}
	headers := session.Clone()
	if found := csrfToken.FindSubmatch(menu.body); found != nil {
		form = url.Values{"op": {name}, "r": {part}, "_": {""}}
		headers[tokenHeader] = []string{string(found[1])}
	}
	reply, err := web.do(ctx, http.MethodPost, dataPath, headers, form)
	switch {
	case err != nil:
		return nil, err
	case reply.status != http.StatusOK:
		return nil, statusError(dataPath, reply)
	}
	return xmlBody(reply.body)
}

func xmlBody(body []byte) ([]byte, error) {
	body = bytes.TrimLeft(body, "\ufeff \t\r\n")
	if !bytes.HasPrefix(body, []byte("<?xml")) {
		return nil, &fault.Error{Kind: fault.Auth, Stage: StageSession, Err: errors.New("the BMC answers with a page instead of its log: it does not take the session"), Next: "see that the account may read the event log"}
	}
	return body, nil
}

// parseSELInfo reads the table of records.
func parseSELInfo(body []byte) ([]Entry, error) {
	body, err := xmlBody(body)
	if err != nil {
		return nil, err
	}
	var (
		entries []Entry
		total   = -1
		path    []string
	)
	decoder := xml.NewDecoder(bytes.NewReader(body))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return entries, fault.Wrap(fault.Unparsed, "understand the BMC's XML", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return entries, fault.New(fault.Unparsed, "the BMC's XML declares a document type, which may hide anything")
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.StartElement:
			if path = append(path, t.Name.Local); len(path) > 8 {
				return entries, fault.New(fault.Unparsed, "the BMC's XML is nested too deeply")
			}
			if strings.Join(path, "/") != "IPMI/SEL_INFO/SEL" {
				continue
			}
			if count, is := attribute(t, "TOTAL_NUMBER"); is {
				n, err := strconv.ParseUint(count, 16, 32) // hexadecimal, without saying so
				if err != nil || total >= 0 || n > maxRecords {
					return entries, fault.New(fault.Unparsed, "the BMC says that its log has %q records", count)
				}
				total = int(n) //nolint:gosec // at most maxRecords
				continue
			}
			digits, _ := attribute(t, "SEL_RD")
			raw, err := hex.DecodeString(digits)
			if err != nil {
				return entries, fault.New(fault.Unparsed, "record %d is %q, which is not hexadecimal", len(entries)+1, digits)
			}
			entry, err := Decode(raw)
			if err != nil {
				return entries, err
			}
			if len(entries) == maxRecords {
				return entries, fault.New(fault.TooLarge, "the BMC sends more than %d records", maxRecords)
			}
			entries = append(entries, entry)
		}
	}
	switch {
	case total < 0:
		return entries, fault.New(fault.Unparsed, "the BMC's XML does not say how many records there are")
	case len(entries) < total:
		return entries, fault.New(fault.Unparsed, "the BMC sends %d of %d records", len(entries), total)
	}
	return entries, nil
}

func attribute(element xml.StartElement, name string) (string, bool) {
	for _, a := range element.Attr {
		if a.Name.Local == name {
			return a.Value, true
		}
	}
	return "", false
}
