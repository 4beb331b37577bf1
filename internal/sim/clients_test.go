package sim_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"capfleet/internal/sim"
)

// These tests drive the fleet with clients that we did not write. They fail where
// a client is missing: the Makefile installs them.

// run runs a program to its end.
func run(t *testing.T, stdin string, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func python(t *testing.T, script string, args ...string) string {
	t.Helper()
	// The distribution's interpreter, which has the distribution's netmiko.
	out, errs, err := run(t, "", "/usr/bin/python3", append([]string{"-W", "ignore", filepath.Join("testdata", script)}, args...)...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, errs)
	}
	return out
}

func hostPort(t *testing.T, f *sim.Fleet, device string) (string, string) {
	t.Helper()
	host, port, err := net.SplitHostPort(info(t, f, device).Addr)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

func TestNetmikoEndace(t *testing.T) {
	t.Parallel()
	f := startFleet(t, simOptions24())
	for name, c := range map[string]struct{ device, fault, secret string }{
		"plain":           {"lon-probe-01", "", ""},
		"takeover":        {"lon-probe-02", "takeover", ""},
		"enable password": {"lon-probe-03", "enable_password", secretOf(t, f, "endace-enable")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.fault != "" {
				order(t, f, c.device, c.fault)
			}
			host, port := hostPort(t, f, c.device)
			var got struct {
				Prompt            string `json:"prompt"`
				EnablePrompt      string `json:"enable_prompt"`
				Files             string `json:"files"`
				Rotation          string `json:"rotation"`
				Packages          string `json:"packages"`
				ConfigMode        bool   `json:"config_mode"`
				ConfigPrompt      string `json:"config_prompt"`
				Save              string `json:"save"`
				LeftConfig        bool   `json:"left_config"`
				MaintenancePrompt string `json:"maintenance_prompt"`
			}
			out := python(t, "netmiko_endace.py", host, port, "fleet", secretOf(t, f, "endace"), c.secret)
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			for what, ok := range map[string]bool{
				"prompt " + got.Prompt:                 got.Prompt == c.device+" >",
				"enable prompt " + got.EnablePrompt:    got.EnablePrompt == c.device+" #",
				"files " + got.Files:                   strings.Count(got.Files, "Statistics for ") == 3 && strings.HasSuffix(got.Files, "Device Name /dev/md2"),
				"rotation " + got.Rotation:             strings.HasPrefix(got.Rotation, "Rotation file: Main\n"),
				"packages " + got.Packages:             got.Packages == "Installed packages:\n  (none)",
				"config mode":                          got.ConfigMode && got.LeftConfig,
				"config prompt " + got.ConfigPrompt:    got.ConfigPrompt == c.device+" (config) #",
				"save " + got.Save:                     strings.Contains(got.Save, "Done!"),
				"maintenance " + got.MaintenancePrompt: got.MaintenancePrompt == "(maintenance) "+c.device+" (config) #",
			} {
				if !ok {
					t.Errorf("netmiko got %s", what)
				}
			}
		})
	}
}

func TestNetmikoF5(t *testing.T) {
	t.Parallel()
	f := startFleet(t, quick())
	host, port := hostPort(t, f, "lon-ltm-01")
	for _, user := range []string{"root", "admin"} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			var got map[string]string
			out := python(t, "netmiko_f5.py", host, port, user, secretOf(t, f, "f5-"+user))
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			for key, want := range map[string]string{
				"prompt":   `^` + user + `@\(lon-ltm-01\)\(cfg-sync In Sync\)\(Active\)\(/Common\)\(tmos\)#$`,
				"version":  `(?s)Sys::Version\nMain Package\n  Product .*Version +\d`,
				"software": `(?s)Sys::Software Status\nVolume .*HD1\.3`,
				"db":       `(?s)sys db liveinstall.*sys db tcpdump\.sslprovider \{\n    value "disable"\n\}`,
				"df":       `(?s)^Filesystem +1024-blocks.*/var/prompt$`,
			} {
				if !regexp.MustCompile(want).MatchString(got[key]) {
					t.Errorf("%s is %q", key, got[key])
				}
			}
		})
	}
}

func TestParamikoSFTP(t *testing.T) {
	t.Parallel()
	f := startFleet(t, quick())
	host, port := hostPort(t, f, "lon-probe-01")
	if out := python(t, "paramiko_sftp.py", host, port, "fleet", secretOf(t, f, "endace"), "/endace/packages", "password"); out != "ok\n" {
		t.Errorf("paramiko: %s", out)
	}
	host, port = hostPort(t, f, "lon-ltm-02")
	if out := python(t, "paramiko_sftp.py", host, port, "admin", secretOf(t, f, "f5-admin"), "/shared/images", "interactive"); out != "ok\n" {
		t.Errorf("paramiko: %s", out)
	}
}

