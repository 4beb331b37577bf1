//go:build linux

package capture_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/bmc/bmctest"
	"capfleet/internal/childtest"
)

// startRings begins rings of one device in a fleet and gives their job once they run.
func (f *fleet) startRings(t *testing.T, device string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	start := f.fleetctl(t, append([]string{"capture", "start", device, "--on", "eth0=udp port 9", "--ring", "2x1MB", "--min-free", "0",
		"--dir", dir, "--after", "0s", "--limit", "15m", "--detach"}, args...)...)
	if code := start.run(t); code != 0 {
		t.Fatalf("start ends with %d: %s", code, start.err.String())
	}
	awaitFiles(t, filepath.Join(dir, "*", "*.pcap0"), 1)
	return strings.TrimSpace(string(start.out.bytes()))
}

// stoppedBy waits for the end of rings and gives what stopped them.
func (f *fleet) stoppedBy(t *testing.T, job string) string {
	t.Helper()
	watch := f.fleetctl(t, "job", "watch", job)
	if code := watch.run(t); code != 0 {
		t.Fatalf("the rings end with %d: %s%s", code, watch.out.bytes(), watch.err.String())
	}
	f.WaitGone(t, "tcpdump")
	rows := f.ringRows(t, "capture", "list", job)
	if len(rows) != 1 {
		t.Fatalf("%v", rows)
	}
	return fmt.Sprint(rows[0]["stopped_by"])
}

// An event of the device's BMC ends its rings; one that was in the log before does not.
// The BMC is OpenIPMI's, and ipmitool adds the event.
func TestUntilSEL(t *testing.T) {
	t.Parallel()
	sim := bmctest.StartIPMISim(t, [][]byte{
		{1, 0, 2, 0x40, 0x8c, 0x09, 0x5d, 0x20, 0, 4, 0x01, 0x30, 0x01, 0x59, 0xff, 0xff}, // a temperature, in 2019
	})
	f := newFleet(t)
	f.stop(t)
	f.inventory(t, fmt.Sprintf("  bmc: {username: %s, password: {env: CAPFLEET_TEST_BMC}}", bmctest.Username),
		fmt.Sprintf("  - name: probe\n    platform: linux\n    address: %q\n    credentials: default\n    bmc: {protocol: ipmi_lan, address: %q, credentials: bmc}\n",
			f.Server.Addr, net.JoinHostPort(sim.Host, strconv.Itoa(sim.Port))))
	f.environ = []string{"CAPFLEET_TEST_BMC=" + bmctest.Password}
	f.start(t)
	job := f.startRings(t, "probe", "--until-sel", "(?i)temperature")

	event := filepath.Join(t.TempDir(), "event")
	if err := os.WriteFile(event, []byte("0x04 0x01 0x31 0x01 0x59 0xff 0xff # another temperature\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	add := exec.CommandContext(t.Context(), "ipmitool", "-I", "lanplus", "-H", sim.Host, "-p", strconv.Itoa(sim.Port), "-U", bmctest.Username, "-E", "-C", "3", "sel", "add", event)
	add.Env = append(os.Environ(), "IPMI_PASSWORD="+bmctest.Password)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ipmitool: %v: %s", err, out)
	}
	if why := f.stoppedBy(t, job); !strings.Contains(why, "event: ") || !strings.Contains(strings.ToLower(why), "temperature") {
		t.Errorf("stopped by %s", why)
	}
}

// Another job's failure ends rings: here of a device that answers the dial and nothing
// more, until it is gone.
func TestUntilJob(t *testing.T) {
	t.Parallel()
	tarpit, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var held sync.WaitGroup
	gone := make(chan struct{})
	held.Go(func() {
		for {
			conn, err := tarpit.Accept()
			if err != nil {
				return
			}
			held.Go(func() {
				<-gone
				_ = conn.Close()
			})
		}
	})
	defer held.Wait()
	end := sync.OnceFunc(func() {
		close(gone)
		_ = tarpit.Close()
	})
	defer end()

	f := newFleet(t)
	f.stop(t)
	f.inventory(t, "", fmt.Sprintf("  - {name: tarpit, platform: linux, address: %q, credentials: default, ssh: {connect_timeout: 10m}}\n", tarpit.Addr()))
	f.start(t)
	c, err := client.New(filepath.Join(f.dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other, err := c.Submit(t.Context(), api.JobRequest{Operation: "capture", Spec: json.RawMessage(`{"live":{"interface":"eth0"}}`),
		Selection: api.Selection{Names: []string{"tarpit"}}})
	if err != nil {
		t.Fatal(err)
	}
	job := f.startRings(t, "bed", "--until-job", other.ID)
	end()
	if why := f.stoppedBy(t, job); !strings.Contains(why, "job "+other.ID+": failed") {
		t.Errorf("stopped by %s", why)
	}
	late := f.fleetctl(t, "capture", "start", "bed", "--on", "eth0", "--until-job", other.ID)
	if code := late.run(t); code != 4 || !strings.Contains(late.err.String(), "has ended already") {
		t.Errorf("%d: %s", code, late.err.String())
	}
}

// A host whose tcpdump only root may use, and a real sudo: its own search path leads
// past the tcpdump that refuses.
func TestSudo(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	refusing := "#!/bin/sh\nfor a; do case $a in -h|-D|--version) exec /usr/bin/tcpdump \"$@\" ;; esac; done\n" +
		"echo \"tcpdump: eth0: You don't have permission to perform this capture on that device\" >&2\nexit 1\n"
	childtest.Executable(t, filepath.Join(bin, "tcpdump"), strings.NewReader(refusing))
	f := newFleet(t, "SetEnv PATH="+bin+":/usr/bin:/bin")
	for _, args := range [][]string{{"live", "bed", "-i", "eth0"}, {"start", "bed", "--on", "eth0", "--dir", t.TempDir(), "--min-free", "0"}} {
		refused := f.fleetctl(t, append([]string{"capture"}, args...)...)
		if code := refused.run(t); code != 1 || !strings.Contains(refused.err.String(), "--sudo") || !strings.Contains(refused.err.String(), "permission") {
			t.Errorf("%v without sudo: %d\n%s", args, code, refused.err.String())
		}
	}

	// Our own session is left out although sudo keeps little of the environment.
	live := f.fleetctl(t, "capture", "live", "bed", "-i", "eth0", "-f", "udp port 9 or tcp", "--sudo")
	if err := live.Start(); err != nil {
		t.Fatal(err)
	}
	live.out.waitFor(t, 24)
	if err := f.Send(t.Context(), 9, 1, 100, 0); err != nil {
		t.Fatal(err)
	}
	live.out.waitFor(t, 24+16+142)
	_ = f.daemon.Process.Kill() // nobody is left who would end it politely
	f.WaitGone(t, "tcpdump")
	_ = f.daemon.Wait()
	_ = live.Process.Kill()
	_ = live.wait(t)
	if all := packets(t, live.out.bytes()); len(all) != 1 {
		t.Errorf("%d packets, want the one that was sent", len(all))
	}

	f.start(t)
	job := f.startRings(t, "bed", "--sudo")
	if err := f.Send(t.Context(), 9, 20, 100, 0); err != nil {
		t.Fatal(err)
	}
	stop := f.fleetctl(t, "capture", "stop", job)
	if code := stop.run(t); code != 0 {
		t.Errorf("stop ends with %d: %s", code, stop.err.String())
	}
	f.stoppedBy(t, job)
	if n := f.ringRows(t, "capture", "list", job)[0]["packets"]; n != 20.0 {
		t.Errorf("%v packets", n)
	}
}
