package sim_test

import (
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"capfleet/internal/sim"
)

// probe opens a shell on lon-probe-01 and brings it to enable mode.
func probe(t *testing.T, f *sim.Fleet) *terminal {
	t.Helper()
	x := openShell(t, login(t, f, "lon-probe-01"), 200, 1000)
	x.expect(`lon-probe-01 > \z`)
	x.do("enable", "lon-probe-01 # ")
	return x
}

func TestOSmModes(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-probe-01"), 200, 1000)
	x.expect(`(?m)^Last login: .*\r\nlon-probe-01 > \z`)
	for _, step := range []struct{ line, output, prompt string }{
		{"", "", "lon-probe-01 > "},
		{"show files system", "% Unrecognized command", "lon-probe-01 > "},
		{"conf t", "% Unrecognized command", "lon-probe-01 > "},
		{"show", "% Incomplete command.", "lon-probe-01 > "},
		{"enable", "", "lon-probe-01 # "},
		{"terminal length 0", "% Please enter an integer between 5 and 999.\r\n", "lon-probe-01 # "},
		{"terminal length 999", "", "lon-probe-01 # "},
		{"terminal length", "% Incomplete command.", "lon-probe-01 # "},
		{"terminal length 5 6", "% Unrecognized command", "lon-probe-01 # "},
		{"no cli session paging enable", "", "lon-probe-01 # "},
		{"sh ver", "Product release:   6.4.3", "lon-probe-01 # "},
		{"show f", "% Incomplete command.", "lon-probe-01 # "},
		{"end", "% Unrecognized command \"end\".\r\nType \"?\" for help.\r\n", "lon-probe-01 # "},
		{"show hosts", "Hostname: lon-probe-01\r\n", "lon-probe-01 # "},
		{"maintenance-mode noconfirm", "% Unrecognized command", "lon-probe-01 # "},
		{"disable", "", "lon-probe-01 > "},
		{"enable", "", "lon-probe-01 # "},
		{"conf t", "", "lon-probe-01 (config) # "},
		{"c", "% Ambiguous command", "lon-probe-01 (config) # "},
		{"show packages", "Installed packages:\r\n  (none)\r\n", "lon-probe-01 (config) # "},
		{"exit", "", "lon-probe-01 # "},
		{"configure terminal", "", "lon-probe-01 (config) # "},
		{"maintenance-mode", "This stops all capture.", "Enter maintenance mode? (yes/no) "},
		{"no", "", "lon-probe-01 (config) # "},
		{"maintenance-mode noconfirm", "", "(maintenance) lon-probe-01 (config) # "},
		{"exit", "", "(maintenance) lon-probe-01 # "},
		{"disable", "", "(maintenance) lon-probe-01 > "},
	} {
		got := strings.TrimPrefix(x.do(step.line, step.prompt), "\r\n")
		if !strings.Contains(got, step.output) || step.output == "" && got != "" {
			t.Errorf("%q printed %q, want %q", step.line, got, step.output)
		}
	}
	x.send("exit\r")
	x.ended()
	if err := x.sess.Wait(); err != nil {
		t.Errorf("exit from the session: %v", err)
	}
	if !strings.Contains(journal(t, f), `"event":"maintenance_on"`) {
		t.Error("maintenance_on is not in the journal")
	}
}

// figures reads "label number" lines of a report.
func figures(t *testing.T, text string) []map[string]float64 {
	t.Helper()
	var blocks []map[string]float64
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, " ") {
			if strings.TrimSpace(line) != "" {
				blocks = append(blocks, map[string]float64{})
			}
			continue
		}
		if m := regexp.MustCompile(`^  (\D*\S)\s+(\d+(?:\.\d+)?)(?: \wB|%)?\r?\n$`).FindStringSubmatch(line); m != nil {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Fatal(err)
			}
			blocks[len(blocks)-1][m[1]] = v
		}
	}
	return blocks
}

