package sim_test

import (
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"capfleet/internal/sim"
)

const (
	baseISO   = "BIGIP-17.1.3-0.0.11.iso"
	hotfixISO = "Hotfix-BIGIP-17.1.3.0.12.28-ENG.iso"
)

// image puts a file into a BIG-IP's image directory.
func image(t *testing.T, f *sim.Fleet, device string, names ...string) {
	t.Helper()
	files, err := sftp.NewClient(login(t, f, device))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = files.Close() }()
	for _, name := range names {
		w, err := files.Create("/shared/images/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "image "+name); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// tmsh runs one tmsh command on a device as root.
func tmsh(t *testing.T, f *sim.Fleet, device, line string) (out, errs string, status int) {
	t.Helper()
	return execute(t, login(t, f, device), "tmsh "+line)
}

// statuses polls the row of a volume until it has the version, build and
// "complete", and gives every row that was seen, spaces squeezed.
func statuses(t *testing.T, f *sim.Fleet, device, volume, until string) []string {
	t.Helper()
	var seen []string
	eventually(t, until, func() bool {
		out, _, _ := tmsh(t, f, device, "show sys software status")
		for line := range strings.Lines(out) {
			row := strings.Join(strings.Fields(line), " ")
			if strings.HasPrefix(row, volume+" ") && (len(seen) == 0 || seen[len(seen)-1] != row) {
				seen = append(seen, row)
			}
		}
		return len(seen) > 0 && strings.Contains(seen[len(seen)-1], until)
	})
	return seen
}

func TestBigIPHotfix(t *testing.T) {
	t.Parallel()
	f := startFleet(t, quick("*:install_time=3s", "*:image_time=50ms"))
	image(t, f, "lon-ltm-02", hotfixISO)
	eventually(t, "image is listed", func() bool {
		out, _, _ := tmsh(t, f, "lon-ltm-02", "list sys software hotfix")
		return strings.Contains(out, "sys software hotfix "+hotfixISO+" {\n    build 0.12.28\n") && strings.Contains(out, "    version 17.1.3\n")
	})
	if out, errs, status := tmsh(t, f, "lon-ltm-02", "install sys software hotfix "+hotfixISO+" volume HD1.3"); out+errs != "" || status != 0 {
		t.Fatalf("install gives %q, %q, %d", out, errs, status)
	}
	statuses(t, f, "lon-ltm-02", "HD1.3", "waiting for image BIGIP-17.1.3")
	if _, errs, status := tmsh(t, f, "lon-ltm-02", "install sys software hotfix "+hotfixISO+" volume HD1.2"); status == 0 || !strings.Contains(errs, "in progress") {
		t.Errorf("a second installation: %q, %d", errs, status)
	}
	image(t, f, "lon-ltm-02", baseISO)
	rows := statuses(t, f, "lon-ltm-02", "HD1.3", "BIG-IP 17.1.3 0.12.28 no complete")
	// The base image's progress and completion come before the hotfix's own.
	all := strings.Join(rows, "\n")
	if !regexp.MustCompile(`(?s)17\.1\.3 0\.0\.11 no installing \d+\.\d{3} pct.*17\.1\.3 0\.12\.28 no installing \d+\.\d{3} pct`).MatchString(all) {
		t.Errorf("the progress does not run twice:\n%s", all)
	}

	before, _, _ := tmsh(t, f, "lon-ltm-02", "show sys version")
	_, _, _ = tmsh(t, f, "lon-ltm-02", "modify sys db log.ltm.level value Debug") // after the installation: not carried along
	x := openShell(t, login(t, f, "lon-ltm-02"), 200, 1000)
	x.send("tmsh reboot volume HD1.3\r")
	x.ended()
	returned(t, f, "lon-ltm-02", 1)
	after, _, _ := tmsh(t, f, "lon-ltm-02", "show sys version")
	if strings.Contains(before, "17.1.3\n") || !regexp.MustCompile(`Version +17\.1\.3\n +Build +0\.12\.28\n +Edition +Engineering Hotfix\n`).MatchString(after) {
		t.Errorf("version was %s is %s", before, after)
	}
	// Different releases do not sync, and both members say so.
	for _, device := range []string{"lon-ltm-01", "lon-ltm-02"} {
		if out, _, _ := tmsh(t, f, device, "show cm sync-status"); !strings.Contains(out, "Changes Pending") {
			t.Errorf("%s: %s", device, out)
		}
	}
	if out, _, _ := tmsh(t, f, "lon-ltm-02", "list sys db log.ltm.level"); strings.Contains(out, "Debug") {
		t.Errorf("configuration of after the installation was carried along: %s", out)
	}
	want := []string{"install refused", "install ok", "reload", "boot"}
	got := slices.DeleteFunc(events(t, f, "lon-ltm-02", "result"), func(e string) bool { return e == "upload" })
	if !slices.Equal(got, want) {
		t.Errorf("the journal has %q, want %q", got, want)
	}
	// Rollback: the old volume has kept its configuration.
	x = openShell(t, login(t, f, "lon-ltm-02"), 200, 1000)
	x.send("tmsh reboot volume HD1.1\r")
	x.ended()
	returned(t, f, "lon-ltm-02", 2)
	if out, _, _ := tmsh(t, f, "lon-ltm-02", "show sys version"); out != before {
		t.Errorf("after the rollback %s, before %s", out, before)
	}
}

// returned waits until a device has booted that often and can be reached.
func returned(t *testing.T, f *sim.Fleet, device string, times int) {
	t.Helper()
	eventually(t, device+" returns", func() bool {
		n := 0
		for _, e := range events(t, f, device, "") {
			if e == "boot" {
				n++
			}
		}
		if n < times {
			return false
		}
		c, err := connect(info(t, f, device).Addr, clientConfig(t, f, "root"))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func TestBigIPRefusesInstallations(t *testing.T) {
	f := startFleet(t, quick("*:install_time=10ms", "*:image_time=0s"))
	image(t, f, "lon-ltm-01", baseISO)
	for line, want := range map[string]string{
		"install sys software image " + baseISO + " volume HD1.1":                 "Cannot install to the running volume",
		"install sys software image " + baseISO + " volume HD1.4":                 "HD1.4) was not found",
		"install sys software image " + baseISO + " create-volume volume HD1.2":   "already exists",
		"install sys software image " + hotfixISO + " volume HD1.2":               "was not found",
		"install sys software hotfix " + baseISO + " volume HD1.2":                "was not found",
		"install sys software image " + baseISO:                                   "Invalid volume name",
		"install sys software image " + baseISO + " volume HD1.2 with-everything": "unexpected argument",
		"delete sys software volume HD1.1":                                        "Cannot delete the running volume",
		"delete sys software volume HD1.9":                                        "was not found",
	} {
		if _, errs, status := tmsh(t, f, "lon-ltm-01", line); status == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: %q, status %d", line, errs, status)
		}
	}
	if got := events(t, f, "lon-ltm-01", ""); slices.Contains(got, "install") {
		t.Errorf("the journal has %q", got)
	}
	order(t, f, "lon-ltm-01", "install_fails")
	if _, errs, status := tmsh(t, f, "lon-ltm-01", "install sys software image "+baseISO+" create-volume volume HD1.4"); status != 0 {
		t.Fatalf("%s", errs)
	}
	statuses(t, f, "lon-ltm-01", "HD1.4", "failed (Disk full (volume group))")
	if _, errs, status := tmsh(t, f, "lon-ltm-01", "reboot volume HD1.4"); status == 0 || !strings.Contains(errs, "cannot be booted") {
		t.Errorf("boot of a failed volume: %q, %d", errs, status)
	}
	if _, errs, status := tmsh(t, f, "lon-ltm-01", "delete sys software volume HD1.4"); status != 0 {
		t.Errorf("delete: %s", errs)
	}
}

func TestBigIPGates(t *testing.T) {
	f := startFleet(t, quick("*:ucs_time=0s"))
	for line, want := range map[string]string{
		"grep 'Service check date' /config/bigip.license": `^Service check date : +20990101\n$`,
		"tmsh show sys license":                           `Service Check Date  2099/01/01\n`,
		"tmsh load sys config verify":                     `(?s)^Validating system.*There were warnings:`,
		"tmsh list cm traffic-group":                      `auto-failback-enabled false`,
		"tmsh list ltm virtual destination":               `(?s)^ltm virtual web01_vs1 \{\n    destination 198\.51\.100\.\d+:https\n\}\n.*dns01_vs1`,
		"tmsh save sys ucs before":                        `^Saving active configuration\.\.\.\n/var/local/ucs/before\.ucs is saved\.\n$`,
		"ls /var/local/ucs":                               `^before\.ucs\n$`,
	} {
		if strings.HasPrefix(line, "ls") {
			continue
		}
		if out, errs, status := execute(t, login(t, f, "lon-ltm-01"), line); status != 0 || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s gives %q, %q, status %d", line, out, errs, status)
		}
	}
	if out, _, _ := execute(t, login(t, f, "lon-ltm-01"), "ls /var/local/ucs"); out != "before.ucs\n" {
		t.Errorf("archives: %q", out)
	}
	for fault, c := range map[string]struct{ line, want string }{
		"licence_old":    {"grep Service /config/bigip.license", "20130101"},
		"config_invalid": {"tmsh load sys config verify", "Validating configuration process failed"},
		"ucs_fails":      {"tmsh save sys ucs again", "failed"},
		"both_active":    {"tmsh show cm failover-status", "ACTIVE"},
		"auto_failback":  {"tmsh list cm traffic-group", "auto-failback-enabled true"},
	} {
		order(t, f, "lon-ltm-02", fault)
		if out, errs, _ := execute(t, login(t, f, "lon-ltm-02"), c.line); !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: %s gives %q, %q", fault, c.line, out, errs)
		}
		order(t, f, "lon-ltm-02", "none="+fault)
	}
	order(t, f, "lon-ltm-01", "sync=Changes Pending")
	if out, _, _ := tmsh(t, f, "lon-ltm-02", "show cm sync-status"); !strings.Contains(out, "Changes Pending") {
		t.Errorf("the peer says %s", out)
	}
}

func TestBigIPDigests(t *testing.T) {
	f := startFleet(t, quick())
	image(t, f, "lon-ltm-01", baseISO)
	c := login(t, f, "lon-ltm-01")
	script := "cd /shared/images && md5sum " + baseISO + " > " + baseISO + ".md5 && md5sum -c " + baseISO + ".md5"
	if out, errs, status := execute(t, c, script); out != baseISO+": OK\n" || status != 0 {
		t.Errorf("%q, %q, %d", out, errs, status)
	}
	if out, _, status := execute(t, c, "cd /shared/images && echo x >> "+baseISO+" && md5sum -c "+baseISO+".md5"); out != baseISO+": FAILED\n" || status != 1 {
		t.Errorf("a damaged image: %q, %d", out, status)
	}
}

func TestBigIPComesBackWrong(t *testing.T) {
	for fault, want := range map[string]string{
		"licence_old":         `(?s)OFFLINE.*Version +11\.6\.1`,
		"back_without_config": `(?s)OFFLINE`,
		"boots_old_volume":    `(?s)STANDBY`,
	} {
		t.Run(fault, func(t *testing.T) {
			f := startFleet(t, quick("lon-ltm-02:"+fault))
			x := openShell(t, login(t, f, "lon-ltm-02"), 200, 1000)
			x.send("tmsh reboot volume HD1.2\r")
			x.ended()
			returned(t, f, "lon-ltm-02", 1)
			out, _, _ := execute(t, login(t, f, "lon-ltm-02"), "tmsh show cm failover-status; tmsh show sys version")
			if !regexp.MustCompile(want).MatchString(out) || fault == "boots_old_volume" && strings.Contains(out, "11.6.1") {
				t.Errorf("it says %s", out)
			}
			// The peer goes on alone.
			if out, _, _ := tmsh(t, f, "lon-ltm-01", "show cm failover-status"); !strings.Contains(out, "ACTIVE") {
				t.Errorf("the peer says %s", out)
			}
		})
	}
}

func TestBigIPSettlesAndReboots(t *testing.T) {
	t.Parallel()
	f := startFleet(t, quick("*:settle_time=300ms", "lon-ltm-02:firmware_reboot=3s"))
	x := openShell(t, login(t, f, "lon-ltm-02"), 200, 1000)
	x.send("tmsh reboot volume HD1.2\r")
	x.ended()
	returned(t, f, "lon-ltm-02", 1)
	x = openShell(t, login(t, f, "lon-ltm-02"), 200, 1000)
	x.expect(`:(INOPERATIVE|Standby):[^\]]*\] config # \z`)
	eventually(t, "standby", func() bool {
		x.send("\r")
		return strings.Contains(x.expect(`# \z`), ":Standby:")
	})
	x.ended() // the firmware's own reboot
	returned(t, f, "lon-ltm-02", 2)
}

func TestBigIPFailoverFaults(t *testing.T) {
	f := startFleet(t, quick("lon-ltm-01:failover_stuck"))
	for range 2 {
		if out, errs, status := tmsh(t, f, "lon-ltm-01", "run sys failover standby"); out+errs != "" || status != 0 {
			t.Errorf("%q, %q, %d", out, errs, status)
		}
		if out, _, _ := tmsh(t, f, "lon-ltm-01", "show sys failover"); !strings.HasPrefix(out, "Failover active") {
			t.Errorf("state %q", out)
		}
	}
	order(t, f, "lon-ltm-01", "none")
	order(t, f, "lon-ltm-01", "cut_failover")
	x := openShell(t, login(t, f, "lon-ltm-01"), 200, 1000)
	x.send("tmsh run sys failover standby\r")
	x.ended()
	eventually(t, "failover", func() bool {
		out, _, _ := tmsh(t, f, "lon-ltm-02", "show sys failover")
		return strings.HasPrefix(out, "Failover active")
	})
}
