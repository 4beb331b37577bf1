package sim_test

import (
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/sim"
)

func simOptions24() sim.Options { return sim.Options{Faults: []string{"*:boot_time=20ms"}} }

func TestEveryOrderIsTakenAndCleared(t *testing.T) {
	f := startFleet(t, quick())
	seen := map[string]bool{}
	for _, o := range sim.Orders() {
		if o.Name == "" || o.Description == "" || seen[o.Name] {
			t.Errorf("order %+v", o)
		}
		seen[o.Name] = true
		device := map[string]string{"endace_osm": "lon-probe-05", "f5_bigip": "lon-ltm-02", "linux, f5_bigip": "lon-cap-01", "": "lon-probe-05"}[o.Platform]
		arg := ""
		if strings.HasPrefix(o.Argument, "=") {
			arg = "=" + strings.Split(strings.TrimPrefix(o.Argument, "="), "|")[0]
			if example, ok := map[string]string{"=DURATION": "=50ms", "=STATE": "=In Sync", "=PACKAGE": "=OSm6.4.x-CumulativeHotfix-v1"}[arg]; ok {
				arg = example
			}
		}
		if err := f.Order(device, o.Name+arg); err != nil {
			t.Errorf("%s%s: %v", o.Name, arg, err)
		}
		if o.Kind != "event" {
			if err := f.Order(device, "none="+o.Name); err != nil {
				t.Errorf("clear %s: %v", o.Name, err)
			}
		}
	}
	for _, name := range []string{"down", "mute", "unreachable", "mute_after_login", "auth_fail", "host_key_changed", "slow", "drip", "flood",
		"drop", "prompt_in_output", "split_escapes", "session_limit", "refuse_command", "garbled", "old_algorithms", "hang_command",
		"takeover", "failover_flap", "enable_password", "banner", "reboot_loop"} {
		if !seen[name] && name != "unreachable" {
			t.Errorf("no fault %s", name)
		}
	}
	for _, fault := range sim.Faults() {
		if fault.Kind != "fault" {
			t.Errorf("%s is listed as a fault", fault.Name)
		}
	}
}

func TestBadOrders(t *testing.T) {
	f := startFleet(t, quick())
	for _, o := range [][2]string{
		{"lon-probe-1", "down"}, {"nowhere-*", "down"}, {"[", "down"}, {"lon-probe-01", "dwn"}, {"lon-probe-01", ""}, {"", "down"},
		{"lon-probe-01", "slow=soon"}, {"lon-probe-01", "slow="}, {"lon-probe-01", "slow=-1s"}, {"lon-probe-01", "session_limit=0"},
		{"lon-probe-01", "flood=lots"}, {"lon-probe-01", "flood=1XB"}, {"lon-probe-01", "down=1"}, {"lon-probe-01", "units"},
		{"lon-probe-01", "units=furlongs"}, {"lon-probe-01", "failover_flap"}, {"lon-ltm-01", "takeover"}, {"lon-probe-01", "drop=x"},
		{"lon-probe-01", "reboot=1"}, {"lon-probe-01", "none=nothing"}, {"lon-probe-01", "boot_time"},
	} {
		if err := f.Order(o[0], o[1]); !errors.Is(err, sim.ErrInvalid) {
			t.Errorf("%s:%s gives %v", o[0], o[1], err)
		}
	}
	if err := f.Order("*", "takeover"); err != nil {
		t.Errorf("a glob reaches those that know the fault: %v", err)
	}
	for _, opts := range []sim.Options{{}, {Devices: -1}, {Devices: 1 << 30}, {TurnDelay: -1}, {Faults: []string{"down"}}, {Faults: []string{"x:down"}}} {
		if opts.Devices != 0 || opts.Faults != nil || opts.TurnDelay != 0 {
			opts.Dir = t.TempDir()
		}
		if _, err := sim.New(opts); !errors.Is(err, sim.ErrInvalid) {
			t.Errorf("%+v gives %v", opts, err)
		}
	}
}

func TestDown(t *testing.T) {
	f := startFleet(t, quick())
	d := info(t, f, "lon-probe-01")
	x := openShell(t, login(t, f, d.Name), 80, 24)
	x.expect(`> \z`)
	order(t, f, d.Name, "down")
	x.ended()
	if _, err := net.Dial("tcp", d.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial gives %v", err)
	}
	order(t, f, d.Name, "none")
	login(t, f, d.Name)
}

