package hotfix

import (
	"strings"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/device/endace"
)

func definition(tb testing.TB) *device.Definition {
	tb.Helper()
	d, err := endace.New("")
	if err != nil {
		tb.Fatal(err)
	}
	return d.Definition()
}

func TestNames(t *testing.T) {
	t.Parallel()
	def := definition(t).Hotfix
	for file, want := range map[string]Names{
		"OSm6.4.x-CumulativeHotfix-v1.end":      {Install: "OSm6.4.x-CumulativeHotfix-v1", Installed: "OSm6.4.x-CumulativeHotfix", Version: "v1"},
		"OSm6.4.x-CumulativeHotfix-v10.2b.end":  {Install: "OSm6.4.x-CumulativeHotfix-v10.2b", Installed: "OSm6.4.x-CumulativeHotfix", Version: "v10.2b"},
		"OSm6.4.x-CumulativeHotfix.end":         {Install: "OSm6.4.x-CumulativeHotfix", Installed: "OSm6.4.x-CumulativeHotfix"},
		"driver-very-new.end":                   {Install: "driver-very-new", Installed: "driver-very-new"},
		"a.end.end":                             {Install: "a.end", Installed: "a.end"},
		"OSm6.4.x-CumulativeHotfix-v1.END":      {},
		"OSm6.4.x Cumulative.end":               {},
		"../OSm6.4.x-CumulativeHotfix-v1.end":   {},
		"-rf.end":                               {},
		"$(reboot).end":                         {},
		"OSm6.4.x-CumulativeHotfix-v1.end\nfoo": {},
		".end":                                  {},
	} {
		got, err := namesOf(def, file, "", "")
		if want.Install == "" {
			if err == nil {
				t.Errorf("%q is taken: %+v", file, got)
			}
			continue
		}
		want.File = file
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", file, got, err, want)
		}
	}
	got, err := namesOf(def, "x.end", "typed-v3", "shown")
	if err != nil || got != (Names{File: "x.end", Install: "typed-v3", Installed: "shown", Version: "v3"}) {
		t.Errorf("given names: %+v, %v", got, err)
	}
}

// A version is the same only when it is written alike; a list without versions
// shows nothing of them.
func TestFind(t *testing.T) {
	t.Parallel()
	def := definition(t).Hotfix
	v2 := Names{Install: "Fix-v2", Installed: "Fix", Version: "v2"}
	for name, c := range map[string]struct {
		names Names
		list  []entry
		want  Answer
		entry string
	}{
		"absent":                    {v2, []entry{{name: "Other"}}, Disproven, ""},
		"nothing":                   {v2, nil, Disproven, ""},
		"without version":           {v2, []entry{{name: "Fix"}}, NotObservable, "Fix"},
		"same version":              {v2, []entry{{name: "Fix-v2"}}, Proven, "Fix-v2"},
		"older version":             {v2, []entry{{name: "Fix-v1"}}, Disproven, "Fix-v1"},
		"longer version":            {v2, []entry{{name: "Fix-v21"}}, Disproven, "Fix-v21"},
		"other case":                {v2, []entry{{name: "Fix-V2"}}, Disproven, ""},
		"both":                      {v2, []entry{{name: "Fix-v1"}, {name: "Fix-v2"}}, Proven, "Fix-v2"},
		"version in a column":       {v2, []entry{{name: "Fix", version: "v2"}}, Proven, "Fix v2"},
		"other version in a column": {v2, []entry{{name: "Fix", version: "v1"}}, Disproven, "Fix v1"},
		"name is part of another":   {v2, []entry{{name: "Fix-Extra"}}, Disproven, ""},
		"hotfix without version":    {Names{Install: "Fix", Installed: "Fix"}, []entry{{name: "Fix"}}, Proven, "Fix"},
		"unknown which, in column":  {Names{Install: "Fix", Installed: "Fix"}, []entry{{name: "Fix", version: "v1"}}, NotObservable, "Fix v1"},
		"given with its version":    {Names{Install: "Fix-v2", Installed: "Fix/v2", Version: "v2"}, []entry{{name: "Fix/v2"}}, Proven, "Fix/v2"},
	} {
		if got := c.names.find(def, c.list); got != (listing{c.want, c.entry}) {
			t.Errorf("%s: %+v, want %s %q", name, got, c.want, c.entry)
		}
	}
}

// A list that is half understood shows nothing: what is absent from the rest may
// stand in the line that is not.
func TestReadList(t *testing.T) {
	t.Parallel()
	r := definition(t).Proofs.Installed[0]
	list, bad := readList(r, "Installed packages:\r\n\r\n  Fix-v1\r\n  Other_2.0+b\r\n")
	if bad != "" || len(list) != 2 || list[0].name != "Fix-v1" || list[1].name != "Other_2.0+b" {
		t.Errorf("%v, %q", list, bad)
	}
	if list, bad = readList(r, "Installed packages:\n  (none)\n"); bad != "" || len(list) != 0 {
		t.Errorf("%v, %q", list, bad)
	}
	for _, text := range []string{"Installed packages:\n  Fix-v1   6.4.3\n", "  Fix-v1\n% database is locked\n", "Fix\n"} {
		if list, bad := readList(r, text); bad == "" {
			t.Errorf("%q is understood: %v", text, list)
		}
	}
}

