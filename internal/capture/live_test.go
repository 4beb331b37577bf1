//go:build linux

package capture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/capture/capturetest"
	"capfleet/internal/childtest"
	"capfleet/internal/cli"
	"capfleet/internal/daemon"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/leaktest"
	"capfleet/internal/pcap"
)

// parts are what the test binary can be beside itself.
func parts() map[string]func(string) error {
	return map[string]func(string) error{
		"fleetctl": func(args string) error {
			var list []string
			if err := json.Unmarshal([]byte(args), &list); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			os.Exit(cli.Run(ctx, list, cli.ProcessStreams(), cli.Build{}))
			return nil
		},
		"fleetd": func(dir string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			d, err := daemon.New(ctx, options(dir))
			if err != nil {
				return err
			}
			fmt.Println("ready")
			return d.Run(ctx)
		},
	}
}

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(asFleetctl); ok {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := cli.Run(ctx, os.Args[1:], cli.ProcessStreams(), cli.Build{})
		stop()
		os.Exit(code)
	}
	childtest.Main(parts())
	leaktest.Main(m)
}

func options(dir string) daemon.Options {
	log, err := os.OpenFile(filepath.Join(dir, "fleetd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		log = os.Stderr
	}
	o := daemon.Options{StateDir: filepath.Join(dir, "state"), Inventory: filepath.Join(dir, "inventory.yaml"), Socket: filepath.Join(dir, "s"),
		Logger: slog.New(slog.NewTextHandler(log, nil))}
	o.Retry.Base = 100 * time.Millisecond
	if group, err := os.ReadFile(filepath.Join(dir, "group")); err == nil {
		o.SocketGroup = string(group)
	}
	return o
}

// fleet is a bed with a fleetd that knows it as device "bed".
type fleet struct {
	*capturetest.Bed
	dir     string
	environ []string // of fleetd, beside ours
	daemon  *exec.Cmd
}

// newFleet starts one; config are lines of sshd_config.
func newFleet(t *testing.T, config ...string) *fleet {
	t.Helper()
	f := &fleet{Bed: capturetest.New(t, config...), dir: t.TempDir()}
	f.inventory(t, "", "")
	f.start(t)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(f.dir, "fleetd.log"))
			t.Logf("fleetd: %.8000s", log)
		}
	})
	return f
}

// inventory writes the inventory; credentials and more are further ones, and
// devices.
func (f *fleet) inventory(t *testing.T, credentials, more string) {
	t.Helper()
	s := f.Server
	text := fmt.Sprintf(`version: 1
known_hosts: %s
credentials:
  default: {username: %s, private_key: {file: %s}}
%s
devices:
  - {name: bed, platform: linux, address: "%s", credentials: default}
%s`, s.KnownHosts, s.User, s.ClientKey, credentials, s.Addr, more)
	if err := os.WriteFile(filepath.Join(f.dir, "inventory.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs fleetd in a process of its own, which can be killed.
func (f *fleet) start(t *testing.T) {
	t.Helper()
	f.daemon = childtest.Command(t, "fleetd", f.dir)
	f.daemon.Env = append(f.daemon.Env, f.environ...)
	out, err := f.daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.daemon.Stderr = os.Stderr
	if err := f.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 6)
	if _, err := io.ReadFull(out, ready); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.daemon.Process.Kill()
		_ = f.daemon.Wait()
	})
}

// reader is a fleetctl that captures.
type reader struct {
	*exec.Cmd
	out *collected
	err bytes.Buffer
}

// fleetctl prepares a fleetctl of this fleet.
func (f *fleet) fleetctl(t *testing.T, args ...string) *reader {
	t.Helper()
	raw, err := json.Marshal(append([]string{"--server", filepath.Join(f.dir, "s")}, args...))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{Cmd: childtest.Command(t, "fleetctl", string(raw)), out: &collected{more: make(chan struct{}, 1)}}
	r.Stdout, r.Stderr = r.out, &r.err
	return r
}

// run runs it to its end and gives the exit code.
func (r *reader) run(t *testing.T) int {
	t.Helper()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r.wait(t)
}

func (r *reader) wait(t *testing.T) int {
	t.Helper()
	err := r.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return r.ProcessState.ExitCode()
}

