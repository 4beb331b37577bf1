package sim_test

import (
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"capfleet/internal/sim"
)

const (
	hotfix     = "OSm6.4.x-CumulativeHotfix-v1"
	hotfixV2   = "OSm6.4.x-CumulativeHotfix-v2"
	inConfig   = "lon-probe-01 (config) # "
	inMaint    = "(maintenance) lon-probe-01 (config) # "
	packageDir = "/endace/packages"
)

// put uploads a package to lon-probe-01.
func put(t *testing.T, f *sim.Fleet, name, content string) error {
	t.Helper()
	files, err := sftp.NewClient(login(t, f, "lon-probe-01"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = files.Close() }()
	w, err := files.Create(path.Join(packageDir, name))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(w, content)
	return errors.Join(err, w.Close())
}

// maintained is a session of lon-probe-01 in maintenance mode with a package
// uploaded.
func maintained(t *testing.T, f *sim.Fleet) *terminal {
	t.Helper()
	if err := put(t, f, hotfix+".end", "not a real one"); err != nil {
		t.Fatal(err)
	}
	x := probe(t, f)
	x.do("conf t", inConfig)
	x.do("maintenance-mode noconfirm", inMaint)
	return x
}

// events lists what the journal has of a device, logins aside, with one key of
// each event's detail.
func events(t *testing.T, f *sim.Fleet, device, key string) []string {
	t.Helper()
	entries, err := sim.ReadJournal(f.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Device == device && e.Event != "login" {
			out = append(out, strings.TrimSuffix(e.Event+" "+e.Value(key), " "))
		}
	}
	return out
}

func booted(t *testing.T, f *sim.Fleet, times int) {
	t.Helper()
	eventually(t, "boot", func() bool {
		n := 0
		for _, e := range events(t, f, "lon-probe-01", "") {
			if e == "boot" {
				n++
			}
		}
		if n < times {
			return false
		}
		c, err := connect(info(t, f, "lon-probe-01").Addr, clientConfig(t, f, "fleet"))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// again opens a session in enable mode whatever the prompt begins with.
func again(t *testing.T, f *sim.Fleet) *terminal {
	t.Helper()
	x := openShell(t, login(t, f, "lon-probe-01"), 200, 1000)
	x.expect(`lon-probe-01 > \z`)
	x.send("enable\r")
	x.expect(`lon-probe-01 # \z`)
	return x
}

func (x *terminal) show(command string) string {
	x.t.Helper()
	x.send(command + "\r")
	return x.expect(`(?s)\r\n.*lon-probe-01 (?:\(config\) )?# \z`)
}

func TestOSmWholeChange(t *testing.T) {
	f := startFleet(t, quick("*:install_time=10ms"))
	x := maintained(t, f)
	before := x.show("show erfstream statistics")
	if !strings.Contains(before, "stopped") || x.show("show erfstream statistics") != before {
		t.Errorf("capture goes on in maintenance mode: %s", before)
	}
	if got := x.do("package install "+hotfix, inMaint); got != "Installing package "+hotfix+" ...\r\nPackage "+hotfix+" installed.\r\n" {
		t.Errorf("the installation prints %q", got)
	}
	x.do("configuration write", inMaint)
	x.send("reload\r")
	if got := x.ended(); !strings.Contains(got, "System is going down.") {
		t.Errorf("reload says %q", got)
	}
	booted(t, f, 1)
	x = again(t, f)
	if got := x.show("show packages"); !strings.Contains(got, "  OSm6.4.x-CumulativeHotfix\r\n") || strings.Contains(got, "maintenance") {
		t.Errorf("after the reload: %s", got)
	}
	first := x.show("show erfstream statistics")
	if !strings.Contains(first, "running") || !strings.Contains(first, "Newest Packet") {
		t.Errorf("capture after the reload: %s", first)
	}
	eventually(t, "capture counts", func() bool { return x.show("show erfstream statistics") != first })
	want := []string{"upload", "maintenance_on", "capture_stop", "install ok", "save", "reload", "maintenance_off", "boot", "capture_start"}
	if got := events(t, f, "lon-probe-01", "result"); !slices.Equal(got, want) {
		t.Errorf("the journal has %q, want %q", got, want)
	}
}

// An installation is the device's: it outlives the session, is never run beside
// another, and ends with the power.
func TestOSmInstallationBelongsToTheDevice(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:install_time=50ms", "lon-probe-01:cut_install"))
	x := maintained(t, f)
	x.send("package install " + hotfix + "\r")
	x.ended()
	x = again(t, f)
	eventually(t, "installation", func() bool { return strings.Contains(x.show("show packages"), "CumulativeHotfix") })
	eventually(t, "its end", func() bool { return slices.Contains(events(t, f, "lon-probe-01", "result"), "install ok") })

	order(t, f, "lon-probe-01", "install_time=1h")
	order(t, f, "lon-probe-01", "cut_install")
	x.do("conf t", inMaint)
	for got := "in progress"; strings.Contains(got, "in progress"); { // the first one's last moments
		x.send("package install " + hotfix + "\r")
		got = x.expect("Installing|in progress")
	}
	x.ended()
	x = again(t, f)
	x.do("conf t", inMaint)
	if got := x.do("package install "+hotfix, inMaint); got != "% Another installation is in progress.\r\n" {
		t.Errorf("a second installation beside the first: %q", got)
	}
	order(t, f, "lon-probe-01", "reboot")
	x.ended()
	eventually(t, "interruption", func() bool {
		return slices.Contains(events(t, f, "lon-probe-01", "result"), "install interrupted")
	})
	if got := events(t, f, "lon-probe-01", "result"); !slices.Contains(got, "install refused") {
		t.Errorf("the journal has %q", got)
	}
}

func TestOSmInstallGoesWrong(t *testing.T) {
	f := startFleet(t, quick("*:install_time=10ms", "lon-probe-01:install_fails"))
	x := maintained(t, f)
	got := x.do("package install "+hotfix, inMaint)
	if !strings.Contains(got, "\r\n% Installation of package "+hotfix+" failed: ") {
		t.Errorf("a failing installation prints %q", got)
	}
	if got := x.show("show packages"); !strings.Contains(got, "(none)") {
		t.Errorf("and lists %s", got)
	}
	order(t, f, "lon-probe-01", "none=install_fails")
	order(t, f, "lon-probe-01", "listed_old")
	order(t, f, "lon-probe-01", "packages=versioned")
	order(t, f, "lon-probe-01", "installed="+hotfix)
	if err := put(t, f, hotfixV2+".end", "the next"); err != nil {
		t.Fatal(err)
	}
	if got := x.do("package install "+hotfixV2, inMaint); !strings.HasSuffix(got, "-v2 installed.\r\n") {
		t.Errorf("an installation without effect prints %q", got)
	}
	if got := x.show("show packages"); !strings.Contains(got, hotfix+"\r\n") || strings.Contains(got, "v2") {
		t.Errorf("and lists %s", got)
	}
}

func TestOSmComesBackWrong(t *testing.T) {
	for fault, check := range map[string]func(t *testing.T, x *terminal){
		"back_in_maintenance": func(t *testing.T, x *terminal) {
			if got := x.show("show packages"); !strings.Contains(got, "(maintenance) ") {
				t.Errorf("prompt: %s", got)
			}
			if got := x.show("show erfstream statistics"); strings.Contains(got, "running") {
				t.Errorf("capture: %s", got)
			}
		},
		"back_without_capture": func(t *testing.T, x *terminal) {
			if got := x.show("show erfstream statistics"); !strings.Contains(got, "stopped") || !strings.Contains(got, "Newest Packet         -") {
				t.Errorf("capture: %s", got)
			}
		},
		"back_unchanged": func(t *testing.T, x *terminal) {
			if got := x.show("show packages"); !strings.Contains(got, "(none)") {
				t.Errorf("packages: %s", got)
			}
		},
		"back_without_config": func(t *testing.T, x *terminal) {
			if got := x.show("show running-config"); strings.Contains(got, "ntp") {
				t.Errorf("configuration: %s", got)
			}
		},
	} {
		t.Run(fault, func(t *testing.T) {
			f := startFleet(t, quick("*:install_time=1ms", "lon-probe-01:"+fault))
			x := maintained(t, f)
			x.do("package install "+hotfix, inMaint)
			x.do("configuration write", inMaint)
			if got := x.show("show running-config"); !strings.Contains(got, "ntp server") {
				t.Errorf("configuration before: %s", got)
			}
			x.send("reload\r")
			x.ended()
			booted(t, f, 1)
			check(t, again(t, f))
		})
	}
}

func TestNeverReturns(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:never_returns"))
	x := probe(t, f)
	x.send("reload\r")
	x.ended()
	if c, err := connect(info(t, f, "lon-probe-01").Addr, clientConfig(t, f, "fleet")); err == nil {
		_ = c.Close()
		t.Error("it returned")
	}
	order(t, f, "lon-probe-01", "none=never_returns")
	booted(t, f, 1)
}

func TestCutsAtEachStep(t *testing.T) {
	for _, c := range []struct{ fault, line, event string }{
		{"cut_maintenance", "maintenance-mode noconfirm", "maintenance_on"},
		{"cut_maintenance=before", "maintenance-mode noconfirm", ""},
		{"cut_install=before", "package install " + hotfix, ""},
		{"cut_install", "package install " + hotfix, "install"},
		{"cut_install=after", "package install " + hotfix, "install"},
		{"cut_save", "configuration write", "save"},
		{"cut_save=before", "configuration write", ""},
		{"cut_reload=before", "reload", ""},
	} {
		t.Run(c.fault, func(t *testing.T) {
			f := startFleet(t, quick("*:install_time=10ms"))
			x := probe(t, f)
			if strings.HasPrefix(c.fault, "cut_install") {
				x = maintained(t, f)
			} else {
				x.do("conf t", inConfig)
			}
			order(t, f, "lon-probe-01", c.fault)
			known := len(events(t, f, "lon-probe-01", ""))
			x.send(c.line + "\r")
			if got := x.ended(); strings.Contains(got, "Done!") || strings.Contains(got, "installed.") {
				t.Errorf("the answer got through: %q", got)
			}
			if c.event != "" {
				eventually(t, c.event, func() bool { return slices.Contains(events(t, f, "lon-probe-01", "")[known:], c.event) })
			}
			// Once is enough: the next attempt meets nothing.
			again(t, f).show("show clock")
			if got := events(t, f, "lon-probe-01", "")[known:]; c.event == "" && len(got) > 0 {
				t.Errorf("it happened all the same: %q", got)
			}
		})
	}
}

func TestReloadQuestions(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:reload_prompt=unsaved"))
	x := probe(t, f)
	x.do("reload", "save first? [yes] ")
	if got := x.do("perhaps", "lon-probe-01 # "); got != "% Reload canceled.\r\n" {
		t.Errorf("a strange answer: %q", got)
	}
	x.send("reload\ryes\r")
	x.ended()
	booted(t, f, 1)
	if got := events(t, f, "lon-probe-01", ""); !slices.Contains(got, "save") {
		t.Errorf("yes did not save: %q", got)
	}
	order(t, f, "lon-probe-01", "reload_prompt=drop")
	x = again(t, f)
	x.send("reload\r")
	if got := x.ended(); strings.Contains(got, "going down") {
		t.Errorf("it said something: %q", got)
	}
}

func TestUploadFaults(t *testing.T) {
	f := startFleet(t, quick())
	stat := func(name string) int64 {
		t.Helper()
		files, err := sftp.NewClient(login(t, f, "lon-probe-01"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = files.Close() }()
		info, err := files.Stat(path.Join(packageDir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	content := strings.Repeat("0123456789abcdef", 16<<10) // 256 KiB
	order(t, f, "lon-probe-01", "cut_upload=100kB")
	if err := put(t, f, "cut.end", content); err == nil {
		t.Error("an upload survives its connection")
	}
	if n := stat("cut.end"); n < 100e3 || n >= int64(len(content)) {
		t.Errorf("%d bytes are there", n)
	}
	if err := put(t, f, "cut.end", content); err != nil {
		t.Errorf("the second attempt: %v", err)
	}

	order(t, f, "lon-probe-01", "disk_full=100kB")
	files, err := sftp.NewClient(login(t, f, "lon-probe-01"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = files.Close() }()
	if st, err := files.StatVFS(packageDir); err != nil || st.FreeSpace() > 100e3 || st.FreeSpace() < 90e3 {
		t.Errorf("a full disk reports %+v, %v", st, err)
	}
	if err := put(t, f, "full.end", content); err == nil {
		t.Error("a full disk took it")
	}
	order(t, f, "lon-probe-01", "none=disk_full")
	if st, err := files.StatVFS(packageDir); err != nil || st.FreeSpace() < 1e9 {
		t.Errorf("an empty disk reports %+v, %v", st, err)
	}

	order(t, f, "lon-probe-01", "wrong_checksum")
	if err := put(t, f, "wrong.end", content); err != nil {
		t.Fatal(err)
	}
	r, err := files.Open(path.Join(packageDir, "wrong.end"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || len(got) != len(content) || string(got) == content {
		t.Errorf("%d bytes of %d, equal: %v, %v", len(got), len(content), string(got) == content, err)
	}
}
