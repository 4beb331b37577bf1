package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/fault"
)

func system(uid int, env map[string]string, dirs ...string) System {
	return System{OS: "linux", UID: uid, Home: "/home/ann", Getenv: func(k string) string { return env[k] }, IsDir: func(d string) bool {
		for _, have := range dirs {
			if d == have {
				return true
			}
		}
		return false
	}, Exists: func(path string) bool { return slices.Contains(dirs, path) }}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	user := Paths{
		Config: "/home/ann/.config/fleetd/fleetd.yaml", Inventory: "/home/ann/.config/fleetd/inventory.yaml",
		Overrides: "/home/ann/.config/fleetd/overrides", State: "/home/ann/.local/state/fleetd",
	}
	with := func(p Paths, socket string) Paths { p.Socket = socket; return p }
	for name, c := range map[string]struct {
		system System
		want   Paths
	}{
		"root": {system(0, map[string]string{"XDG_STATE_HOME": "/x"}), Paths{
			Config: "/etc/fleetd/fleetd.yaml", Inventory: "/etc/fleetd/inventory.yaml", Overrides: "/etc/fleetd/overrides",
			State: "/var/lib/fleetd", Socket: "/run/fleetd/fleetd.sock",
		}},
		"user with a session": {system(1000, map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"}), with(user, "/run/user/1000/fleetd/fleetd.sock")},
		"user from cron":      {system(1000, nil, "/run/user/1000"), with(user, "/run/user/1000/fleetd/fleetd.sock")},
		"user without one":    {system(1000, nil), with(user, "/home/ann/.local/state/fleetd/fleetd.sock")},
		"relative is ignored": {system(1000, map[string]string{"XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "c"}), with(user, "/home/ann/.local/state/fleetd/fleetd.sock")},
		"everything set": {system(1000, map[string]string{"XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}), Paths{
			Config: "/c/fleetd/fleetd.yaml", Inventory: "/c/fleetd/inventory.yaml", Overrides: "/c/fleetd/overrides",
			State: "/s/fleetd", Socket: "/r/fleetd/fleetd.sock",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.system.Paths()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	homeless := system(1000, nil)
	homeless.Home = ""
	if _, err := homeless.Paths(); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("no home: %v", err)
	}
}

func TestDefaultSocketIsUsable(t *testing.T) {
	t.Parallel()
	socket, err := DefaultSocket()
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(socket) {
		t.Errorf("socket %q is not absolute", socket)
	}
}

func TestDefaultSocket(t *testing.T) {
	t.Parallel()
	const own, systems = "/run/user/1000/fleetd/fleetd.sock", "/run/fleetd/fleetd.sock"
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"}
	for want, exist := range map[string][]string{own: {own, systems}, systems: {systems}} {
		if got, err := system(1000, env, exist...).DefaultSocket(); err != nil || got != want {
			t.Errorf("with %v: %s %v", exist, got, err)
		}
	}
	if got, err := system(1000, env).DefaultSocket(); err != nil || got != own {
		t.Errorf("with none: %s %v", got, err)
	}
}

func TestMetricsAddress(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]string{
		"9469": "127.0.0.1:9469", ":9469": "127.0.0.1:9469", "[::1]:9469": "[::1]:9469", "0.0.0.0:80": "0.0.0.0:80", "host:0": "host:0",
		"host": "", "1:2:3": "", "host:http": "", ":70000": "",
	} {
		got, err := Load(Request{System: system(0, map[string]string{"FLEETD_METRICS_ADDRESS": v})})
		if want == "" {
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "FLEETD_METRICS_ADDRESS") {
				t.Errorf("%q: %v", v, err)
			}
			continue
		}
		if err != nil || got.MetricsAddress != want {
			t.Errorf("%q: %q %v, want %q", v, got.MetricsAddress, err, want)
		}
	}
}

func TestContextsFile(t *testing.T) {
	t.Parallel()
	windows := System{OS: "windows", Getenv: func(k string) string { return map[string]string{"APPDATA": "/roaming"}[k] }}
	for want, s := range map[string]System{
		"/home/ann/.config/fleetctl/config.yaml": system(1000, nil),
		"/c/fleetctl/config.yaml":                system(0, map[string]string{"XDG_CONFIG_HOME": "/c"}),
		"/x.yaml":                                system(1000, map[string]string{ContextsEnv: "/x.yaml"}),
		"/roaming/fleetctl/config.yaml":          windows,
	} {
		if got, err := s.ContextsFile(); err != nil || filepath.ToSlash(got) != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
}

func TestCheckSocket(t *testing.T) {
	t.Parallel()
	if err := CheckSocket("/run/fleetd/fleetd.sock"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "/" + strings.Repeat("x", 120)} {
		if err := CheckSocket(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleetd.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhoWins(t *testing.T) {
	t.Parallel()
	path := write(t, `
state: data
inventory: ~/inv.yaml
socket: /tmp/file.sock
log: {level: warn, format: json}
limits: {global: 10, per_site: 5, per_device: 2}
`)
	env := map[string]string{ConfigEnv: path, "FLEETD_SOCKET": "/tmp/env.sock", "FLEETD_LOG_LEVEL": "error", "FLEETD_LIMIT": "20"}
	got, err := Load(Request{System: system(1000, env), Flags: map[string]string{"limit": "30", "log-level": "debug"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		File:      path,
		State:     filepath.Join(filepath.Dir(path), "data"), // file, relative to itself
		Inventory: "/home/ann/inv.yaml",
		Overrides: "/home/ann/.config/fleetd/overrides", // default
		Socket:    "/tmp/env.sock",                      // environment over file
		LogLevel:  slog.LevelDebug,                      // flag over environment
		LogFormat: "json",
		Limits:    Limits{Global: 30, PerSite: 5, PerDevice: 2},
		Backup:    Backup{Dir: filepath.Join(filepath.Dir(path), "data", "backups"), Interval: 24 * time.Hour, Keep: 7},
		Retention: defaultRetention(),
		MinFree:   defaultMinFree,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each setting can be given in every way, and each way reaches its own field.
func TestEverySettingEverywhere(t *testing.T) {
	t.Parallel()
	values := map[string]string{"metrics_address": "127.0.0.1:9", "log.level": "debug", "log.format": "json", "limits.global": "7", "limits.per_site": "7", "limits.per_device": "7",
		"backup.interval": "90m", "backup.keep": "3", "retention.age": "30d", "retention.jobs": "77", "retention.bytes": "5GiB",
		"retention.artifact_age": "off", "retention.artifact_bytes": "1000", "retention.artifact_quota": "2000", "retention.audit_age": "1d", "retention.history_age": "100d", "min_free": "1GB"}
	base, err := Load(Request{System: system(0, nil)})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range All() {
		value := values[s.Name]
		if value == "" {
			value = "/some/where"
		}
		yaml := s.Name + ": " + value
		if section, key, nested := strings.Cut(s.Name, "."); nested {
			yaml = section + ": {" + key + ": " + value + "}"
		}
		byFlag, err1 := Load(Request{System: system(0, nil), Flags: map[string]string{s.Flag: value}})
		byEnv, err2 := Load(Request{System: system(0, map[string]string{s.Env: value})})
		byFile, err3 := Load(Request{System: system(0, nil), File: write(t, yaml)})
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatalf("%s: %v, %v, %v", s.Name, err1, err2, err3)
		}
		byFile.File = ""
		if byFlag != byEnv || byFlag != byFile || byFlag == base {
			t.Errorf("%s: flag %+v, environment %+v, file %+v", s.Name, byFlag, byEnv, byFile)
		}
		for _, name := range []string{s.Flag, s.Env} {
			if seen[name] {
				t.Errorf("%s is used twice", name)
			}
			seen[name] = true
		}
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	if _, err := Load(Request{System: system(1000, nil)}); err != nil {
		t.Errorf("the default file may be missing: %v", err)
	}
	if _, err := Load(Request{System: system(1000, nil), File: "/nowhere/fleetd.yaml"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a named file may not: %v", err)
	}
}

func TestEmptyFile(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "# nothing yet\n"} {
		if _, err := Load(Request{System: system(0, nil), File: write(t, content)}); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file  string
		env   map[string]string
		flags map[string]string
		want  string
	}{
		"unknown key":       {file: "state: /s\nsokcet: /x\n", want: `:2:1: unknown key "sokcet" (did you mean socket?)`},
		"unlike any key":    {file: "bananas: /x\n", want: `:1:1: unknown key "bananas" (known: state, inventory, socket,`},
		"unknown inner key": {file: "log: {levl: debug}\n", want: `:1:7: unknown key "levl"`},
		"twice":             {file: "state: /a\nstate: /b\n", want: ":2:1:"},
		"wrong type":        {file: "limits: {global: many}\n", want: ":1:18:"},
		"a list":            {file: "- a\n", want: ":1:"},
		"syntax":            {file: "state: [\n", want: ":1:"},
		"bad level":         {file: "log: {level: loud}\n", want: `log.level "loud": debug, info, warn or error`},
		"bad limit":         {file: "limits: {global: 0}\n", want: `limits.global "0": a number from 1 to`},
		"bad time":          {file: "retention: {age: 3 weeks}\n", want: `retention.age "3 weeks": a time such as 90d`},
		"negative time":     {flags: map[string]string{"backup-interval": "-1h"}, want: "a time such as"},
		"bad size":          {file: "min_free: 3 bananas\n", want: `a size such as 2GiB`},
		"huge size":         {flags: map[string]string{"min-free": "9999999999TiB"}, want: "a size such as"},
		"no backups":        {flags: map[string]string{"backup-keep": "off"}, want: "a number from 1"},
		"empty path":        {file: "state: ''\n", want: "it is empty"},
		"environment":       {env: map[string]string{"FLEETD_LOG_FORMAT": "xml"}, want: `FLEETD_LOG_FORMAT "xml": text or json`},
		"flag":              {flags: map[string]string{"limit": "-1"}, want: `--limit "-1": a number`},
		"empty flag":        {flags: map[string]string{"state": ""}, want: `--state "": it is empty`},
		"long socket":       {flags: map[string]string{"socket": "/" + strings.Repeat("x", 200)}, want: "--socket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := Request{System: system(0, c.env), Flags: c.flags}
			if c.file != "" {
				req.File = write(t, c.file)
			}
			got, err := Load(req)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v; want %q", got, err, c.want)
			}
		})
	}
}

func FuzzFile(f *testing.F) {
	f.Add("state: /s\nlog: {level: debug}\nlimits: {global: 3}\n")
	f.Add("a: &a [*a]\n")
	f.Fuzz(func(t *testing.T, content string) {
		if len(content) > 1<<12 {
			return
		}
		s, err := Load(Request{System: system(0, nil), File: write(t, content)})
		if err == nil && (s.Limits.Global < 1 || !filepath.IsAbs(s.State)) {
			t.Fatalf("%+v", s)
		}
	})
}

func TestWrittenAsGiven(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"off", "90d", "1h30m0s", "45s"} {
		if d, err := parseDuration(v); err != nil || FormatDuration(d) != v {
			t.Errorf("%s became %v, %v", v, d, err)
		}
	}
	for _, v := range []string{"off", "2GiB", "1TiB", "1500B", "3KiB"} {
		if n, err := parseSize(v); err != nil || FormatSize(n) != v {
			t.Errorf("%s became %d, %v", v, n, err)
		}
	}
	if n, err := parseSize("10 GB"); err != nil || n != 1e10 {
		t.Errorf("10 GB became %d, %v", n, err)
	}
}