// collected is what was written, to be waited for.
type collected struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func (c *collected) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf.Write(p)
	select {
	case c.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (c *collected) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.buf.Bytes())
}

func (c *collected) waitFor(t *testing.T, n int) {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for len(c.bytes()) < n {
		select {
		case <-c.more:
		case <-late.C:
			t.Fatalf("%d bytes, want %d", len(c.bytes()), n)
		}
	}
}

// packets reads a capture, which must be whole.
func packets(t *testing.T, file []byte) []pcap.Packet {
	t.Helper()
	r, err := pcap.NewReader(bytes.NewReader(file), pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []pcap.Packet
	for {
		var p pcap.Packet
		switch err := r.Next(&p); {
		case err == nil:
			p.Data = bytes.Clone(p.Data)
			all = append(all, p)
		case errors.Is(err, io.EOF):
			return all
		default:
			t.Fatal(err)
		}
	}
}

// portOf gives the UDP destination port of an Ethernet frame of the tests, 0 for
// another.
func portOf(frame []byte) int {
	if len(frame) < 42 || frame[12] != 8 || frame[13] != 0 || frame[23] != 17 {
		return 0
	}
	return int(frame[36])<<8 | int(frame[37])
}

// The first thing an operator types. HTTPS is not spoken, but the port is right.
func TestLiveIntoTshark(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	server := f.Listen(t, 443)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	})
	defer wg.Wait()
	defer func() { _ = server.Close() }()

	r := f.fleetctl(t, "capture", "live", "bed", "-i", "eth0", "-f", "tcp port 443", "--packets", "6")
	tshark := exec.CommandContext(t.Context(), "tshark", "-n", "-r", "-", "-T", "fields", "-e", "tcp.port", "-e", "tcp.flags.str")
	var decoded, complaints bytes.Buffer
	tshark.Stdout, tshark.Stderr = &decoded, &complaints
	var err error
	r.Stdout = nil
	if tshark.Stdin, err = r.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if err := tshark.Start(); err != nil {
		t.Fatalf("%v (Debian package tshark)", err)
	}
	f.WaitRuns(t, "tcpdump", 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() {
		for ctx.Err() == nil { // tcpdump may not be at its first packet yet
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(f.Inner, 443).String(), 10*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = c.Write([]byte("hello"))
			_, _ = io.ReadFull(c, make([]byte, 5))
			_ = c.Close()
			<-time.After(20 * time.Millisecond)
		}
	})
	terr := tshark.Wait()
	cancel()
	if code := r.wait(t); code != 0 || terr != nil {
		t.Fatalf("fleetctl ends with %d, tshark: %v\n%s%s", code, terr, r.err.String(), complaints.String())
	}
	if n := strings.Count(decoded.String(), "443"); n != 6 {
		t.Errorf("tshark shows %d packets:\n%s", n, decoded.String())
	}
	if said := r.err.String(); !strings.Contains(said, "6 packets") || !strings.Contains(said, " dropped by its kernel") || !strings.Contains(said, "ended by packets") {
		t.Errorf("fleetctl says:\n%s", said)
	}
	f.WaitGone(t, "tcpdump")
}

// A packet shows before the next one has come. An `or` in the filter does not let
// our own session in, or the capture would go on by itself.
func TestFirstPacketShowsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := f.fleetctl(t, "capture", "live", "bed", "-i", "eth0", "-f", "udp port 7 or tcp")
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	r.out.waitFor(t, 24)
	if err := f.Send(t.Context(), 7, 1, 100, 0); err != nil {
		t.Fatal(err)
	}
	r.out.waitFor(t, 24+16+142)
	if err := r.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(t); code != 130 {
		t.Errorf("exit code %d\n%s", code, r.err.String())
	}
	f.WaitGone(t, "tcpdump")
	all := packets(t, r.out.bytes())
	if len(all) != 1 || portOf(all[0].Data) != 7 {
		t.Errorf("%d packets, want the one that was sent", len(all))
	}
	if !strings.Contains(r.err.String(), "ended by reader") {
		t.Errorf("fleetctl says:\n%s", r.err.String())
	}
}