func TestOSmReportsAgreeWithThemselves(t *testing.T) {
	f := startFleet(t, sim.Options{Devices: 24})
	for _, d := range f.Devices() {
		if d.Role != "probe" || d.Site != "lon" {
			continue
		}
		x := openShell(t, login(t, f, d.Name), 200, 1000)
		x.expect(`> \z`)
		x.do("enable", d.Name+" # ")
		text := x.do("show files system", d.Name+" # ")
		disks := figures(t, text)
		if len(disks) != 3 || !strings.Contains(text, "Statistics for /endace filesystem:") {
			t.Fatalf("%s: file systems are %s", d.Name, text)
		}
		usable := 0
		for _, b := range disks {
			if diff := b["Bytes Total"] - b["Bytes Used"] - b["Bytes Free"]; diff > 0.01 || diff < -0.01 || b["Bytes Free"] < 0 {
				t.Errorf("%s: used and free do not make the total: %v", d.Name, b)
			}
			if _, ok := b["Bytes Usable"]; ok {
				usable++
			}
		}
		if usable != 1 {
			t.Errorf("%s: %d file systems have a usable line, want the packet store's alone", d.Name, usable)
		}
		rings := x.do("show erfstream rotation-file", d.Name+" # ")
		held := 0.0
		for _, b := range figures(t, rings) {
			held += b["Disk Usage"]
			if b["Current Size"] > b["Disk Usage"] || b["Disk Usage"] > b["Actual Size Limit"] || b["Actual Size Limit"] < b["User Size Limit"] || int(b["Actual Size Limit"])%4 != 0 {
				t.Errorf("%s: ring %v", d.Name, b)
			}
		}
		if held == 0 || held > disks[2]["Bytes Used"] {
			t.Errorf("%s: rings hold %v of a store with %v used", d.Name, held, disks[2]["Bytes Used"])
		}
		if main := figures(t, rings)[0]; main["Actual Size Limit"]-main["Current Size"] > 4 {
			t.Errorf("%s: the main ring is not full: %v", d.Name, main)
		}
		if again := x.do("show erfstream rotation-file", d.Name+" # "); again != rings {
			t.Errorf("%s: rotation files change between two looks", d.Name)
		}
	}
}

func TestOSmFiguresComeFromSeedAndName(t *testing.T) {
	look := func(seed uint64) (out []string) {
		f := startFleet(t, sim.Options{Devices: 8, Seed: seed})
		for _, name := range []string{"lon-probe-01", "lon-probe-02"} {
			x := openShell(t, login(t, f, name), 200, 1000)
			x.do("enable", name+" # ")
			out = append(out, x.do("show erfstream rotation-file", name+" # "))
		}
		return out
	}
	a, b, c := look(5), look(5), look(6)
	if a[0] != b[0] || a[1] != b[1] {
		t.Error("the same seed gives other figures")
	}
	if a[0] == a[1] || a[0] == c[0] {
		t.Error("another device or seed gives the same figures")
	}
}

func TestOSmVariants(t *testing.T) {
	f := startFleet(t, quick())
	x := probe(t, f)
	for variant, want := range map[string]string{
		"units=none":  `Bytes Total \d+\.\d\r\n`,
		"units=gb":    `Bytes Total \d+\.\d GB\r\n`,
		"units=mb":    `Bytes Total \d+ MB\r\n`,
		"units=space": `Space Total \d+ MB\r\n[^/]*Space Available \d+ MB\r\n`,
	} {
		order(t, f, "lon-probe-01", variant)
		if got := x.do("show files system", "lon-probe-01 # "); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s prints %s", variant, got)
		}
	}
	order(t, f, "lon-probe-01", "config_prompt=configuration")
	x.do("conf t", "lon-probe-01 (configuration) # ")
	order(t, f, "lon-probe-01", "ansi")
	x.send("\r")
	x.expect(`\x1b\[\?7h\x1b\[1mlon-probe-01 \(configuration\) # \x1b\[0m\x1b\[K\z`)
}

