package sel

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, keeps, blanks string }{
		"a known one":    {"login with hunter22 refused", "login with ", "hunter22"},
		"key = value":    {"bind_password=topsecret1, port 389", "port 389", "topsecret1"},
		"quoted":         {`"password": "a b c", "user": "me"`, `"user": "me"`, "a b c"},
		"a word after":   {"snmp community public ro", " ro", "public"},
		"a private key":  {"x\n-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\ny", "\ny", "AAAA"},
		"one cut off":    {"x\n-----BEGIN RSA PRIVATE KEY-----\nMIIE", "x\n", "MIIE"},
		"HTTP":           {"Authorization: Basic QURNSU46c2VjcmV0 ok", " ok", "QURNSU46c2VjcmV0"},
		"nothing secret": {"raid0 degraded, disk 3 failed at 02:00", "raid0 degraded, disk 3 failed at 02:00", "\x00"},
	} {
		got := string(redact([]byte(c.in), "hunter22", "ab"))
		if !strings.Contains(got, c.keeps) || strings.Contains(got, c.blanks) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
