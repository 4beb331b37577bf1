package device_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/device/endace"
	"capfleet/internal/device/linux"
	"capfleet/internal/fault"
)

const small = `platform: acme_box
description: a box
transport: shell
shell:
  modes:
    - name: view
      pattern: '\S+> ?'
      examples: ['box> ']
    - name: admin
      pattern: '\S+# ?'
      from: view
      enter: admin
      leave: exit
      secret: enable
      examples: ['box# ']
  working_mode: admin
  varying: '[>#] ?\z'
  errors: ['^ERROR: ']
  questions:
    - {name: password, pattern: 'Password: ?\z', safe: ''}
    - {name: sure, pattern: 'Sure\?', safe: 'no', 'yes': 'yes'}
  pager: {pattern: '--More--', next: ' '}
read_only: ['show *', 'ping']
checks:
  clock: show clock
  clock_match: 'now (\S+)'
  clock_layout: '2006-01-02T15:04:05Z07:00'
`

func TestLoadDefinition(t *testing.T) {
	t.Parallel()
	d, err := device.LoadDefinition([]byte(small), "acme.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d.Platform != "acme_box" || d.Source != "acme.yaml" || len(d.Shell.Modes) != 2 || d.Shell.Modes[1].Secret != "enable" ||
		d.Shell.Questions[1].Yes != "yes" || d.Shell.Pager.Next != " " || d.Shell.TerminalWidth == 0 {
		t.Errorf("%+v", d)
	}
}

// Every mistake is an error that names file, line and column.
func TestDefinitionErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"empty":                    {small, "", "the file is empty"},
		"no mapping":               {small, "- a\n", "acme.yaml: line 1: a definition is a mapping"},
		"two documents":            {"read_only:", "---\nread_only:", "second document"},
		"syntax":                   {"transport: shell", "transport: [shell", "acme.yaml: "},
		"unknown key":              {"working_mode", "workingmode", "acme.yaml:16:3: unknown key \"workingmode\" (did you mean working_mode?)"},
		"unknown key of a mode":    {"leave: exit", "quit: exit", "acme.yaml:13:7: unknown key \"quit\" (known: name, pattern"},
		"key twice":                {"transport: shell", "transport: shell\ntransport: shell", "already defined"},
		"list for a word":          {"transport: shell", "transport: [shell]", "acme.yaml:3:12: transport: must be a single value"},
		"word for a list":          {"errors: ['^ERROR: ']", "errors: x", "shell.errors: must be a list"},
		"alias":                    {"from: view", "from: &v view\n      secret: *v", "an alias (*)"},
		"alias of a known key":     {"enter: admin", "enter: &e admin\n      secret: *e", "line 13: nested deeper"},
		"platform name":            {"acme_box", "../x", "acme.yaml:1:11: platform: a name"},
		"transport":                {"transport: shell", "transport: telnet", "acme.yaml:3:12: transport: must be shell or exec"},
		"mode without name":        {"- name: view", "- name: ''", "a mode needs a name"},
		"mode twice":               {"- name: admin", "- name: view", "shell.modes[1].name: \"view\" is there twice"},
		"pattern that is none":     {`'\S+> ?'`, `'\S+> ?('`, "acme.yaml:7:16: shell.modes[0].pattern: error parsing regexp"},
		"look-ahead":               {`'\S+> ?'`, `'(?=x)\S+> ?'`, "acme.yaml:7:16: "},
		"pattern of nothing":       {`'\S+> ?'`, `'.*'`, "matches the empty text"},
		"no example":               {"examples: ['box> ']", "examples: []", "at least one example"},
		"example of another":       {"examples: ['box> ']", "examples: ['box$ ']", "acme.yaml:8:18: shell.modes[0].examples[0]: \"box$ \" does not match the pattern of its own mode"},
		"example of two":           {`'\S+# ?'`, `'\S+[#>] ?'`, "matches mode admin too"},
		"no way":                   {"      from: view\n      enter: admin\n      leave: exit\n      secret: enable\n", "", "both without from"},
		"from nowhere":             {"from: view", "from: root", "shell.modes[1].from: \"root\" is not a mode"},
		"circle":                   {"pattern: '\\S+> ?'", "pattern: '\\S+> ?'\n      from: admin\n      enter: a\n      leave: b", "circle"},
		"enter without from":       {"examples: ['box> ']", "examples: ['box> ']\n      enter: x", "need from"},
		"from without leave":       {"      leave: exit\n", "", "needs enter and leave"},
		"secret unknown":           {"secret: enable", "secret: root", "shell.modes[1].secret: must be enable"},
		"secret without question":  {"name: password", "name: pass", "needs a question named password"},
		"no working mode":          {"  working_mode: admin\n", "", "working_mode is missing"},
		"working mode unknown":     {"working_mode: admin", "working_mode: root", "shell.working_mode: \"root\" is not a mode"},
		"varying missing":          {"  varying: '[>#] ?\\z'\n", "", "varying is missing"},
		"varying takes everything": {`'[>#] ?\z'`, `'.+'`, "varying takes all of \"box> \" away"},
		"error of nothing":         {"'^ERROR: '", "''", "shell.errors[0]: matches the empty text"},
		"question twice":           {"name: sure", "name: password", "is there twice"},
		"question without name":    {"name: sure, ", "", "a question needs a name"},
		"safe is yes":              {"safe: 'no'", "safe: 'yes'", "is the answer that agrees"},
		"answer of two lines":      {"safe: 'no'", `safe: "no\nyes"`, "one line"},
		"pager without next":       {", next: ' '", "", "next says what to type"},
		"read_only of nothing":     {"'ping'", "' '", "read_only[1]: not a glob"},
		"read_only no glob":        {"'ping'", "'[a'", "read_only[1]: not a glob"},
		"clock without match":      {"  clock_match: 'now (\\S+)'\n", "", "go together"},
		"clock without group":      {"'now (\\S+)'", "'now'", "checks.clock_match: needs a group"},
		"clock without layout":     {"  clock_layout: '2006-01-02T15:04:05Z07:00'\n", "", "go together"},
		"terminal size":            {"working_mode: admin", "working_mode: admin\n  terminal_width: -1", "size"},
		"login line":               {"working_mode: admin", "working_mode: admin\n  on_login: [\"a\\nb\"]", "shell.on_login[0]: must be one line"},
		"too deep":                 {"read_only: ['show *', 'ping']", "read_only: " + strings.Repeat("[", 30) + strings.Repeat("]", 30), "nested deeper"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := strings.Replace(small, c.old, c.new, 1)
			if src == small {
				t.Fatalf("%q is not in the definition", c.old)
			}
			_, err := device.LoadDefinition([]byte(src), "acme.yaml")
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "acme.yaml") {
				t.Errorf("error %v, want it to contain %q", err, c.want)
			}
		})
	}
}

