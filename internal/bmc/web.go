package bmc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"capfleet/internal/fault"
)

const (
	httpPort  = 80
	httpsPort = 443

	// maxBody bounds a page, in bytes: 65536 records of Supermicro's XML take 8 MB.
	maxBody = 16 << 20
)

// webClient talks to one BMC's web server, for one Read.
type webClient struct {
	client  *http.Client
	base    string // scheme and host, no slash at the end
	timeout time.Duration
}

func newWebClient(target Target, opts Options) (*webClient, error) {
	config, err := target.TLS.config()
	if err != nil {
		return nil, err
	}
	scheme, port := "https", httpsPort
	if target.TLS.Plain {
		scheme, port = "http", httpPort
	}
	return &webClient{
		base:    scheme + "://" + target.address(port),
		timeout: opts.WebTimeout,
		client: &http.Client{
			// No proxy: a BMC is on the management network.
			Transport: &http.Transport{
				TLSClientConfig: config, MaxConnsPerHost: 1, MaxResponseHeaderBytes: 64 << 10,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return target.dial(ctx, port) },
			},
			// A redirect could take the password elsewhere; nothing here needs one.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func (c *webClient) close() { c.client.CloseIdleConnections() }

// page is a reply, all of it.
type page struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request and reads the reply, within the time of one request.
func (c *webClient) do(ctx context.Context, method, path string, header http.Header, form url.Values) (page, error) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(bounded, method, c.base+path, body)
	if err != nil {
		return page{}, fault.Wrap(fault.Invalid, "make a request", err)
	}
	for key, values := range header {
		request.Header[key] = values
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	reply, err := c.client.Do(request)
	if err != nil {
		return page{}, webError(ctx, method+" "+path, unwrapURL(err))
	}
	defer func() { _ = reply.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(reply.Body, maxBody+1))
	if err != nil {
		return page{}, cutOff(ctx, method+" "+path, err)
	}
	if bounded.Err() != nil {
		// The connection is given up while the other side sees it go: what still
		// came from there is an answer to that.
		return page{}, webError(ctx, method+" "+path, context.Cause(bounded))
	}
	if len(text) > maxBody {
		return page{}, fault.New(fault.TooLarge, "%s %s: the reply is larger than %d bytes", method, path, maxBody)
	}
	return page{reply.StatusCode, reply.Header, text}, nil
}

func cutOff(ctx context.Context, act string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Wrap(fault.Disconnected, act, errors.New("the reply was cut off"))
	}
	return webError(ctx, act, err)
}

// unwrapURL leaves out the method and address, which are said already.
func unwrapURL(err error) error {
	if e, is := errors.AsType[*url.Error](err); is {
		return e.Err
	}
	return err
}

// isHTML tells a page for people, whatever it calls itself.
func (p page) isHTML() bool {
	media, _, _ := mime.ParseMediaType(p.header.Get("Content-Type"))
	return media == "text/html" || bytes.HasPrefix(bytes.TrimLeft(p.body, "\ufeff \t\r\n"), []byte("<"))
}

// pageTitle is where a page says what it is.
var pageTitle = regexp.MustCompile(`(?is)<title[^>]{0,100}>([^<]{1,200})`)

// titled gives the title of a page, with a blank before it, or nothing.
func (p page) titled() string {
	found := pageTitle.FindSubmatch(p.body)
	if found == nil {
		return ""
	}
	return fmt.Sprintf(" %.60q", strings.Join(strings.Fields(strings.ToValidUTF8(string(found[1]), "?")), " "))
}

// statusError is a status that is no success.
func statusError(path string, reply page) error {
	kind, status := fault.Refused, reply.status
	if to := reply.header.Get("Location"); to != "" && status >= 300 && status < 400 {
		return &fault.Error{Kind: fault.Unsupported, Stage: "web", Err: fmt.Errorf("%s redirects to %.200q, where no password is sent", path, to),
			Next: "give the address and the protocol that it leads to; for https leave plain_http out"}
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		kind = fault.Auth
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status >= 300 && status < 400:
		kind = fault.Unsupported
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		kind = fault.Busy
	}
	return &fault.Error{Kind: kind, Stage: "web", Err: fmt.Errorf("%s: status %d", path, status)}
}

// parting gives a context to end a session with: a moment, where ctx is over.
func parting(ctx context.Context, opts Options) (context.Context, context.CancelFunc) {
	timeout := opts.WebTimeout
	if ctx.Err() != nil {
		timeout = opts.Parting
	}
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}
