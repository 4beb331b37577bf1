package sim_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestLinuxExec(t *testing.T) {
	f := startFleet(t, quick())
	c := login(t, f, "lon-cap-01")
	for _, step := range []struct {
		line, out, errs string
		status          int
	}{
		{"hostname", `^lon-cap-01\n$`, `^$`, 0},
		{"uname -r", `^6\.1\.0-18-amd64\n$`, `^$`, 0},
		{"uname -a", `^Linux lon-cap-01 6\.1\.0-18-amd64 .* x86_64 GNU/Linux\n$`, `^$`, 0},
		{"'df' '-P'", `(?m)^Filesystem +1024-blocks +Used Available Capacity Mounted on\n(.*\n)+/dev/md0 +\d+ +\d+ +\d+ +9\d% /capture\n\z`, `^$`, 0},
		{"df -z", `^$`, `^df: invalid option -- 'z'\n`, 1},
		{"df -P /nowhere", `^$`, `^df: /nowhere: No such file or directory\n$`, 1},
		{"cat /etc/os-release", `(?m)^VERSION_ID="12"$`, `^$`, 0},
		{"cat /etc/shadow", `^$`, `^cat: /etc/shadow: No such file or directory\n$`, 1},
		{"date -u +%Y-%m-%dT%H:%M:%SZ", `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n$`, `^$`, 0},
		{"date +%s", `^\d{10}\n$`, `^$`, 0},
		{"uptime", ` up \d+ days, `, `^$`, 0},
		{"cat /proc/sys/kernel/random/boot_id", `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\n$`, `^$`, 0},
		{"true", `^$`, `^$`, 0},
		{"false", `^$`, `^$`, 1},
		{"exit 42", `^$`, `^$`, 42},
		{"no-such-program; echo $?", `^127\n$`, `^-bash: no-such-program: command not found\n$`, 0},
		{"no-such-program", `^$`, `command not found`, 127},
		{"echo 'unfinished", `^$`, `^-bash: syntax error`, 2},
		{`echo "$HOME" $(whoami) $((6*7)) a\ b 'c  d'`, `^/home/capture capture 42 a b c  d\n$`, `^$`, 0},
		{"echo kept > /tmp/x && cat < /tmp/x; rm /tmp/x; ls /tmp", `^kept\n$`, `^$`, 0},
		{"mkdir -p /tmp/a/b && cd /tmp/a && pwd && ls", `^/tmp/a\nb\n$`, `^$`, 0},
		{"for i in 1 2 3; do echo $i; done | tail -n 2 | head -n1", `^2\n$`, `^$`, 0},
		{"X=5 bash -c 'echo $X; exit 3'; echo $?", `^5\n3\n$`, `^$`, 0},
		{"printf abc | sha256sum", `^ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n$`, `^$`, 0},
		{"[ -x /capture ] && [ ! -e /work ] && echo ours", `^ours\n$`, `^$`, 0},
		{"reboot", `^$`, `^reboot: Operation not permitted\n$`, 1},
		{"grep -i debian /etc/os-release | wc -l", `^\d\n$`, `^$`, 0},
		{"f() { f; }; f", `^$`, `maximum function nesting level exceeded`, 1},
		{"stty size", `^$`, `Inappropriate ioctl`, 1},
	} {
		out, errs, status := execute(t, c, step.line)
		if !regexp.MustCompile(step.out).MatchString(out) || !regexp.MustCompile(step.errs).MatchString(errs) || status != step.status {
			t.Errorf("%s gives %q, %q, status %d", step.line, out, errs, status)
		}
	}
}

func TestLinuxStdin(t *testing.T) {
	f := startFleet(t, quick())
	s, err := login(t, f, "lon-cap-01").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	s.Stdin = strings.NewReader("line one\nline two\n")
	out, err := s.Output("cat > /tmp/in; wc -l < /tmp/in; md5sum /tmp/in")
	if err != nil || !strings.HasPrefix(string(out), "2\n") {
		t.Errorf("stdin gives %q, %v", out, err)
	}
}

// A job that sh -c leaves in the background goes on when its session and connection
// have ended, and ends with the device's power.
func TestBashJobOutlivesItsSession(t *testing.T) {
	f := startFleet(t, quick())
	c := login(t, f, "lon-cap-01")
	out, _, status := execute(t, c, `sh -c '{ tcpdump -i eth0 -w "$1"; } < /dev/null > "$1.log" 2>&1 & sleep 600 > /dev/null & echo begun; exit 7' sh /tmp/x.pcap`)
	if out != "begun\n" || status != 7 {
		t.Fatalf("%q, status %d", out, status)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(f.Dir(), "devices/lon-cap-01/tmp/x.pcap"))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	eventually(t, "packets after the session", func() bool { return size() > 8192 })
	if out, _, _ := execute(t, login(t, f, "lon-cap-01"), "tail -c 6 /tmp/x.pcap.log; mkdir -m 700 /tmp/made && ls /tmp"); out != "bytes\nmade\nx.pcap\nx.pcap.log\n" {
		t.Errorf("%q", out)
	}
	order(t, f, "lon-cap-01", "reboot")
	eventually(t, "the end of the job", func() bool { return strings.Contains(journal(t, f), "capture_stop") })
}