func FuzzLoadDefinition(f *testing.F) {
	f.Add([]byte(small))
	for _, dir := range []string{"endace", "bigip", "linux"} {
		b, err := os.ReadFile(filepath.Join(dir, "platform.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("platform: x\nshell: {modes: [{}, {from: a}]}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := device.LoadDefinition(src, "fuzz.yaml")
		if (d == nil) == (err == nil) {
			t.Fatalf("definition %v and error %v", d, err)
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatalf("error %v is %s", err, fault.KindOf(err))
		}
		if d != nil {
			d.IsReadOnly("show version")
			d.Refusal("ERROR: x\n")
			if _, err := d.CheckCommand(device.Command{Line: "show version"}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// An operator's file replaces the built-in definition whole; a damaged one, or
// one of another platform, is never passed over.
func TestOverride(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		platform string
		open     func(string) (device.Driver, error)
	}{{"endace_osm", endace.New}, {"f5_bigip", bigip.New}, {"linux", linux.New}} {
		t.Run(c.platform, func(t *testing.T) {
			t.Parallel()
			d, err := c.open(t.TempDir())
			if err != nil || d.Definition().Source != device.BuiltIn {
				t.Fatalf("an empty directory: %v", err)
			}
			dir := t.TempDir()
			name := device.OverrideFile(dir, c.platform)
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			builtin, err := os.ReadFile(filepath.Join(map[string]string{"endace_osm": "endace", "f5_bigip": "bigip", "linux": "linux"}[c.platform], "platform.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for text, want := range map[string]string{
				strings.Replace(string(builtin), "description: ", "description: my own ", 1): "",
				strings.Replace(string(builtin), "transport:", "transprot:", 1):              "unknown key",
				strings.Replace(string(builtin), "platform: ", "platform: other_", 1):        "stands for " + c.platform,
			} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				d, err := c.open(dir)
				switch {
				case want != "":
					if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
						t.Errorf("error %v", err)
					}
				case err != nil:
					t.Error(err)
				case d.Definition().Source != name || !strings.HasPrefix(d.Definition().Description, "my own"):
					t.Errorf("definition of %s", d.Definition().Source)
				}
			}
		})
	}
}

func TestIsReadOnly(t *testing.T) {
	t.Parallel()
	d, err := endace.New("")
	if err != nil {
		t.Fatal(err)
	}
	f5, err := bigip.New("")
	if err != nil {
		t.Fatal(err)
	}
	host, err := linux.New("")
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]bool{
		"show version":                        true,
		"  show   erfstream  rotation-file ":  true,
		"show log /var/log/messages":          true,
		"show":                                false,
		"show version; reload":                false,
		"show version | sh":                   false,
		"show $(reboot)":                      false,
		"show `reboot`":                       false,
		"show version > /etc/passwd":          false,
		"show version\nreload":                false,
		"show version\x1b[A":                  false,
		"reload":                              false,
		"shows":                               false,
		"configuration write":                 false,
		"":                                    false,
		"SHOW version":                        false,
		"run /util bash -c 'show version'":    false,
		"list sys db tcpdump.sslprovider":     false,
		"noshow version":                      false,
		"show \u009bversion":                  false,
		"show version && reload":              false,
		"show version \\; reload":             false,
		"show {version}":                      false,
		"show version\r":                      false,
		"show \"version\"":                    false,
		"show packages OSm6.4.x-Hotfix":       true,
		"show files system":                   true,
		"show raid disk health":               true,
		"show erfstream rotation-file Main-1": true,
	} {
		if got := d.Definition().IsReadOnly(line); got != want {
			t.Errorf("OSm: %q is read-only: %v", line, got)
		}
		if host.Definition().IsReadOnly(line) {
			t.Errorf("Linux: %q is read-only", line)
		}
	}
	for line, want := range map[string]bool{
		"list sys db tcpdump.sslprovider": true, "tmsh show sys version": true, "tmsh modify sys db x value y": false,
		"show sys version": true, "run sys failover standby": false, "show sys version ; reboot": false,
	} {
		if got := f5.Definition().IsReadOnly(line); got != want {
			t.Errorf("BIG-IP: %q is read-only: %v", line, got)
		}
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	f5, err := bigip.New("")
	if err != nil {
		t.Fatal(err)
	}
	osm, err := endace.New("")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		driver     device.Driver
		said, want string
	}{
		{f5, "Syntax Error: \"failover-status\" unexpected argument\n", `Syntax Error: "failover-status" unexpected argument`},
		{f5, "01020036:3: The requested database variable (failover) was not found.\n", "01020036:3: The requested database variable (failover) was not found."},
		{f5, "-bash: modify: command not found\n", "-bash: modify: command not found"},
		{f5, "Failover active for 1d 23:19:21\n", ""},
		{f5, "", ""},
		{osm, "% Please enter an integer between 5 and 999.\n", "% Please enter an integer between 5 and 999."},
		{osm, "\n% Unrecognized command \"x\".\nType \"?\" for help.\n", `% Unrecognized command "x".`},
		{osm, "Installing\n% Disk full\n", "% Disk full"},
		{osm, "log\n% in the middle\nlog\n", ""},
		{osm, "50% used\n", ""},
	} {
		if got := c.driver.Definition().Refusal(c.said); got != c.want {
			t.Errorf("%q: %q, want %q", c.said, got, c.want)
		}
	}
}

// A value derived from a definition is made once, and never for a changed copy.
func TestDerived(t *testing.T) {
	t.Parallel()
	d, err := device.LoadDefinition([]byte(small), "acme.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type key struct{}
	made := 0
	build := func(d *device.Definition) (string, error) { made++; return d.Description, nil }
	for range 3 {
		if got, err := device.Derived(d, key{}, build); got != "a box" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	changed := *d
	changed.Description = "changed"
	if got, err := device.Derived(&changed, key{}, build); got != "changed" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