// Behind a jump host the device sees the jump host; that session is left out.
func TestOwnSessionIsLeftOutBehindAJumpHost(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	inner := sshdtest.Start(t, sshdtest.Options{Listener: f.Listen(t, 0), Within: []string{"ip", "netns", "exec", f.Name}})
	known, err := os.OpenFile(f.Server.KnownHosts, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(inner.KnownHosts)
	if err == nil {
		_, err = known.Write(raw)
	}
	if err := errors.Join(err, known.Close()); err != nil {
		t.Fatal(err)
	}
	_ = f.daemon.Process.Kill()
	_ = f.daemon.Wait()
	f.inventory(t, fmt.Sprintf("  far: {username: %s, private_key: {file: %s}}", inner.User, inner.ClientKey),
		fmt.Sprintf("  - {name: far, platform: linux, address: %q, credentials: far, jump: bed}\n", inner.Addr))
	f.start(t)
	r := f.fleetctl(t, "capture", "live", "far", "-i", "lo", "--duration", "2s")
	if code := r.run(t); code != 0 {
		t.Fatalf("exit code %d\n%s", code, r.err.String())
	}
	if all := packets(t, r.out.bytes()); len(all) != 0 {
		t.Errorf("%d packets of our own session", len(all))
	}
	if !strings.Contains(r.err.String(), "ended by duration") {
		t.Errorf("fleetctl says:\n%s", r.err.String())
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Send(ctx, 7, 1<<20, 100, time.Millisecond) })
	defer wg.Wait()
	defer cancel()
	for name, c := range map[string]struct {
		args    []string
		packets int // at most, and one at least
		size    int // of a packet as captured, at most
		why     string
	}{
		"packets":     {[]string{"--packets", "3"}, 3, 142, "packets"},
		"bytes":       {[]string{"--bytes", "1000"}, 6, 142, "bytes"}, // 24 + 6 * 158 = 972
		"snap length": {[]string{"-s", "60", "--packets", "2"}, 2, 60, "packets"},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.fleetctl(t, append([]string{"capture", "live", "bed", "-i", "eth0", "-f", "udp port 7"}, c.args...)...)
			if code := r.run(t); code != 0 {
				t.Fatalf("exit code %d\n%s", code, r.err.String())
			}
			all := packets(t, r.out.bytes())
			if len(all) != c.packets || len(all[0].Data) > c.size || all[0].Length != 142 {
				t.Errorf("%d packets, %+v", len(all), all)
			}
			if !strings.Contains(r.err.String(), "ended by "+c.why) {
				t.Errorf("fleetctl says:\n%s", r.err.String())
			}
		})
	}
	f.WaitGone(t, "tcpdump")
}

// Everything that is refused, each with the device and what to do about it. No
// tcpdump that captures is started for any of them.
func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for name, c := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"D6 filter":         {[]string{"-i", "eth0", "-f", "tcp prot 443"}, 1, []string{"bed", "tcp prot 443", "syntax error", "capture filter"}},
		"brackets":          {[]string{"-i", "eth0", "-f", "tcp) or (udp"}, 1, []string{"bed", "compile filter"}},
		"B3 interface":      {[]string{"-i", "eth9"}, 1, []string{"bed", "eth9", "no such interface", "eth0"}},
		"interface by text": {[]string{"-i", "eth0; reboot"}, 4, []string{"no name of an interface"}},
		"option as filter":  {[]string{"-i", "eth0", "-f", "-w /etc/passwd"}, 4, []string{"put it in brackets"}},
		"no packets":        {[]string{"-i", "eth0", "--packets", "0"}, 4, []string{"at least 1"}},
		"no bytes":          {[]string{"-i", "eth0", "--bytes", "0"}, 4, []string{"header"}},
		"no time":           {[]string{"-i", "eth0", "--duration", "0"}, 4, []string{"every capture has a limit"}},
		"f5 on linux":       {[]string{"-i", "eth0", "--f5", "n"}, 4, []string{"BIG-IP"}},
		"no interface":      {nil, 4, []string{"interface"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.fleetctl(t, append([]string{"capture", "live", "bed"}, c.args...)...)
			if code := r.run(t); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, text := range c.says {
				if !strings.Contains(r.err.String(), text) {
					t.Errorf("no %q in:\n%s", text, r.err.String())
				}
			}
			if n := len(r.out.bytes()); n > 0 {
				t.Errorf("%d bytes on stdout", n)
			}
		})
	}
	if pids := f.Processes(t, "tcpdump"); len(pids) > 0 {
		t.Errorf("tcpdump runs: %v", pids)
	}
}