func TestLinuxTerminal(t *testing.T) {
	f := startFleet(t, quick())
	x := openShell(t, login(t, f, "lon-cap-01"), 120, 40)
	const prompt = "capture@lon-cap-01:~$ "
	x.expect(regexp.QuoteMeta(prompt) + `\z`)
	for _, step := range []struct{ line, output, prompt string }{
		{"stty size", "40 120\r\n", prompt},
		{"echo 'a", "", "> "},
		{"b'", "a\r\nb\r\n", prompt},
		{"X=1; false", "", prompt},
		{"echo $? $X", "1 1\r\n", prompt},
		{"cd /var", "", "capture@lon-cap-01:/var$ "},
		{"if", "", "> "},
	} {
		if got := x.do(step.line, step.prompt); got != step.output {
			t.Errorf("%q printed %q, want %q", step.line, got, step.output)
		}
	}
	x.send("\x03")
	x.expect(`\^C\r\ncapture@lon-cap-01:/var\$ \z`)
	x.send("sleep 3600\r")
	x.expect(`sleep 3600\r\n`)
	x.send("ignored\x03")
	x.expect(`\^C\r\ncapture@lon-cap-01:/var\$ \z`)
	x.send("while true; do :; done\r")
	x.expect(`done\r\n`)
	x.send("\x03")
	x.expect(`\^C\r\ncapture@lon-cap-01:/var\$ \z`)
	x.send("sleep 3600 &\recho still here\r")
	x.expect(`still here\r\n.*\$ \z`)
	if err := x.sess.WindowChange(50, 132); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new size", func() bool {
		return strings.Contains(x.do("stty size", "capture@lon-cap-01:/var$ "), "50 132")
	})
	x.send("exit 7\r")
	x.ended()
	var exit *ssh.ExitError
	if !errors.As(x.sess.Wait(), &exit) || exit.ExitStatus() != 7 {
		t.Error("exit 7 does not give status 7")
	}
}

func TestLinuxReboot(t *testing.T) {
	f := startFleet(t, quick())
	c := login(t, f, "lon-cap-01")
	before, _, _ := execute(t, c, "cat /proc/sys/kernel/random/boot_id; echo kept > /var/tmp/kept")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Run("sudo reboot") // the connection is cut
	if err := c.Wait(); err == nil {
		t.Error("the connection survives a reboot")
	}
	eventually(t, "boot", func() bool { return strings.Contains(journal(t, f), `"event":"boot"`) })
	order(t, f, "lon-cap-01", "none") // also waits for the port
	eventually(t, "reachable", func() bool {
		c, err := connect(info(t, f, "lon-cap-01").Addr, clientConfig(t, f, "capture"))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	after, _, _ := execute(t, login(t, f, "lon-cap-01"), "cat /proc/sys/kernel/random/boot_id; cat /var/tmp/kept")
	if after == before+"kept\n" || !strings.HasSuffix(after, "\nkept\n") {
		t.Errorf("boot id and file: before %q, after %q", before, after)
	}
}

// The shell is an interpreter in this process: nothing it is told may reach the
// machine around it.
func TestShellStaysInside(t *testing.T) {
	f := startFleet(t, quick())
	c := login(t, f, "lon-cap-01")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"cat " + outside, "cat ../../../../../../../../../.." + outside, "read x < " + outside + "; echo $x",
		". " + outside, "cat <(cat " + outside + ")", "echo $(<" + outside + ")", "ls " + filepath.Dir(outside),
		"cd " + filepath.Dir(outside) + " && pwd", "/bin/cat /etc/passwd", "[ -e " + outside + " ] && echo secret",
		"ln -s / /tmp/r; cat /tmp/r" + outside, "echo " + filepath.Dir(outside) + "/*side", "eval 'cat >(cat) " + outside + "'",
		"trap 'cat " + outside + "' EXIT", "env", "export",
	} {
		out, errs, _ := execute(t, c, line)
		if all := out + errs; strings.Contains(all, "secret") || strings.Contains(out, "root:x:0") || line == "cd "+filepath.Dir(outside)+" && pwd" && out != "" {
			t.Errorf("%s gives %q, %q", line, out, errs)
		}
	}
	if out, _, _ := execute(t, c, "echo gone > "+outside); out != "" {
		t.Errorf("writing outside printed %q", out)
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "secret" {
		t.Errorf("the file outside is %q, %v", b, err)
	}
	t.Setenv("SIM_TEST_LEAK", "leaked")
	if out, _, _ := execute(t, c, "echo $SIM_TEST_LEAK; export"); strings.Contains(out, "leaked") {
		t.Errorf("the simulator's environment shows: %q", out)
	}
}