func TestOpenSSH(t *testing.T) {
	t.Parallel()
	f := startFleet(t, simOptions24())
	ssh := func(args ...string) []string {
		return append([]string{"-F", filepath.Join(f.Dir(), "ssh_config"), "-o", "BatchMode=yes"}, args...)
	}
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        string
		status      int
	}{
		{"exec", "", []string{"lon-cap-01", "uname -r; exit 5"}, `^6\.1\.0-18-amd64\n$`, 5},
		{"exec with a PTY", "", []string{"-tt", "lon-cap-01", "stty size; echo done"}, `^\d+ \d+\r\ndone\r\n$`, 0},
		{"stdin", "from here\n", []string{"lon-cap-01", "cat"}, `^from here\n$`, 0},
		{"root's bash", "", []string{"lon-ltm-01", "df -P"}, `^Filesystem`, 0},
		{"admin's tmsh", "", []string{"nyc-ltm-01", "show sys failover"}, `^Failover active`, 0},
		{"interactive probe", "enable\rshow version\rexit\r", []string{"-tt", "lon-probe-01"}, `(?s)lon-probe-01 > enable\r\n.*lon-probe-01 # show version\r\n.*Product release: +6\.4\.3\r\n.*lon-probe-01 # exit\r\n$`, 0},
		{"interactive tmsh", "show sys failover\rquit\r", []string{"-tt", "nyc-ltm-01"}, `(?s)\(tmos\)# show sys failover\r\nFailover active .*\(tmos\)# quit\r\n$`, 0},
		{"script without a PTY", "uname -r\nexit 3\n", []string{"-T", "lon-cap-01"}, `^6\.1\.0-18-amd64\n$`, 3},
		{"through a bastion", "", []string{"sgp-cap-01", "hostname"}, `^sgp-cap-01\n$`, 0},
		{"a probe behind a bastion", "exit\r", []string{"-tt", "sgp-probe-02"}, `sgp-probe-02 > exit\r\n$`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, errs, err := run(t, c.stdin, "ssh", ssh(c.args...)...)
			status := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				status = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if status != c.status || !regexp.MustCompile(c.want).MatchString(out) {
				t.Errorf("status %d, %q, %q", status, out, errs)
			}
		})
	}
}

// Password logins go through sshpass, which needs the prompt to be OpenSSH's.
func TestOpenSSHPassword(t *testing.T) {
	t.Parallel()
	f := startFleet(t, simOptions24())
	for _, device := range []string{"lon-probe-01", "nyc-probe-01"} {
		out, errs, err := run(t, "exit\r", "sshpass", "-f", filepath.Join(f.Dir(), "secrets", "endace"), "ssh", "-F",
			filepath.Join(f.Dir(), "ssh_config"), "-o", "PubkeyAuthentication=no", "-tt", device)
		if err != nil || !strings.Contains(out, device+" > exit") {
			t.Errorf("%s: %v, %q, %q", device, err, out, errs)
		}
	}
}

func TestOpenSSHCopies(t *testing.T) {
	t.Parallel()
	f := startFleet(t, simOptions24())
	dir := t.TempDir()
	want := bytes.Repeat([]byte("four kilobytes of something \x00\r\n"), 64<<10)
	local := filepath.Join(dir, "OSm6.4.x-CumulativeHotfix-v1.end")
	if err := os.WriteFile(local, want, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(f.Dir(), "ssh_config")
	for _, device := range []string{"lon-probe-01", "sgp-probe-01"} {
		batch := fmt.Sprintf("cd /endace/packages\nput %s hotfix.part\nrename hotfix.part hotfix.end\nmkdir sub\nls -l\nget hotfix.end %s\nrmdir sub\n", local, filepath.Join(dir, device))
		out, errs, err := run(t, batch, "sftp", "-F", config, "-b", "-", device)
		if err != nil || !regexp.MustCompile(`(?m)^-rw-r--r-- +1 fleet +fleet +`+strconv.Itoa(len(want))+` .* hotfix\.end$`).MatchString(out) {
			t.Errorf("%s: %v, %q, %q", device, err, out, errs)
		}
		if got, err := os.ReadFile(filepath.Join(dir, device)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came back, %v", device, len(got), err)
		}
		if _, errs, err := run(t, "", "scp", "-F", config, local, device+":/endace/packages/by-scp.end"); err != nil {
			t.Errorf("scp to %s: %v, %s", device, err, errs)
		}
		back := filepath.Join(dir, device+"-scp")
		if _, errs, err := run(t, "", "scp", "-F", config, device+":/endace/packages/by-scp.end", back); err != nil {
			t.Errorf("scp from %s: %v, %s", device, err, errs)
		}
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: scp brought %d bytes back, %v", device, len(got), err)
		}
	}
	if _, errs, err := run(t, "get ../../../../../../../../etc/passwd "+filepath.Join(dir, "passwd")+"\n", "sftp", "-F", config, "-b", "-", "lon-probe-01"); err == nil {
		t.Errorf("sftp got out of its root: %s", errs)
	}
}
