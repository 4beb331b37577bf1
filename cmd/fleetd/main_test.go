package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/config"
	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

// asFleetd, when set in the environment, makes the test binary a real fleetd.
const asFleetd = "FLEETD_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(asFleetd) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a fleetd of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	client *client.Client
	log    chan string // everything that it logged, once it has ended
	lines  chan string // each line as it is logged, as far as somebody reads them
}

// start runs fleetd in a folder and returns when it is ready.
func start(t *testing.T, dir, inventory string, args ...string) *process {
	t.Helper()
	p := &process{t: t, socket: filepath.Join(dir, "s"), log: make(chan string, 1), lines: make(chan string, 1<<10)}
	p.cmd = command(t, append([]string{"--inventory", inventory, "--state", filepath.Join(dir, "state"), "--socket", p.socket, "--log-format", "json"}, args...)...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	ready := make(chan bool, 1)
	go func() {
		var all strings.Builder
		sc := bufio.NewScanner(stderr)
		sc.Buffer(nil, 64<<20) // a line that does not fit would stop fleetd, not the test
		for sc.Scan() {
			all.WriteString(sc.Text() + "\n")
			select {
			case p.lines <- sc.Text():
			default:
			}
			if strings.Contains(sc.Text(), "fleetd is ready") {
				ready <- true
			}
		}
		close(ready)
		p.log <- all.String()
	}()
	if !<-ready {
		t.Fatalf("fleetd did not start:\n%s", <-p.log)
	}
	if p.client, err = client.New(p.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.Close)
	return p
}

// logged waits for a line that has all parts.
func (p *process) logged(parts ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for {
		select {
		case line := <-p.lines:
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return line
			}
		case <-ctx.Done():
			p.t.Fatalf("nothing was logged with %q", parts)
		}
	}
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asFleetd+"=1")
	return cmd
}

// end sends a signal and gives the exit code (-1: ended by the signal), how long
// it took and the log.
func (p *process) end(sig syscall.Signal) (code int, took time.Duration, log string) {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	log = <-p.log
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode(), time.Since(began), log
}

func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cf") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func fleet(t *testing.T, opts sim.Options) *sim.Fleet {
	t.Helper()
	opts.Dir = filepath.Join(place(t), "f")
	f, err := sim.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	var out, errOut bytes.Buffer
	if code := run([]string{"--help"}, &out, &errOut); code != 0 || errOut.Len() > 0 {
		t.Errorf("help: %d %s", code, &errOut)
	}
	for _, s := range config.All() {
		if !strings.Contains(out.String(), "--"+s.Flag+" ") || !strings.Contains(out.String(), s.Env) {
			t.Errorf("--help does not name --%s and %s", s.Flag, s.Env)
		}
	}
	out.Reset()
	if code := run([]string{"--version"}, &out, &errOut); code != 0 || !strings.HasPrefix(out.String(), "fleetd ") {
		t.Errorf("version: %d %s", code, &out)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"unknown flag":  {[]string{"--sokcet", "x"}, fault.ExitUsage, "sokcet"},
		"argument":      {[]string{"serve"}, fault.ExitUsage, `"serve"`},
		"bad limit":     {[]string{"--limit", "none"}, fault.ExitUsage, "--limit"},
		"bad level":     {[]string{"--log-level", "loud"}, fault.ExitUsage, "--log-level"},
		"no inventory":  {[]string{"--inventory", "/nowhere/i.yaml", "--state", filepath.Join(t.TempDir(), "s"), "--socket", "/tmp/cf-unused"}, fault.ExitUsage, "/nowhere/i.yaml"},
		"no config":     {[]string{"--config", "/nowhere/c.yaml"}, fault.ExitUsage, "/nowhere/c.yaml"},
		"missing value": {[]string{"--state"}, fault.ExitUsage, "state"},
	} {
		out.Reset()
		errOut.Reset()
		if code := run(tc.args, &out, &errOut); code != tc.code {
			t.Errorf("%s: exit code %d, want %d", name, code, tc.code)
		}
		if got := errOut.String(); !strings.Contains(got, tc.says) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: said %q, want one line with %q", name, got, tc.says)
		}
		if out.Len() > 0 {
			t.Errorf("%s: stdout has %q", name, &out)
		}
	}
}

