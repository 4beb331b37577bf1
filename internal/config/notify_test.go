package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/config"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

func loadNotify(t *testing.T, text string) (config.Settings, string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "fleetd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := config.Load(config.Request{File: path, System: config.System{Getenv: func(string) string { return "" }, Home: dir, UID: 0}})
	return s, dir, err
}

func TestNotifications(t *testing.T) {
	s, dir, err := loadNotify(t, `
notify:
  receivers:
    ops: {webhook: {url: "https://alerts.example/hook", token: {file: hook}, ca: ca.pem}}
    siem: {syslog: {address: "tls://[2001:db8::5]", facility: local0, ca: ca.pem}}
    here: {syslog: {address: "unix:///dev/log"}}
    files: {directory: {path: reports, keep: 30, age: 90d}}
  rules:
    - {on: [pci_error, rollout_attention], to: [ops, siem]}
    - {on: [capacity_below], retention: 7d, free_percent: 12.5, within: 30d, to: [ops]}
    - {on: [job_failed], operations: [report], to: [here]}
`)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	want := &config.Notifications{
		Receivers: []config.Receiver{
			{Name: "files", Directory: &config.Directory{Path: at("reports"), Keep: 30, Age: 90 * 24 * time.Hour}},
			{Name: "here", Syslog: &config.Syslog{Network: "unix", Address: "/dev/log", Facility: 3}},
			{Name: "ops", Webhook: &config.Webhook{URL: "https://alerts.example/hook", Token: secret.Ref{File: at("hook")}, CA: at("ca.pem")}},
			{Name: "siem", Syslog: &config.Syslog{Network: "tls", Address: "[2001:db8::5]:6514", Facility: 16, CA: at("ca.pem")}},
		},
		Rules: []config.Rule{
			{On: []string{"pci_error", "rollout_attention"}, To: []string{"ops", "siem"}},
			{On: []string{"capacity_below"}, To: []string{"ops"}, Retention: 7 * 24 * time.Hour, FreePercent: 12.5, Within: 30 * 24 * time.Hour},
			{On: []string{"job_failed"}, To: []string{"here"}, Operations: []string{"report"}},
		},
	}
	if diff := cmp.Diff(want, s.Notifications); diff != "" {
		t.Error(diff)
	}
}

func TestNotificationsThatAreRefused(t *testing.T) {
	receiver := func(text string) string { return "notify: {receivers: {a: {" + text + "}}}" }
	rule := func(text string) string {
		return "notify: {receivers: {a: {syslog: {address: \"udp://h\"}}, d: {directory: {path: x}}}, rules: [{" + text + "}]}"
	}
	for text, want := range map[string]string{
		"notify: {receiver: {}}": "unknown key",
		receiver(""):             "one of webhook, syslog and directory",
		receiver("webhook: {url: 'https://h/'}, syslog: {address: 'udp://h'}"): "one of",
		receiver("webhook: {url: 'ftp://h/'}"):                                 "http or https",
		receiver("webhook: {url: 'https://u:hunter2@h/'}"):                     "use token",
		receiver("webhook: {url: 'https://h/', token: {}}"):                    "no secret",
		receiver("webhook: {url: 'https://h/', token: hunter2}"):               "",
		receiver("webhook: {url: 'https://h/', token: {env: A, file: B}}"):     "not several",
		receiver("syslog: {address: 'h:514'}"):                                 "udp://",
		receiver("syslog: {address: 'ftp://h:514'}"):                           "none of",
		receiver("syslog: {address: 'udp://h:0'}"):                             "HOST:PORT",
		receiver("syslog: {address: 'unix://log'}"):                            "begins with /",
		receiver("syslog: {address: 'udp://h', facility: kern}"):               "facility",
		receiver("syslog: {address: 'udp://h', ca: x}"):                        "tls://",
		receiver("directory: {path: ''}"):                                      "path",
		receiver("directory: {path: x, keep: many}"):                           "keep",
		receiver("directory: {path: x, age: old}"):                             "age",
		"notify: {receivers: {'A b': {directory: {path: x}}}}":                 "a name",
		rule("on: [pci_error], to: [b]"):                                       "no receiver",
		rule("on: [pci_error], to: [d]"):                                       "takes results",
		rule("on: [pci_eror], to: [a]"):                                        "not known",
		rule("on: [], to: [a]"):                                                "needed",
		rule("on: [capacity_below], to: [a]"):                                  "needs retention",
		rule("on: [capacity_below], to: [a], free_percent: 100"):               "between 0 and 100",
		rule("on: [pci_error], to: [a], retention: 7d"):                        "for capacity_below",
		rule("on: [capacity_below], to: [a], within: 30d"):                     "needs retention",
		rule("on: [capacity_below], to: [a], free_percent: 9, within: soon"):   "within",
		rule("on: [capacity_below], to: [a], free_percent: 9, within: 900d"):   "a year ahead",
		rule("on: [job_failed], to: [a], within: 30d"):                         "for capacity_below",
		rule("on: [pci_error], to: [a], operations: [x]"):                      "for job_failed",
	} {
		_, _, err := loadNotify(t, text)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is told: %v", err)
		}
	}
}