func TestRebooted(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)
	up := func(seconds float64, after time.Duration) boot {
		return boot{Kind: device.ReadUptime, Line: "show version", Uptime: seconds, Grain: 1, At: begin.Add(after)}
	}
	id := func(v string) boot { return boot{Kind: device.ReadBootID, Line: "cat id", Value: v, At: begin} }
	for name, c := range map[string]struct {
		before, after boot
		want          Answer
	}{
		"rebooted":                          {up(86400, 0), up(60, 10*time.Minute), Proven},
		"rebooted at once":                  {up(86400, 0), up(0, 2*time.Second), Proven},
		"not rebooted":                      {up(86400, 0), up(86400+600, 10*time.Minute), Disproven},
		"not rebooted, clocks drift":        {up(86400, 0), up(86400+597, 10*time.Minute), Disproven},
		"up for longer than before":         {up(60, 0), up(600, 20*time.Minute), Proven},
		"fleetd's clock set forward":        {up(86400, 0), up(86400+60, 3*time.Hour), NotObservable},
		"fleetd's clock set back":           {up(86400, 0), up(86400+600, -3*time.Hour), NotObservable},
		"rebooted, fleetd's clock set back": {up(86400, 0), up(60, -3*time.Hour), Proven},
		"fresh before and not rebooted":     {up(3, 0), up(6, 3*time.Second), Disproven},
		"other id":                          {id("a"), id("b"), Proven},
		"same id":                           {id("a"), id("a"), Disproven},
		"shown otherwise":                   {up(3, 0), id("a"), NotObservable},
		"shown before only":                 {up(3, 0), boot{}, NotObservable},
		"never shown":                       {boot{}, boot{}, NotObservable},
	} {
		if got, why := rebooted(c.before, c.after); got != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got, why, c.want)
		}
	}
}

// A device that was up for 30 s is looked at again.
func TestRebootedAgain(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	up := func(seconds float64, later time.Duration) boot {
		return boot{Kind: device.ReadUptime, Line: "show version", Uptime: seconds, Grain: 1, At: at.Add(later)}
	}
	id := func(value string) boot { return boot{Kind: device.ReadBootID, Value: value, At: at} }
	for name, c := range map[string]struct {
		earlier, now boot
		want         bool
	}{
		"up since":                    {up(30, 0), up(150, 2*time.Minute), false},
		"the same second":             {up(30, 0), up(30, 400*time.Millisecond), false},
		"answered 20 s late":          {up(30, 0), up(130, 2*time.Minute), false},
		"fleetd was suspended":        {up(30, 0), up(4000, 2*time.Minute), false},
		"rebooted":                    {up(30, 0), up(5, 2*time.Minute), true},
		"rebooted and up for as long": {up(30, 0), up(35, 2*time.Minute), true},
		"shown by nothing before":     {boot{}, up(5, time.Minute), false},
		"shown by nothing now":        {up(30, 0), boot{At: at}, false},
		"the same boot":               {id("a"), id("a"), false},
		"another boot":                {id("a"), id("b"), true},
	} {
		if why := rebootedAgain(c.earlier, c.now); (why != "") != c.want {
			t.Errorf("%s: %q", name, why)
		}
	}
}

func TestReadBoot(t *testing.T) {
	t.Parallel()
	r := definition(t).Proofs.Rebooted[0]
	for text, want := range map[string]float64{
		"Product name: OSm\nUptime:            12d 3h 4m 5.678s\nBuild: 1\n": 12*86400 + 3*3600 + 4*60 + 5.678,
		"Uptime: 3h 4m 5s\n":  3*3600 + 4*60 + 5,
		"Uptime: 5.000s\n":    5,
		"Uptime: 12 days\n":   -1,
		"Uptime:\n":           -1,
		"":                    -1,
		"Last Uptime: 5.0s\n": -1,
	} {
		b, ok := readBoot(r, text)
		if ok != (want >= 0) || ok && (b.Uptime < want-0.001 || b.Uptime > want+0.001) {
			t.Errorf("%q: %+v, %v, want %v", text, b, ok, want)
		}
	}
	r.Match = `(?m)^up (?P<days>\d+) days, (?P<minutes>\d+) min`
	if b, ok := readBoot(r, "up 3 days, 4 min\n"); !ok || b.Grain != 60 || b.Uptime != 3*86400+4*60 {
		t.Errorf("without seconds: %+v, %v", b, ok)
	}
}

