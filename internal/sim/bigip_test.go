package sim_test

import (
	"regexp"
	"strings"
	"testing"
)

const (
	bashPrompt = "[root@lon-ltm-01:Active:In Sync] config # "
	tmshPrompt = "root@(lon-ltm-01)(cfg-sync In Sync)(Active)(/Common)(tmos)# "
)

func TestBigIPShells(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-ltm-01"), 250, 1000)
	x.expect(regexp.QuoteMeta(bashPrompt) + `\z`)
	for _, step := range []struct{ line, output, prompt string }{
		{"pwd", "/config\r\n", bashPrompt},
		{"modify sys db x", "-bash: modify: command not found\r\n", bashPrompt},
		{"cd", "", "[root@lon-ltm-01:Active:In Sync] ~ # "},
		{"cd /var/log", "", "[root@lon-ltm-01:Active:In Sync] log # "},
		{"tmsh -q show sys failover", "Failover active for ", "[root@lon-ltm-01:Active:In Sync] log # "},
		{"cd /config", "", bashPrompt},
		{"tmsh", "", tmshPrompt},
		{`run /util bash -c "stty cols 255"`, "", tmshPrompt},
		{`run /util bash -c 'echo "a  b"; pwd'`, "a  b\r\n/root\r\n", tmshPrompt},
		{"modify cli preference pager disabled display-threshold 0", "", tmshPrompt},
		{"list cli preference", "cli preference {\r\n    display-threshold 0\r\n    pager disabled\r\n}\r\n", tmshPrompt},
		{"show cm failover-status nonsense", "Syntax Error: \"nonsense\" unexpected argument\r\n", tmshPrompt},
		{"failover-status", "Syntax Error: \"failover-status\" unexpected argument\r\n", tmshPrompt},
		{"list sys db failover", "01020036:3: The requested database variable (failover) was not found.\r\n", tmshPrompt},
		{"modify sys db tcpdump.sslprovider value enable", "", tmshPrompt},
		{"list sys db tcpdump.sslprovider", "sys db tcpdump.sslprovider {\r\n    value \"enable\"\r\n}\r\n", tmshPrompt},
		{"show /sys version", "Sys::Version\r\nMain Package\r\n", tmshPrompt},
		{"sys", "", "root@(lon-ltm-01)(cfg-sync In Sync)(Active)(/Common)(tmos.sys)# "},
		{"show version", "Sys::Version\r\nMain Package\r\n", "root@(lon-ltm-01)(cfg-sync In Sync)(Active)(/Common)(tmos.sys)# "},
		{"exit", "", tmshPrompt},
		{"save sys config", "Saving running configuration...\r\n  /config/bigip.conf\r\n", tmshPrompt},
		{"bash", "", "[root@lon-ltm-01:Active:In Sync] ~ # "},
		{"exit", "logout\r\n", tmshPrompt},
		{"quit", "", bashPrompt},
	} {
		if got := x.do(step.line, step.prompt); !strings.Contains(got, step.output) || step.output == "" && got != "" {
			t.Errorf("%q printed %q, want %q", step.line, got, step.output)
		}
	}
	x.send("exit\r")
	x.ended()
}

