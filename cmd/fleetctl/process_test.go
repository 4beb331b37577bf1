package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a fleetctl that runs in the background of a test.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    bytes.Buffer
	lines  *bufio.Scanner // of stderr
	errOut strings.Builder
}

// startProcess starts fleetctl, the real one of TestMain, with more environment.
func startProcess(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p := &process{t: t, cmd: exec.CommandContext(ctx, "fleetctl", args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout = &p.out
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(stderr)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// await reads stderr up to a line that matches and gives the line.
func (p *process) await(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for p.lines.Scan() {
		p.errOut.WriteString(p.lines.Text() + "\n")
		if re.MatchString(p.lines.Text()) {
			return p.lines.Text()
		}
	}
	p.t.Fatalf("fleetctl ended without a line like %q\nstdout:\n%s\nstderr:\n%s", pattern, p.out.String(), p.errOut.String())
	return ""
}

// interrupt is a Ctrl-C.
func (p *process) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the end and gives the exit code.
func (p *process) end() int {
	p.t.Helper()
	for p.lines.Scan() {
		p.errOut.WriteString(p.lines.Text() + "\n")
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func TestSimUntilInterrupted(t *testing.T) {
	dir := shortDir(t)
	p := startProcess(t, nil, "sim", "--dir", dir, "--devices", "4", "--fault", "lon-probe-01:down")
	p.await("^Ctrl-C ends the fleet")
	order := startProcess(t, nil, "sim", "--dir", dir, "--fault", "lon-probe-01:none")
	order.await("^ordered lon-probe-01:none$")
	if code := order.end(); code != 0 {
		t.Errorf("the order ended with %d", code)
	}
	p.interrupt()
	if code := p.end(); code != 0 {
		t.Errorf("sim ended with %d\n%s", code, p.errOut.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "journal.jsonl")); err != nil {
		t.Error(err)
	}
}

func TestDemoEndsByItself(t *testing.T) {
	p := startProcess(t, []string{"TMPDIR=" + shortDir(t), "FLEET_SERVER=/nowhere"}, "demo")
	if code := p.end(); code != 0 {
		t.Fatalf("demo ended with %d\n%s\n%s", code, p.out.String(), p.errOut.String())
	}
	said := p.errOut.String()
	for _, want := range []string{`24 simulated devices`, `is switched off on purpose`, `1 of 24 devices failed`, `Try next`,
		"lon-probe-03: return, conflict: it came back wrong: capturing disproven", "lon-probe-03 needs attention",
		"ALARM: nyc-probe-05#"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	for _, table := range []string{"DEVICE +FILESYSTEM", "DEVICE +NAME +LIMIT GB", "waves +canary: 1 succeeded\n.*1 succeeded, 1 attention\n.*2 skipped",
		"DEVICE +RESULT +BEFORE", "nyc-probe-05 .* critical +80:02.2 +new +PCI SERR"} {
		if !regexp.MustCompile(`(?m)^` + table).Match(p.out.Bytes()) {
			t.Errorf("no table %q:\n%s", table, p.out.String())
		}
	}
	files := regexp.MustCompile(`(?m)^  (/.*\.csv)$`).FindAllStringSubmatch(said, -1)
	if len(files) != 2 {
		t.Fatalf("it names %d files:\n%s", len(files), said)
	}
	for _, f := range files {
		text, err := os.ReadFile(f[1])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(text, []byte("Device,")) || bytes.Count(text, []byte("\n")) < 10 {
			t.Errorf("%s holds:\n%s", f[1], text)
		}
	}
	left, err := os.ReadDir(filepath.Dir(files[0][1]))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 3 {
		t.Errorf("more than the files is left: %v", left)
	}
	record, err := os.ReadFile(filepath.Join(filepath.Dir(files[0][1]), "change-3.md"))
	if err != nil || !bytes.HasPrefix(record, []byte("# Change record: OSm6.4.x-CumulativeHotfix-v2.end")) || !bytes.Contains(record, []byte("What needs a look")) {
		t.Errorf("the change record: %v\n%s", err, record)
	}
}

func TestDemoInterrupted(t *testing.T) {
	tmp := shortDir(t)
	p := startProcess(t, []string{"TMPDIR=" + tmp}, "demo")
	p.await(`^\$ fleetctl report filesystem`)
	p.interrupt()
	if code := p.end(); code != 130 || !strings.Contains(p.errOut.String(), "fleetctl: interrupted") {
		t.Errorf("ended with %d\n%s", code, p.errOut.String())
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDemoKeepServesASecondTerminal(t *testing.T) {
	dir := filepath.Join(shortDir(t), "it's kept")
	p := startProcess(t, []string{"FLEET_SERVER=/nowhere"}, "demo", "--keep", "--dir", dir, "--devices", "8")
	p.await("go on until Ctrl-C")
	p.await("fleetctl job retry 1")
	second := exec.CommandContext(t.Context(), "sh", "-ec", `. "$1"
fleetctl device list -o csv
fleetctl command run lon-probe-01 -q -- show version
fleetctl sim --dir "$2" --fault lon-probe-05:none
fleetctl job retry 1`, "sh", filepath.Join(dir, "fleetctl.env"), dir)
	out, err := second.Output()
	if err != nil || !bytes.Contains(out, []byte("lon-probe-01,endace_osm")) || !bytes.Contains(out, []byte("Product release")) {
		t.Errorf("second terminal: %v\n%s", err, out)
	}
	p.interrupt()
	if code := p.end(); code != 0 {
		t.Errorf("demo ended with %d\n%s", code, p.errOut.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "filesystem.csv")); err != nil {
		t.Error(err)
	}
}

func TestInterruptLeavesTheJobToFleetd(t *testing.T) {
	env := startDemo(t, 4, "lon-probe-01:hang_command")
	server := "FLEET_SERVER=" + env.Socket()
	p := startProcess(t, []string{server}, "report", "filesystem", "lon-probe-01")
	p.await("lon-probe-01: running")
	p.interrupt()
	if code := p.end(); code != 130 {
		t.Errorf("ended with %d\n%s", code, p.errOut.String())
	}
	hint := regexp.MustCompile(`job (\d+) goes on; come back with: fleetctl job watch (\d+)`).FindStringSubmatch(p.errOut.String())
	if hint == nil {
		t.Fatalf("it does not say how to come back:\n%s", p.errOut.String())
	}
	cancel := startProcess(t, []string{server}, "job", "cancel", hint[1])
	if code := cancel.end(); code != 0 || !strings.Contains(cancel.out.String(), "canceled") {
		t.Errorf("cancel ended with %d\n%s%s", code, cancel.out.String(), cancel.errOut.String())
	}
}