func TestMute(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:unreachable"))
	conn, err := net.Dial("tcp", info(t, f, "lon-probe-01").Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "SSH-2.0-test\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestMuteAfterLogin(t *testing.T) {
	f := startFleet(t, quick("lon-cap-01:mute_after_login"))
	c := login(t, f, "lon-cap-01")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run("true") }()
	select {
	case err := <-done:
		t.Errorf("answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	_ = c.Close()
	if err := <-done; err == nil {
		t.Error("a command that was never answered succeeds")
	}
}

func TestHostKeyChanged(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:host_key_changed"))
	addr := info(t, f, "lon-probe-01").Addr
	if _, err := connect(addr, clientConfig(t, f, "fleet")); err == nil || !strings.Contains(err.Error(), "key mismatch") {
		t.Errorf("a changed key gives %v", err)
	}
	if strings.Contains(journal(t, f), `"event":"login"`) {
		t.Error("a credential was sent")
	}
	order(t, f, "lon-probe-01", "none=host_key_changed")
	login(t, f, "lon-probe-01")
}

func TestOldAlgorithms(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:old_algorithms"))
	addr := info(t, f, "lon-probe-01").Addr
	var negotiate *ssh.AlgorithmNegotiationError
	if _, err := connect(addr, clientConfig(t, f, "fleet")); !errors.As(err, &negotiate) {
		t.Errorf("a client of today gets %v", err)
	}
	config := clientConfig(t, f, "fleet")
	config.HostKeyAlgorithms = []string{ssh.KeyAlgoRSA}
	config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH1SHA1}
	config.Ciphers = []string{ssh.InsecureCipherTripleDESCBC}
	config.MACs = []string{ssh.HMACSHA1}
	c, err := connect(addr, config) // known_hosts holds the RSA key as well
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// withFault runs a report on a probe, a BIG-IP and a Linux host.
func withFault(t *testing.T, fault string, check func(device, out, healthy string)) {
	t.Helper()
	f := startFleet(t, quick())
	x := probe(t, f)
	plain := x.do("show files system", "lon-probe-01 # ")
	order(t, f, "lon-probe-01", fault)
	x.send("show files system\r")
	got := x.expect(`/dev/md2[^#]*lon-probe-01 # \z`)
	got = strings.TrimSuffix(strings.TrimPrefix(got, "show files system\r\n"), "lon-probe-01 # ")
	check("lon-probe-01", got, plain)
	for device, line := range map[string]string{"lon-ltm-01": "tmsh show sys software", "lon-cap-01": "df -P"} {
		c := login(t, f, device)
		plain, _, _ := execute(t, c, line)
		order(t, f, device, fault)
		got, _, _ := execute(t, c, line)
		check(device, got, plain)
	}
}

func TestSplitEscapes(t *testing.T) {
	withFault(t, "split_escapes", func(device, out, healthy string) {
		if !strings.Contains(out, "\x1b[1;32m") {
			t.Errorf("%s: no colours in %q", device, out)
		}
		if got := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(out, ""); got != healthy {
			t.Errorf("%s: beneath the colours is %q, want %q", device, got, healthy)
		}
	})
}

func TestPromptInOutput(t *testing.T) {
	withFault(t, "prompt_in_output=1ms", func(device, out, healthy string) {
		own := map[string]string{"lon-probe-01": "lon-probe-01 # ", "lon-ltm-01": "[root@lon-ltm-01:Active:In Sync] config # ", "lon-cap-01": "capture@lon-cap-01:~$ "}[device]
		if device == "lon-ltm-01" {
			own = "root@(lon-ltm-01)(cfg-sync In Sync)(Active)(/Common)(tmos)# "
		}
		eol := "\n"
		if device == "lon-probe-01" {
			eol = "\r\n"
		}
		if !strings.Contains(out, eol+own+eol) || !strings.Contains(out, strings.TrimSpace(own)+" show log"+eol) || !strings.Contains(out, "other-device-77") {
			t.Errorf("%s: no prompts in %q", device, out)
		}
		for line := range strings.Lines(healthy) {
			if !strings.Contains(out, line) {
				t.Errorf("%s: %q is missing", device, line)
			}
		}
	})
}

func TestGarbled(t *testing.T) {
	withFault(t, "garbled", func(device, out, healthy string) {
		if out == healthy || !strings.Contains(out, "| ") {
			t.Errorf("%s: %q", device, out)
		}
	})
}

func TestRefuseCommand(t *testing.T) {
	f := startFleet(t, quick("*:refuse_command"))
	x := probe(t, f)
	if got := x.do("show version", "lon-probe-01 # "); !strings.HasPrefix(got, "% Unrecognized command") {
		t.Errorf("a probe says %q", got)
	}
	if _, errs, status := execute(t, login(t, f, "lon-ltm-01", "admin"), "show sys version"); status == 0 || !strings.HasPrefix(errs, "Syntax Error: ") {
		t.Errorf("a BIG-IP says %q", errs)
	}
	if _, errs, status := execute(t, login(t, f, "lon-cap-01"), "df -P"); status != 127 || !strings.Contains(errs, "command not found") {
		t.Errorf("a Linux host says %q", errs)
	}
	order(t, f, "lon-probe-01", "none")
	order(t, f, "lon-probe-01", "refuse_command=show erf")
	x.do("show erfstream rotation-file", "lon-probe-01 # ")
	if got := x.do("show erfstream rotation-file", "lon-probe-01 # "); !strings.HasPrefix(got, "% ") {
		t.Errorf("the ordered command gives %q", got)
	}
	if got := x.do("show packages", "lon-probe-01 # "); strings.HasPrefix(got, "% ") {
		t.Errorf("another command gives %q", got)
	}
}

func TestDropHeals(t *testing.T) {
	f := startFleet(t, quick())
	whole, _, _ := execute(t, login(t, f, "lon-cap-01"), "df -P")
	order(t, f, "lon-cap-01", "drop=2")
	for range 2 {
		c := login(t, f, "lon-cap-01")
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Output("df -P")
		var missing *ssh.ExitMissingError
		if !errors.As(err, &missing) || len(out) >= len(whole) {
			t.Errorf("a cut command gives %q, %v", out, err)
		}
		if _, err := c.NewSession(); err == nil {
			t.Error("the connection survives the cut")
		}
	}
	if out, _, status := execute(t, login(t, f, "lon-cap-01"), "df -P"); status != 0 || out != whole {
		t.Errorf("after it healed: %q", out)
	}
}

func TestHang(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:hang_command"))
	x := probe(t, f)
	x.send("show version\r")
	x.expect(`show version\r\n\z`)
	x.send("\x03\r\r")
	select {
	case b := <-x.out:
		t.Errorf("answered %q", b)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestFlood(t *testing.T) {
	f := startFleet(t, quick("*:flood=3MB"))
	out, _, status := execute(t, login(t, f, "lon-cap-01"), "df -P")
	if len(out) != 3e6 || status != 0 || !strings.HasSuffix(out, "\n") {
		t.Errorf("%d bytes, status %d", len(out), status)
	}
	order(t, f, "lon-cap-01", "flood")
	c := login(t, f, "lon-cap-01")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("df -P"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 20<<20); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestSlowAndDrip(t *testing.T) {
	f := startFleet(t, quick("lon-cap-01:slow=60ms", "lon-probe-01:drip=1ms"))
	start := time.Now()
	execute(t, login(t, f, "lon-cap-01"), "true")
	if took := time.Since(start); took < 60*time.Millisecond {
		t.Errorf("a slow device answers in %v", took)
	}
	c := login(t, f, "lon-probe-01")
	start = time.Now()
	x := openShell(t, c, 80, 24)
	for !strings.HasSuffix(x.seen.String(), "lon-probe-01 > ") {
		x.seen.Write(<-x.out)
	}
	// How many bytes come at once is up to how soon we read them.
	if took, n := time.Since(start), x.seen.Len(); took < time.Duration(n-1)*time.Millisecond {
		t.Errorf("%d bytes took %v", n, took)
	}
}

func TestTurnDelay(t *testing.T) {
	opts := quick()
	opts.TurnDelay = 40 * time.Millisecond
	f := startFleet(t, opts)
	x := openShell(t, login(t, f, "lon-probe-01"), 80, 24)
	x.expect(`> \z`)
	start := time.Now()
	x.do("enable", "lon-probe-01 # ")
	x.do("show clock", "lon-probe-01 # ")
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("two turns took %v", took)
	}
}

func TestBanner(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:banner"))
	config := clientConfig(t, f, "fleet")
	banner := ""
	config.BannerCallback = func(text string) error { banner = text; return nil }
	c, err := connect(info(t, f, "lon-probe-01").Addr, config)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(banner, "noc@example.net >") {
		t.Errorf("banner %q", banner)
	}
	x := openShell(t, c, 80, 24)
	x.expect(`lon-probe-01 # change freeze until Monday >\r\n(.*\r\n)+lon-probe-01 > \z`)
}

func TestRebootLoop(t *testing.T) {
	f := startFleet(t, quick("lon-probe-01:reboot_loop=10ms"))
	eventually(t, "three boots", func() bool { return strings.Count(journal(t, f), `"event":"boot"`) >= 3 })
	order(t, f, "lon-probe-01", "none=reboot_loop")
	eventually(t, "rest", func() bool {
		j := journal(t, f)
		return strings.Count(j, `"event":"boot"`) == strings.Count(j, `"event":"reload"`)
	})
	eventually(t, "login", func() bool {
		c, err := connect(info(t, f, "lon-probe-01").Addr, clientConfig(t, f, "fleet"))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}
