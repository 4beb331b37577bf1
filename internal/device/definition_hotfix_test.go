package device_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Every mistake in what concerns hotfixes and proofs is an error that names the
// place; what is right as it is built in is changed in one place each.
func TestHotfixDefinitionErrors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("endace/platform.yaml")
	if err != nil {
		t.Fatal(err)
	}
	src := string(raw)
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown proof":           {"  capturing:\n", "  captures:\n", `unknown key "captures" (known: installed`},
		"kind of another proof":   {"- kind: uptime", "- kind: prompt", "proofs.rebooted[0].kind: must be uptime or boot_time or boot_id"},
		"reading without command": {"      line: show packages\n      match", "      match", "proofs.installed[0].line: must be one line to type"},
		"list without name":       {"(?P<name>", "(?P<nom>", "needs a group (?P<name>...)"},
		"uptime of weeks":         {"(?P<days>", "(?P<weeks>", `group "weeks" is none of days, hours, minutes, seconds`},
		"prompt of nothing":       {`      disproven: '\A\(maintenance\) '`, "", "needs proven, disproven or both"},
		"newest without layout":   {"      layout: '2006/01/02 15:04:05'\n", "", "layout says how the time is written"},
		"newest of any age":       {"      within: 2m\n", "", "within says how old"},
		"moving at once":          {"      apart: 5s\n", "", "apart says how long"},
		"still means what":        {"still: not_observable", "still: maybe", "must be disproven or not_observable"},
		"pattern that is none":    {`'\AInstalled packages:\s*\z'`, `'('`, "proofs.installed[0].ignore[0]: error parsing regexp"},

		"relative directory":   {"upload_dir: /endace/packages", "upload_dir: packages", "hotfix.upload_dir: must be an absolute path"},
		"directory above":      {"upload_dir: /endace/packages", "upload_dir: /endace/../x", "hotfix.upload_dir: must be an absolute path"},
		"file of anything":     {`file: '[A-Za-z0-9][A-Za-z0-9._+-]*\.end'`, `file: '.*'`, "hotfix.file: matches the empty text"},
		"no install name":      {`install_name: {match: '(.+)\.end', to: '${1}'}`, "", "hotfix.install_name: needs match and to"},
		"install without name": {"package install {install_name}", "package install x", "must have {install_name} in it"},
		"no way":               {"  maintenance_mode:\n", "  maintenance:\n", `unknown key "maintenance"`},
		"unknown mode":         {"config_mode: config\n", "config_mode: setup\n", `hotfix.maintenance_mode.config_mode: "setup" is not a mode`},
		"unknown question":     {"takeover: takeover", "takeover: who", `hotfix.maintenance_mode.takeover: "who" is not a question`},
		"takes over by itself": {"answers: {confirm: 'yes', save_first: 'yes'}", "answers: {takeover: 'YES'}", "taking over is only ever asked for by the operator"},
		"answer to nothing":    {"answers: {confirm: 'yes', save_first: 'yes'}", "answers: {sure: 'yes'}", `"sure" is not a question`},
		"no time to stay up":   {"    stable: 2m\n", "", "down, settle and stable must be times above 0"},
		"worst before typical": {"return: {typical: 6m, worst: 30m}", "return: {typical: 6m, worst: 5m}", "hotfix.maintenance_mode.return: typical and worst"},
		"no poll":              {"  poll: 5s\n", "", "hotfix: reconnect and poll must be times above 0"},
		"no time":              {"    down: 3m\n", "    down: soon\n", "cannot unmarshal"},
		"item twice":           {"- name: raid-disks", "- name: raid", `hotfix.snapshot[6].name: "raid" is there twice`},
		"item of a path":       {"- name: raid-disks", "- name: ../raid", "an item needs a name of one word"},
		"difference":           {"differences: note\n      volatile: ['Uptime", "differences: ignore\n      volatile: ['Uptime", "must be attention, lost or note"},
		"secret of nothing":    {`|psk)\s+(?:(?:\d|md5|sha\S*|hash|encrypted|cleartext|ro|rw)\s+)*(\S+)'`, `|psk)'`, "needs a group ( ) around the secret"},
		"volatile of nothing":  {"volatile: ['Uptime: .*']", "volatile: ['.*']", "hotfix.snapshot[0].volatile[0]: matches the empty text"},
	} {
		if !strings.Contains(src, c.old) {
			t.Errorf("%s: the definition has no %q", name, c.old)
			continue
		}
		_, err := device.LoadDefinition([]byte(strings.Replace(src, c.old, c.new, 1)), "endace_osm.yaml")
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "endace_osm.yaml") && name != "no time" {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestHotfixDefinition(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("endace/platform.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := device.LoadDefinition(raw, "endace_osm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := d.Hotfix.MaintenanceMode
	if m.Reload.Answers["confirm"] != "yes" || m.Install.Worst != 15*time.Minute || d.Hotfix.Snapshot[0].Name != "software" || len(d.Proofs.Capturing) != 3 {
		t.Errorf("%+v %+v", m, d.Hotfix)
	}
	for in, want := range map[string]string{"OSm6.4.x-CumulativeHotfix-v1.end": "6.4.", "OSm7.x-Fix.end": "7.", "Fix-v1.end": ""} {
		if got, ok := d.Hotfix.Release.Apply(in); got != want || ok != (want != "") {
			t.Errorf("release of %s: %q", in, got)
		}
	}
	if q, err := d.Shell.Question("takeover"); err != nil || q.Yes != "YES" {
		t.Errorf("%+v, %v", q, err)
	}
	if _, err := d.Shell.Question("nobody"); err == nil {
		t.Error("an unknown question is found")
	}
	if m, err := d.Shell.Mode("config"); err != nil || m.From != "enable" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := d.Shell.Mode("nowhere"); err == nil {
		t.Error("an unknown mode is found")
	}
}