// Whatever dies, no tcpdump stays on the device. The filter matches nothing, so
// that no tcpdump notices by writing.
func TestNothingStaysBehind(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, f *fleet, r *reader){
		"SIGINT":              func(t *testing.T, _ *fleet, r *reader) { _ = r.Process.Signal(os.Interrupt) },
		"SIGKILL of fleetctl": func(t *testing.T, _ *fleet, r *reader) { _ = r.Process.Kill() },
		"SIGKILL of fleetd":   func(t *testing.T, f *fleet, _ *reader) { _ = f.daemon.Process.Kill() },
		"job canceled": func(t *testing.T, f *fleet, _ *reader) {
			if code := f.fleetctl(t, "job", "cancel", "1").run(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
		},
		"fleetd stops": func(t *testing.T, f *fleet, _ *reader) { _ = f.daemon.Process.Signal(os.Interrupt) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			r := f.fleetctl(t, "capture", "live", "bed", "-i", "eth0", "-f", "udp port 9")
			if err := r.Start(); err != nil {
				t.Fatal(err)
			}
			r.out.waitFor(t, 24)
			end(t, f, r)
			f.WaitGone(t, "tcpdump")
			_ = r.Process.Kill() // one that lost its fleetd waits for it to come back
			_ = r.wait(t)
			packets(t, r.out.bytes())
		})
	}
}

// A Wireshark that is closed ends the capture also when there is nothing to write to
// it, which is when a pipe does not tell.
func TestReaderOfThePipeGoes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := f.fleetctl(t, "capture", "live", "bed", "-i", "eth0", "-f", "udp port 9")
	r.Stdout = nil
	out, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 24)); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	if code := r.wait(t); code != 0 || !strings.Contains(r.err.String(), "ended by reader") {
		t.Errorf("exit code %d\n%s", code, r.err.String())
	}
	f.WaitGone(t, "tcpdump")
}

// fleetd is killed with a capture under way and started again: the capture is
// reported as cut, and not begun a second time.
func TestRestartedFleetdReaps(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := f.fleetctl(t, "capture", "live", "bed", "-i", "eth0", "-f", "udp port 9")
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	r.out.waitFor(t, 24)
	_ = f.daemon.Process.Kill()
	_ = f.daemon.Wait()
	f.start(t)
	if code := r.wait(t); code == 0 {
		t.Errorf("fleetctl says that all is well\n%s", r.err.String())
	}
	f.WaitGone(t, "tcpdump")
	show := f.fleetctl(t, "job", "watch", "1")
	_ = show.run(t)
	if !strings.Contains(show.err.String(), "the capture was cut") {
		t.Errorf("job watch says:\n%s%s", show.out.bytes(), show.err.String())
	}
}

// readersAtOnce captures are read at the same time; fleetd lets four jobs read one
// device at once, and so the bed has many names.
const readersAtOnce = 50

