package sim_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Changes, too, are driven with clients that we did not write.

func TestNetmikoHotfix(t *testing.T) {
	t.Parallel()
	f := startFleet(t, quick("*:install_time=100ms"))
	file := filepath.Join(t.TempDir(), hotfix+".end")
	if err := os.WriteFile(file, bytes.Repeat([]byte("a hotfix\n"), 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port := hostPort(t, f, "lon-probe-01")
	var got struct {
		Listing                      []string
		Before, Install, Packages    string
		CaptureStopped               string `json:"capture_stopped"`
		Save, Prompt, After, Version string
		Capture                      string
		Cut                          bool
	}
	out := python(t, "netmiko_hotfix.py", host, port, "fleet", secretOf(t, f, "endace"), file)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"listing " + strings.Join(got.Listing, " "):         strings.Join(got.Listing, " ") == hotfix+".end",
		"before " + got.Before:                              strings.Contains(got.Before, "(none)"),
		"install " + got.Install:                            strings.Contains(got.Install, "Package "+hotfix+" installed."),
		"packages " + got.Packages:                          regexp.MustCompile(`(?m)^  OSm6\.4\.x-CumulativeHotfix\s*$`).MatchString(got.Packages),
		"capture in maintenance mode " + got.CaptureStopped: strings.Contains(got.CaptureStopped, "stopped"),
		"save " + got.Save:                                  strings.Contains(got.Save, "Done!"),
		"an end of the connection":                          got.Cut,
		"prompt " + got.Prompt:                              got.Prompt == "lon-probe-01 #",
		"after " + got.After:                                strings.Contains(got.After, "CumulativeHotfix"),
		"version " + got.Version:                            strings.Contains(got.Version, "Uptime:            0d 0h 0m"),
		"capture " + got.Capture:                            strings.Contains(got.Capture, "running"),
	} {
		if !ok {
			t.Errorf("netmiko got %s", what)
		}
	}
}

func TestNetmikoF5Upgrade(t *testing.T) {
	t.Parallel()
	f := startFleet(t, quick("*:install_time=2s"))
	file := filepath.Join(t.TempDir(), baseISO)
	if err := os.WriteFile(file, bytes.Repeat([]byte("an image\n"), 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ device, user string }{{"lon-ltm-01", "root"}, {"lon-ltm-02", "admin"}} {
		t.Run(c.user, func(t *testing.T) {
			t.Parallel()
			host, port := hostPort(t, f, c.device)
			var got struct {
				Image, UCS, Verify, Install, Version, Status string
				Rows                                         []string
				Cut                                          bool
			}
			out := python(t, "netmiko_f5_upgrade.py", host, port, c.user, secretOf(t, f, "f5-"+c.user), file, "17.1.3")
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			rows := strings.Join(got.Rows, "\n")
			for what, ok := range map[string]bool{
				"image " + got.Image:       strings.Contains(got.Image, "sys software image "+baseISO+" {"),
				"ucs " + got.UCS:           strings.Contains(got.UCS, "/var/local/ucs/before.ucs is saved."),
				"verify " + got.Verify:     strings.Contains(got.Verify, "There were warnings:"),
				"install " + got.Install:   strings.TrimSpace(got.Install) == "",
				"rows " + rows:             regexp.MustCompile(`(?s)none none none no complete.*17\.1\.3 0\.0\.11 no installing \d+\.\d+ pct.*17\.1\.3 0\.0\.11 no complete`).MatchString(rows),
				"an end of the connection": got.Cut,
				"version " + got.Version:   regexp.MustCompile(`Version +17\.1\.3`).MatchString(got.Version),
				"status " + got.Status:     regexp.MustCompile(`HD1\.3 .*17\.1\.3 .*yes +complete`).MatchString(got.Status),
			} {
				if !ok {
					t.Errorf("%s: netmiko got %s", c.device, what)
				}
			}
		})
	}
}

// OpenSSH's sftp sees the space that is free and takes a cut upload up again.
func TestOpenSSHResumesAnUpload(t *testing.T) {
	t.Parallel()
	f := startFleet(t, quick("lon-probe-01:cut_upload=200kB"))
	want := bytes.Repeat([]byte("half of it is there\n"), 50000)
	local := filepath.Join(t.TempDir(), hotfix+".end")
	if err := os.WriteFile(local, want, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(f.Dir(), "ssh_config")
	sftp := func(batch string) (string, error) {
		out, errs, err := run(t, batch, "sftp", "-F", config, "-b", "-", "lon-probe-01")
		return out + errs, err
	}
	if out, err := sftp("df /endace/packages\n"); err != nil || !regexp.MustCompile(`Size +Used +Avail[^\n]*\n +\d{10,} +\d+ +\d{9,}`).MatchString(out) {
		t.Errorf("df: %v, %s", err, out)
	}
	if out, err := sftp("put " + local + " /endace/packages/h.end\n"); err == nil {
		t.Errorf("the connection was not cut: %s", out)
	}
	if out, err := sftp("reput " + local + " /endace/packages/h.end\n"); err != nil {
		t.Errorf("reput: %v, %s", err, out)
	}
	back := filepath.Join(t.TempDir(), "back")
	if out, err := sftp("get /endace/packages/h.end " + back + "\n"); err != nil {
		t.Errorf("get: %v, %s", err, out)
	}
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(want), err)
	}
}