func TestSnapshotDifferences(t *testing.T) {
	t.Parallel()
	items := []device.SnapshotItem{
		{Name: "config", Line: "show config", Differences: device.AnyDiffers, Ignore: []string{`\A##`}},
		{Name: "files", Line: "show files", Differences: device.LostDiffers, Volatile: []string{`\d+ MB`}},
		{Name: "note", Line: "show note", Differences: device.NoDiffers},
		{Name: "raid", Line: "show raid", Differences: device.AnyDiffers, Optional: true},
	}
	shot := func(config, files, note string) Snapshot {
		return Snapshot{Items: []SnapshotText{{Name: "config", Text: config}, {Name: "files", Text: files}, {Name: "note", Text: note}, {Name: "raid", Text: "md0 ok\n"}}}
	}
	before := shot("## 1\nntp a\nntp a\n", "/var 10 MB\n/data 20 MB\n", "x\n")
	gone := shot("## 1\nntp a\nntp a\n", "/var 10 MB\n/data 20 MB\n", "x\n")
	gone.Items[3] = SnapshotText{Name: "raid", Missing: "the device does not know the command"}
	missing := shot("## 1\nntp a\nntp a\n", "/var 10 MB\n/data 20 MB\n", "x\n")
	missing.Items[3] = SnapshotText{Name: "raid", Missing: "the device does not know the command"}
	for name, c := range map[string]struct {
		before, after Snapshot
		want          string // items that differ, * where that matters
	}{
		"same":                  {before, before, ""},
		"ignored and volatile":  {before, shot("## 2\nntp a\nntp a\n", "/var 99 MB\n/data 1 MB\n", "x\n"), ""},
		"order and line ends":   {before, shot("ntp a\r\nntp a\r\n", "/data 20 MB\n/var 10 MB\n", "x"), ""},
		"one of two alike gone": {before, shot("ntp a\n", "/var 10 MB\n/data 20 MB\n", "x\n"), "config*"},
		"new setting":           {before, shot("ntp a\nntp a\nntp b\n", "/var 10 MB\n/data 20 MB\n", "x\n"), "config*"},
		"file system gone":      {before, shot("ntp a\nntp a\n", "/var 10 MB\n", "x\n"), "files*"},
		"file system new":       {before, shot("ntp a\nntp a\n", "/var 10 MB\n/data 20 MB\n/x 1 MB\n", "x\n"), "files"},
		"note":                  {before, shot("ntp a\nntp a\n", "/var 10 MB\n/data 20 MB\n", "y\n"), "note"},
		"command gone":          {before, gone, "raid*"},
		"command never there":   {missing, missing, ""},
		"command new":           {missing, before, ""},
		"expected":              {before, shot("ntp a\nntp a\nexpected\n", "/var 10 MB\n/data 20 MB\n", "x\n"), "config"},
	} {
		diffs := c.before.compare(c.after, items, func(_, line string) bool { return line == "expected" })
		var got []string
		for _, d := range diffs {
			word := d.Item
			if d.Matters {
				word += "*"
			}
			got = append(got, word)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
	}
}

func FuzzReadList(f *testing.F) {
	r := definition(f).Proofs.Installed[0]
	f.Add("Installed packages:\n  Fix-v1\n")
	f.Add("  (none)\n% Unrecognized command\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, bad := readList(r, text)
		if bad != "" && list != nil {
			t.Errorf("half a list: %v and %q", list, bad)
		}
		for _, e := range list {
			if e.name == "" || strings.ContainsAny(e.name, " \t\r\n") {
				t.Errorf("entry %q", e.name)
			}
		}
	})
}

// A secret is never kept, and one that changed is seen.
func TestConceal(t *testing.T) {
	t.Parallel()
	patterns := []string{}
	for _, item := range definition(t).Hotfix.Snapshot {
		patterns = append(patterns, item.Secret...)
	}
	key := []byte("key")
	marks := map[string]string{}
	for line, want := range map[string]string{
		"   username admin password 7 $1$abc$def\n":      "   username admin password 7 <",
		"   username admin password 7 other\n":           "   username admin password 7 <",
		"   snmp-server community public ro\n":           "   snmp-server community <",
		"   radius-server key s3cr3t\n   ntp server 1\n": "",
		"   snmp-server user x v3 auth md5 hash\n":       "",
		"   tacacs host 1 secret hunter2 timeout 3\n":    "   tacacs host 1 secret <",
		"   ntp server 192.0.2.1\n":                      "   ntp server 192.0.2.1\n",
		"   password <secret:0123456789ab>\n":            "   password <secret:0123456789ab>\n",
	} {
		got := conceal(line, patterns, key)
		if want == "" {
			continue // not of a form that is known
		}
		if !strings.HasPrefix(got, want) || want != line && strings.Contains(got, "$1$abc") || conceal(got, patterns, key) != got {
			t.Errorf("%q became %q", line, got)
		}
		marks[got] = line
	}
	if len(marks) != 6 {
		t.Errorf("two secrets have one mark: %v", marks)
	}
	if conceal("password a\n", patterns, key) == conceal("password a\n", patterns, []byte("other")) {
		t.Error("the mark does not depend on the key")
	}
}