func TestSIGTERM(t *testing.T) {
	t.Parallel()
	f := fleet(t, sim.Options{Devices: 4, Faults: []string{"lon-probe-01:mute"}})
	dir := place(t)
	p := start(t, dir, f.Inventory())
	job := p.submit()
	for ev, err := range p.client.Events(t.Context(), job, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Device == "lon-probe-01" && ev.Type == "task_step" {
			break
		}
	}
	code, took, log := p.end(syscall.SIGTERM)
	if code != 0 || took > 2*time.Second {
		t.Errorf("ended with %d after %v, with a device that never answers", code, took)
	}
	for line := range strings.Lines(log) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["msg"] == "" || entry["time"] == "" {
			t.Errorf("log line is not JSON: %s", line)
		}
	}
	if _, err := p.client.Version(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSecondProcess(t *testing.T) {
	t.Parallel()
	f := fleet(t, sim.Options{Devices: 2})
	dir := place(t)
	p := start(t, dir, f.Inventory())
	var said strings.Builder
	second := command(t, "--inventory", f.Inventory(), "--state", filepath.Join(dir, "state"), "--socket", p.socket+"2")
	second.Stderr = &said
	_ = second.Run()
	want := fmt.Sprintf("another fleetd (process %d) is using it", p.cmd.Process.Pid)
	if second.ProcessState.ExitCode() != fault.ExitFailed || !strings.Contains(said.String(), want) || strings.Count(said.String(), "\n") != 1 {
		t.Errorf("ended with %d and said %q, want %q", second.ProcessState.ExitCode(), said.String(), want)
	}
	if code, _, _ := p.end(os.Interrupt.(syscall.Signal)); code != 0 {
		t.Errorf("the first one ended with %d", code)
	}
}

// kill -9 at any moment of a report: after the next start it ends by itself, and
// each device's rows are there once, as without the kill. Who watches sees each
// event once, through all of it.
func TestKill(t *testing.T) {
	t.Parallel()
	const devices = 24
	f := fleet(t, sim.Options{Devices: devices, TurnDelay: 15 * time.Millisecond})
	dir := place(t)
	p := start(t, dir, f.Inventory())
	job := p.submit()
	p.wait(job, nil)
	want := p.rows(job)
	if len(want) < devices {
		t.Fatalf("rows of %d file systems of %d devices", len(want), devices)
	}
	// Kill when so many tasks have ended.
	for _, after := range []int{0, 1, 5, 12, 23} {
		job := p.submit()
		ended, killed := 0, false
		p.wait(job, func(ev api.Event) {
			if ev.Type == "task_state" && ev.State == "succeeded" {
				ended++
			}
			if killed || ended < after || ev.Type == "job_created" {
				return
			}
			killed = true
			if code, _, _ := p.end(syscall.SIGKILL); code != -1 {
				t.Fatalf("it ended by itself, with %d", code)
			}
			next := start(t, dir, f.Inventory())
			p.cmd, p.log = next.cmd, next.log
		})
		if !killed {
			t.Errorf("killed after %d: the job was over before", after)
		}
		if diff := cmp.Diff(want, p.rows(job)); diff != "" {
			t.Errorf("killed after %d tasks, rows (-without +with the kill):\n%s", after, diff)
		}
		j, err := p.client.Job(t.Context(), job)
		if err != nil || j.State != "succeeded" || j.Counts["succeeded"] != devices {
			t.Errorf("killed after %d: %+v %v", after, j, err)
		}
	}
	if code, _, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

func (p *process) submit() (job string) {
	p.t.Helper()
	j, err := p.client.Submit(p.t.Context(), api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"filesystem"}`), Selection: api.Selection{All: true}})
	if err != nil {
		p.t.Fatal(err)
	}
	return j.ID
}

// wait follows a job to its end over all cuts.
func (p *process) wait(job string, each func(api.Event)) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	var last uint64
	for ev, err := range p.client.Events(ctx, job, 0) {
		if err != nil {
			p.t.Fatal(err)
		}
		if ev.Seq != 0 && ev.Seq <= last {
			p.t.Errorf("event %d after %d", ev.Seq, last)
		}
		last = max(last, ev.Seq)
		if each != nil {
			each(ev)
		}
	}
}

// rows counts a report's rows by device and file system, and checks that all
// devices are there.
func (p *process) rows(job string) map[string]int {
	p.t.Helper()
	res, err := p.client.Results(p.t.Context(), job)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(res.Failures) > 0 {
		p.t.Errorf("failures: %+v", res.Failures)
	}
	rows := map[string]int{}
	for _, raw := range res.Rows {
		var r struct{ Device, Filesystem string }
		if err := json.Unmarshal(raw, &r); err != nil {
			p.t.Fatal(err)
		}
		rows[r.Device+" "+r.Filesystem]++
	}
	if twice := slices.DeleteFunc(slices.Sorted(maps.Keys(rows)), func(k string) bool { return rows[k] == 1 }); len(twice) > 0 {
		p.t.Errorf("more than once: %v", twice)
	}
	return rows
}

// The help goes to stdout alone, so that it can be paged.
func TestHelpThroughAProcess(t *testing.T) {
	t.Parallel()
	cmd := command(t, "-h")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil || errOut.Len() > 0 || out.Len() == 0 {
		t.Errorf("%v %q", err, &errOut)
	}
}