func TestOSmInstall(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:install_time=10ms"))
	c := login(t, f, "lon-probe-01")
	x := openShell(t, c, 200, 1000)
	x.do("enable", "lon-probe-01 # ")
	x.do("conf t", "(config) # ")
	const hotfix = "OSm6.4.x-CumulativeHotfix-v1"
	if got := x.do("package install "+hotfix, "(config) # "); !strings.HasPrefix(got, "% ") {
		t.Errorf("install outside maintenance mode: %q", got)
	}
	x.do("maintenance-mode noconfirm", "(maintenance) lon-probe-01 (config) # ")
	if got := x.do("package install "+hotfix, "(config) # "); !strings.HasPrefix(got, "% ") {
		t.Errorf("install of what was never uploaded: %q", got)
	}
	if got := x.do("package install ../../etc/x", "(config) # "); !strings.HasPrefix(got, "% ") {
		t.Errorf("install from another place: %q", got)
	}

	files, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	w, err := files.Create(path.Join("/endace/packages", hotfix+".end"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "not a real one"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	const prompt = "(maintenance) lon-probe-01 (config) # "
	x.do("package install "+hotfix, prompt)
	if got := x.do("show packages", prompt); got != "Installed packages:\r\n  OSm6.4.x-CumulativeHotfix\r\n" {
		t.Errorf("the poorest device lists %q", got)
	}
	order(t, f, "lon-probe-01", "packages=versioned")
	if got := x.do("show packages", prompt); got != "Installed packages:\r\n  "+hotfix+"\r\n" {
		t.Errorf("the variant lists %q", got)
	}
	for _, want := range []string{`"event":"upload","detail":"path=\"/endace/packages/` + hotfix + `.end\" bytes=14 state=complete user=fleet"`,
		`"event":"install","detail":"package=` + hotfix + ` user=fleet result=ok"`} {
		if got := journal(t, f); !strings.Contains(got, want) {
			t.Errorf("journal lacks %s:\n%s", want, got)
		}
	}
}

func TestOSmReloadLosesWhatWasNotSaved(t *testing.T) {
	f := startFleet(t, quick())
	reload := func(x *terminal) {
		t.Helper()
		boots := strings.Count(journal(t, f), `"event":"boot"`)
		x.send("reload\r")
		x.ended()
		eventually(t, "boot", func() bool { return strings.Count(journal(t, f), `"event":"boot"`) > boots })
		eventually(t, "reachable", func() bool {
			c, err := connect(info(t, f, "lon-probe-01").Addr, clientConfig(t, f, "fleet"))
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	x := probe(t, f)
	x.do("conf t", "lon-probe-01 (config) # ")
	x.do("hostname saved", "saved (config) # ")
	if got := x.do("configuration write", "saved (config) # "); got != "Saving configuration file ... Done!\r\n" {
		t.Errorf("save prints %q", got)
	}
	x.do("hostname unsaved", "unsaved (config) # ")
	x.do("maintenance-mode noconfirm", "(maintenance) unsaved (config) # ")
	reload(x)

	x = openShell(t, login(t, f, "lon-probe-01"), 200, 1000)
	x.expect(`\nsaved > \z`) // and no longer in maintenance mode
	if got := x.do("show version", "saved > "); !strings.Contains(got, "Uptime:            0d 0h 0m ") {
		t.Errorf("uptime after the reload: %q", got)
	}
	for _, event := range []string{"save", "reload", "boot", "maintenance_on", "maintenance_off"} {
		if !strings.Contains(journal(t, f), `"event":"`+event+`"`) {
			t.Errorf("journal lacks %s", event)
		}
	}
}

func TestOSmReloadQuestion(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:reload_prompt=confirm"))
	x := probe(t, f)
	x.do("reload", "Confirm reload? (yes/no) ")
	if got := x.do("no", "lon-probe-01 # "); got != "% Reload canceled.\r\n" {
		t.Errorf("answer no: %q", got)
	}
	x.send("reload\ryes\r")
	x.ended()
}

func TestOSmTakeover(t *testing.T) {
	f := startFleet(t, quick())
	first, second := probe(t, f), probe(t, f)
	first.do("conf t", "(config) # ")

	got := second.do("conf t", "to enter configuration mode anyway: ")
	if !strings.Contains(got, "fleet (127.0.0.1)") {
		t.Errorf("the question does not say who is there: %q", got)
	}
	if got := second.do("NO", "lon-probe-01 # "); !strings.HasPrefix(got, "% ") {
		t.Errorf("answer NO: %q", got)
	}
	second.do("conf t", "to enter configuration mode anyway: ")
	second.do("YES", "lon-probe-01 (config) # ")
	if got := first.do("show clock", "lon-probe-01 # "); !strings.Contains(got, "taken configuration mode") {
		t.Errorf("who was pushed out sees %q", got)
	}
	second.do("exit", "lon-probe-01 # ")
	first.do("conf t", "lon-probe-01 (config) # ")

	order(t, f, "lon-probe-01", "takeover")
	first.do("exit", "lon-probe-01 # ")
	first.do("conf t", "Enter 'YES' to enter configuration mode anyway: ")
	first.do("YES", "lon-probe-01 (config) # ")
}

func TestOSmEnablePassword(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:enable_password"))
	x := openShell(t, login(t, f, "lon-probe-01"), 200, 1000)
	x.expect(`> \z`)
	for range 2 {
		x.do("enable", "Password: ")
		for range 2 {
			if got := x.do("wrong", "Password: "); strings.Contains(got, "wrong") {
				t.Errorf("the password is echoed: %q", got)
			}
		}
		if got := x.do("wrong", "lon-probe-01 > "); !strings.Contains(got, "% Access denied.") {
			t.Errorf("three wrong passwords: %q", got)
		}
	}
	x.do("enable", "Password: ")
	x.do(secretOf(t, f, "endace-enable"), "lon-probe-01 # ")
}

func TestOSmPager(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-probe-01"), 200, 10)
	x.expect(`> \z`)
	x.do("enable", "lon-probe-01 # ")
	whole := func() string {
		x.do("no cli session paging enable", "lon-probe-01 # ")
		defer x.do("cli session paging enable", "lon-probe-01 # ")
		return x.do("show files system", "lon-probe-01 # ")
	}()

	x.send("show files system\r")
	first := x.expect(`lines 1-9 \z`)
	if n := strings.Count(first, "\r\n"); n != 10 {
		t.Errorf("the first screen has %d lines with the echo: %q", n, first)
	}
	paged := strings.TrimPrefix(first, "show files system\r\n")
	x.send("\r") // one line
	paged += x.expect(`lines 10-10 \z`)
	for next := " "; !strings.HasSuffix(paged, "lon-probe-01 # "); {
		x.send(next)
		paged += x.expect(`(lines \d+-\d+|lon-probe-01 #) \z`)
	}
	paged = regexp.MustCompile(`lines \d+-\d+ \r\x1b\[K`).ReplaceAllString(paged, "")
	if want := whole + "lon-probe-01 # "; paged != want {
		t.Errorf("the pages make\n%q\nnot\n%q", paged, want)
	}
	x.send("show files system\r")
	x.expect(`lines 1-9 \z`)
	x.send("q")
	x.expect(`lon-probe-01 # \z`)
}

func TestLineEditing(t *testing.T) {
	f := startFleet(t, quick())
	x := probe(t, f)
	x.send("shoe\x7fw clcok\x08\x08\x08ock\r")
	if got, want := x.expect(`lon-probe-01 # \z`), "shoe\b \bw clcok\b \b\b \b\b \bock\r\nTime: "; !strings.HasPrefix(got, want) {
		t.Errorf("rubbing out shows %q, want %q", got, want)
	}
	x.send("no such thing\x15show hosts\r")
	if got := x.expect(`lon-probe-01 # \z`); !strings.Contains(got, "Hostname: lon-probe-01") {
		t.Errorf("after Ctrl-U: %q", got)
	}
	x.send("show nonsense\x17hosts\r")
	if got := x.expect(`lon-probe-01 # \z`); !strings.Contains(got, "Hostname: lon-probe-01") {
		t.Errorf("after Ctrl-W: %q", got)
	}
	x.send("\x1b[A\r")
	if got := x.expect(`lon-probe-01 # \z`); !strings.Contains(got, "Hostname: lon-probe-01") {
		t.Errorf("after arrow up: %q", got)
	}
	x.send("never typed\x03")
	x.expect(`never typed\^C\r\nlon-probe-01 # \z`)
	x.send("show ?")
	if got := x.expect(`lon-probe-01 # show \z`); !strings.Contains(got, "  erfstream") {
		t.Errorf("help prints %q", got)
	}
	x.send("hosts\r")
	x.expect(`Hostname: lon-probe-01\r\nlon-probe-01 # \z`)
	x.send("\x04")
	x.ended()
}

func TestEchoWrapsAtTheTerminalsEdge(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-probe-01"), 40, 24)
	x.expect(`> \z`)
	long := strings.Repeat("x", 60)
	x.send(long + "\r")
	want := strings.Repeat("x", 40-len("lon-probe-01 > ")) + " \r"
	if got := x.expect(`lon-probe-01 > \z`); !strings.HasPrefix(got, want) {
		t.Errorf("echo of a long line begins %q, want %q", got, want)
	}
}

func TestOSmHasNoExec(t *testing.T) {
	f := startFleet(t, quick())
	out, errs, status := execute(t, login(t, f, "lon-probe-01"), "show version")
	if out != "" || status != 1 || !strings.Contains(errs, "cannot be executed") {
		t.Errorf("exec gives %q, %q, status %d", out, errs, status)
	}
}

// Without a PTY a command line serves as for a script: no prompt, no echo, LF.
func TestOSmScript(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-probe-01"), 0, 0)
	x.send("show hosts\nenable\nshow packages\nexit\n")
	if got := x.ended(); got != "Hostname: lon-probe-01\nInstalled packages:\n  (none)\n" {
		t.Errorf("a script gets %q", got)
	}
}