// Readers are killed at random moments, CAPFLEET_READER_KILLS of them (50), fifty at
// a time. Most are ours, whose end is the same for fleetd; each tenth is a fleetctl that
// is killed, and each tenth one whose pipe nobody reads any more.
func TestReadersKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	kills := readersAtOnce
	if text, ok := os.LookupEnv("CAPFLEET_READER_KILLS"); ok {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	f := newFleet(t)
	names := f.rename(t, (readersAtOnce+3)/4)
	ctx, cancel := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	traffic.Go(func() { _ = f.Send(ctx, 7, 1<<30, 100, 5*time.Millisecond) })
	defer traffic.Wait()
	defer cancel()
	c, err := client.New(filepath.Join(f.dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var at [2]int // killed before and after the first bytes
	for begun := 0; begun < kills; begun += readersAtOnce {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range min(kills-begun, readersAtOnce) {
			device, filter := names[i%len(names)], []string{"udp port 7", "udp port 9"}[rand.IntN(2)]
			// Half of them at some time after their start, the others after the first bytes.
			k := kill{moment: time.Duration(rand.Int64N(int64(time.Second))), later: rand.IntN(2) == 0}
			wg.Go(func() {
				var seen int
				var err error
				switch i % 10 {
				case 3, 7:
					seen, err = k.process(f.fleetctl(t, "capture", "live", device, "-i", "eth0", "-f", filter), i%10 == 3)
				default:
					seen, err = k.reader(t.Context(), c, device, filter)
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				at[seen]++
				mu.Unlock()
			})
		}
		wg.Wait()
		jobs, err := unfinished(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range jobs {
			for range c.Events(t.Context(), job, 0) { // to its end
			}
		}
		f.WaitGone(t, "tcpdump")
		t.Logf("%d readers went before the first byte and %d later", at[0], at[1])
	}
}

// rename writes an inventory in which the bed has n names, and gives them.
func (f *fleet) rename(t *testing.T, n int) []string {
	t.Helper()
	_ = f.daemon.Process.Kill()
	_ = f.daemon.Wait()
	names := make([]string, n)
	var more strings.Builder
	for i := range n {
		names[i] = fmt.Sprintf("bed-%d", i)
		// Not all of them in one site: that has a limit, too.
		fmt.Fprintf(&more, "  - {name: %s, site: s%d, platform: linux, address: %q, credentials: default}\n", names[i], i%2, f.Server.Addr)
	}
	f.inventory(t, "sites:\n  s0: {}\n  s1: {}", more.String())
	f.start(t)
	return names
}

// unfinished gives the jobs that have not ended.
func unfinished(ctx context.Context, c *client.Client) ([]string, error) {
	var ids []string
	jobs, err := c.Jobs(ctx, api.JobQuery{Active: true, Limit: 2 * readersAtOnce})
	for _, job := range jobs.Rows {
		ids = append(ids, job.ID)
	}
	return ids, err
}

// kill is the end of a reader: at a moment after its start, or after its first bytes.
type kill struct {
	moment time.Duration
	later  bool
}

// wait waits for the moment; first is closed with the first bytes, or when none come.
func (k kill) wait(first <-chan struct{}) {
	if k.later {
		<-first
	}
	<-time.After(k.moment)
}

// reader is a reader of fleetd's that goes; 1 when bytes had come.
func (k kill) reader(ctx context.Context, c *client.Client, device, filter string) (int, error) {
	_, r, err := startLive(ctx, c, device, filter)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	first, got := make(chan struct{}), make(chan int, 1)
	go func() { got <- drain(r, first) }()
	k.wait(first)
	_ = r.Close()
	return <-got, nil
}

// process is a fleetctl that is killed, or whose output nobody reads any more.
func (k kill) process(r *reader, sigkill bool) (int, error) {
	r.Stdout = nil
	out, err := r.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := r.Start(); err != nil {
		return 0, err
	}
	first, got := make(chan struct{}), make(chan int, 1)
	go func() { got <- drain(out, first) }()
	k.wait(first)
	if sigkill {
		_ = r.Process.Kill()
	}
	_ = out.Close()
	seen := <-got
	err = r.Wait()
	var exit *exec.ExitError
	if sigkill || err == nil || seen == 0 && errors.As(err, &exit) && exit.ExitCode() == 1 {
		return seen, nil // nothing was captured, which is a failed job
	}
	return seen, fmt.Errorf("fleetctl without a reader: %w: %s", err, r.err.String())
}

// drain reads to the end and closes first with the first bytes, at the latest at the
// end; 1 when bytes came.
func drain(r io.Reader, first chan<- struct{}) int {
	n, _ := r.Read(make([]byte, 1))
	close(first)
	_, _ = io.Copy(io.Discard, r)
	return min(n, 1)
}

// A full disk ends the capture, and what is there is whole.
func TestB8LocalDiskFull(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(dir, 0) }()
	file := filepath.Join(dir, "x.pcap")
	r := f.fleetctl(t, "capture", "live", "bed", "-i", "eth0", "-f", "udp port 7", "-w", file)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	f.WaitRuns(t, "tcpdump", 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Send(ctx, 7, 1<<20, 1000, 200*time.Microsecond) })
	code := r.wait(t)
	cancel()
	wg.Wait()
	if code != 1 || !strings.Contains(r.err.String(), "disk is full") {
		t.Errorf("exit code %d\n%s", code, r.err.String())
	}
	f.WaitGone(t, "tcpdump")
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if all := packets(t, written); len(all) == 0 {
		t.Error("nothing is left of the capture")
	}
}
