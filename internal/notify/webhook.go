package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/config"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// webhook posts messages as JSON and results as CSV. The id is in the header
// Idempotency-Key, the same each time. Redirects are not followed: the token would
// go elsewhere.
type webhook struct {
	config.Webhook
	client  *http.Client
	secrets *secret.Resolver
}

func newWebhook(c config.Webhook) (*webhook, error) {
	trust, err := roots(c.CA)
	if err != nil {
		return nil, err
	}
	return &webhook{Webhook: c, secrets: new(secret.Resolver), client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trust},
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 20 * time.Second,
			MaxIdleConns:          2,
			IdleConnTimeout:       30 * time.Second,
			ForceAttemptHTTP2:     true,
		},
	}}, nil
}

// roots reads certificates to trust; "" is the system's.
func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

func (w *webhook) target() string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return "a URL that cannot be read"
	}
	return u.Scheme + "://" + u.Host // paths and queries of webhooks are often secrets
}

func (w *webhook) close() {
	w.client.CloseIdleConnections()
	w.secrets.Close()
}

func (w *webhook) send(ctx context.Context, batch []outgoing) (taken int, err error) {
	for _, o := range batch {
		if err := w.post(ctx, o); err != nil {
			return taken, err
		}
		taken++
	}
	return taken, nil
}

func (w *webhook) post(ctx context.Context, o outgoing) error {
	act := "post to " + w.target()
	var (
		body []byte
		err  error
	)
	header := http.Header{"Idempotency-Key": {o.id()}, "User-Agent": {"fleetd"}}
	if o.Delivery != nil {
		body = o.result.CSV
		header.Set("Content-Type", "text/csv; charset=utf-8; header=present")
		header.Set("Content-Disposition", `attachment; filename="`+fileName(*o.Delivery)+`"`)
		header.Set("X-Fleet-Schedule", o.Delivery.Schedule)
		header.Set("X-Fleet-Job", o.Delivery.Job)
		header.Set("X-Fleet-Failed-Devices", strconv.Itoa(o.result.Failed))
	} else {
		header.Set("Content-Type", "application/json")
		if body, err = json.Marshal(o.Message); err != nil {
			return fault.Wrap(fault.Refused, act, err)
		}
	}
	if !w.Token.IsZero() {
		token, err := w.secrets.Resolve(ctx, w.Token)
		if err != nil {
			return fault.Wrap(fault.Unreachable, act+": read the token", err)
		}
		header.Set("Authorization", "Bearer "+token.Reveal())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return fault.New(fault.Refused, "%s: the URL cannot be used", act)
	}
	req.Header = header
	resp, err := w.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return fault.Wrap(fault.Unreachable, act, err)
	}
	defer func() { _ = resp.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	answer := "it answered " + resp.Status
	if text := strings.TrimSpace(line(string(said))); text != "" {
		answer += ": " + text
	}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fault.New(fault.Unreachable, "%s: %s (redirects are not followed; the address that it names belongs into the configuration)", act, answer)
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500, code == http.StatusUnauthorized, code == http.StatusForbidden,
		code == http.StatusNotFound:
		// About the receiver rather than about this message: a login that was revoked, a
		// route that is being set up.
		return fault.New(fault.Unreachable, "%s: %s", act, answer)
	default:
		return fault.New(fault.Refused, "%s: %s", act, answer)
	}
}