func TestBigIPLoginShells(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-ltm-01", "admin"), 250, 1000)
	const prompt = "admin@(lon-ltm-01)(cfg-sync In Sync)(Active)(/Common)(tmos)# "
	x.expect(regexp.QuoteMeta(prompt) + `\z`)
	if got := x.do("tmsh", prompt); !strings.Contains(got, `Syntax Error: "tmsh" unexpected argument`) {
		t.Errorf("tmsh inside tmsh: %q", got)
	}
	x.do("run util bash", "[admin@lon-ltm-01:Active:In Sync] ~ # ")
	x.do("exit", prompt)
	x.send("quit\r")
	x.ended()

	for _, c := range []struct {
		user, line, out, errs string
		status                int
	}{
		{"root", "tmsh show sys failover", `^Failover active for \d+d \d\d:\d\d:\d\d\n$`, `^$`, 0},
		{"root", "show sys failover", `^$`, `command not found\n$`, 127},
		{"root", `tmsh -c "show sys version"`, `(?s)^\nSys::Version\nMain Package\n  Product +BIG-IP\n  Version +\d.*\n\n$`, `^$`, 0},
		{"root", "df -P | wc -l; false", `^11\n$`, `^$`, 1},
		{"admin", "show sys failover", `^Failover active for `, `^$`, 0},
		{"admin", "tcpdump -i 0.0", `^$`, `^Syntax Error: "tcpdump" unexpected argument\n$`, 1},
		{"admin", `run /util bash -c "df -P"`, `^Filesystem +1024-blocks`, `^$`, 0},
		{"admin", `show "unmatched`, `^$`, `^Syntax Error: unmatched "\n$`, 1},
	} {
		out, errs, status := execute(t, login(t, f, "lon-ltm-01", c.user), c.line)
		if !regexp.MustCompile(c.out).MatchString(out) || !regexp.MustCompile(c.errs).MatchString(errs) || status != c.status {
			t.Errorf("%s: %s gives %q, %q, status %d", c.user, c.line, out, errs, status)
		}
	}
}

// The rows are what the vendor's own tools print, where docs/formats.md says so.
func TestBigIPReports(t *testing.T) {
	f := startFleet(t, quick())
	active, standby := login(t, f, "lon-ltm-01"), login(t, f, "lon-ltm-02")
	for line, want := range map[string]string{
		"tmsh show sys software status": `(?s)^\n(-+)\nSys::Software Status\nVolume  .*Product +Version +Build +Active +Status.*\n-+\nHD1\.1  .*yes  complete.*\nHD1\.3 .*none.*\n\n$`,
		"tmsh show sys software":        `Sys::Software Status`,
		"tmsh show cm failover-status":  `(?s)CM::Failover Status\n-+\nColor +green\nStatus +ACTIVE\nSummary +1/1 active\nDetails +active for /Common/traffic-group-1\n.*lon-ltm-02 .*Ok\n`,
		"tmsh show cm sync-status":      `Color    green\nStatus   In Sync\nMode     high-availability\nSummary  All devices in the device group are in sync\n`,
		"tmsh show sys clock":           `Sys::Clock\n-+\n\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d UTC \d{4}\n`,
		"df":                            `(?m)^Filesystem           1K-blocks .*Use% Mounted on\n/dev/mapper/vg--db--sda-set\.1\.root\n {20} +\d+ +\d+ +\d+ +\d+% /$`,
		"df -P":                         `(?m)^/dev/mapper/vg--db--sda-set\.1\._usr +\d+ +\d+ +\d+ +(7[5-9]|8[0-9])% /usr$`,
		"df -P /shared/images":          `(?m)\A.*\n/dev/mapper/vg--db--sda-dat.share .* /shared\n\z`,
	} {
		if out, errs, status := execute(t, active, line); status != 0 || errs != "" || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s gives %q, %q, status %d", line, out, errs, status)
		}
	}
	for line, want := range map[string]string{
		"tmsh show cm failover-status": `Status +STANDBY\nSummary +1/1 standby\n`,
		"tmsh show sys failover":       `^Failover standby for `,
	} {
		if out, _, _ := execute(t, standby, line); !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("standby: %s gives %q", line, out)
		}
	}
	// Software columns are as wide as their widest value, whatever the release.
	out, _, _ := execute(t, active, "tmsh show sys software")
	lines := strings.Split(strings.Trim(out, "\n"), "\n")
	for _, l := range lines[4:] {
		if l == lines[0] || len(l) == len(lines[0]) {
			continue
		}
		t.Errorf("row %q is not as wide as its rule %q", l, lines[0])
	}
}

func TestBigIPPager(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-ltm-01", "admin"), 200, 20)
	const prompt = "admin@(lon-ltm-01)(cfg-sync In Sync)(Active)(/Common)(tmos)# "
	x.expect(regexp.QuoteMeta(prompt) + `\z`)
	x.send("list sys db\r")
	x.expect(`Display all \d{3} items\? \(y/n\) \z`)
	x.send("n\r")
	x.expect(regexp.QuoteMeta(prompt) + `\z`)
	x.send("list sys db\ry\r")
	x.expect(`---\(less \d+%\)---\z`)
	x.send("q")
	x.expect(regexp.QuoteMeta(prompt) + `\z`)
	x.do("modify cli preference pager disabled display-threshold 0", prompt)
	if got := x.do("list sys db", prompt); strings.Count(got, "sys db ") < 100 {
		t.Errorf("without pager and threshold: %q", got)
	}
}

func TestBigIPFailover(t *testing.T) {
	f := startFleet(t, quick())
	one := openShell(t, login(t, f, "lon-ltm-01", "admin"), 200, 1000)
	two := openShell(t, login(t, f, "lon-ltm-02"), 200, 1000)
	one.expect(`\(Active\)\(/Common\)\(tmos\)# \z`)
	two.expect(`:Standby:In Sync\] config # \z`)

	one.send("run /sys failover standby\r")
	one.expect(`\(Standby\)\(/Common\)\(tmos\)# \z`)
	two.send("\r")
	two.expect(`:Active:In Sync\] config # \z`) // changed under a connected client
	one.send("run /sys failover standby\r")
	one.expect(`already standby\.\r\n.*\(Standby\)\(/Common\)\(tmos\)# \z`)

	order(t, f, "lon-ltm-02", "sync=Changes Pending")
	two.send("\r")
	two.expect(`:Active:Changes Pending\] config # \z`)
	order(t, f, "lon-ltm-02", "none")

	order(t, f, "lon-ltm-02", "down")
	two.ended()
	one.send("\r")
	one.expect(`\(cfg-sync Disconnected\)\(Active\)\(/Common\)\(tmos\)# \z`)

	order(t, f, "lon-ltm-01", "failover_flap")
	order(t, f, "lon-ltm-02", "none")
	eventually(t, "peer is back", func() bool {
		one.send("\r")
		return strings.Contains(one.expect(`\(cfg-sync [^)]*\)\(\w+\)\(/Common\)\(tmos\)# `), "In Sync")
	})
	seen := map[bool]bool{}
	for range 2 {
		one.send("\r")
		seen[strings.Contains(one.expect(`\(\w+\)\(/Common\)\(tmos\)# \z`), "(Active)")] = true
	}
	if len(seen) != 2 {
		t.Error("the prompt does not flap")
	}
	if n := strings.Count(journal(t, f), `"event":"failover"`); n < 6 {
		t.Errorf("the journal has %d failovers", n)
	}
}

func TestBigIPReboot(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-ltm-01", "admin"), 200, 1000)
	x.expect(`\(tmos\)# \z`)
	const prompt = "admin@(lon-ltm-01)(cfg-sync In Sync)(Active)(/Common)(tmos)# "
	x.do("modify sys db log.tmm.level value Debug", prompt)
	x.do("save sys config", prompt)
	x.do("modify sys db log.ltm.level value Debug", prompt)
	if got := x.do("reboot volume HD1.3", prompt); !strings.Contains(got, "01071002:3:") {
		t.Errorf("reboot to an empty volume: %q", got)
	}
	x.send("reboot volume HD1.2\r")
	x.ended()
	eventually(t, "boot", func() bool { return strings.Contains(journal(t, f), `"event":"boot"`) })
	eventually(t, "reachable", func() bool {
		c, err := connect(info(t, f, "lon-ltm-01").Addr, clientConfig(t, f, "root"))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	out, _, _ := execute(t, login(t, f, "lon-ltm-01"), "tmsh show sys software; tmsh show sys version; tmsh show sys failover; df -P; tmsh list sys db log.tmm.level; tmsh list sys db log.ltm.level")
	for _, want := range []string{`HD1\.2 .* yes  complete`, `Version +11\.6\.1\n`, `Failover standby for 0d 00:00:0`, `set\.2\.root`,
		`log.tmm.level \{\n    value "Debug"`, `log.ltm.level \{\n    value "Notice"`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("after the reboot no %s in %s", want, out)
		}
	}
}
