// Package bmctest has what tests of BMC readers need: the contract that every
// reader keeps, and OpenIPMI's simulator of a BMC (ipmi_sim), a real peer that
// ipmitool reads as well.
package bmctest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	startTimeout = 10 * time.Second
	loopback     = "127.0.0.1"
)

// Sim is a running ipmi_sim.
type Sim struct {
	Host string
	Port int
}

// SimCommand gives the command that runs ipmi_sim on a port of loopback with a log,
// byte for byte, and writes what it needs into dir. The log is loaded from the
// state file, because the simulator gives records that are added its own time. It
// ends with ctx.
func SimCommand(ctx context.Context, dir string, port int, log [][]byte) (*exec.Cmd, error) {
	state := filepath.Join(dir, "state", "ipmi_sim", "bmc")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	var sel strings.Builder
	for i := len(log) - 1; i >= 0; i-- { // highest index first
		fmt.Fprintf(&sel, "%d:d:", i+1)
		for _, b := range log[i] {
			fmt.Fprintf(&sel, "\\%02x", b)
		}
		sel.WriteByte('\n')
	}
	sel.WriteString("last_erase_time:i:0\nlast_add_time:i:1560890289\n")
	lan, emulation := filepath.Join(dir, "lan.conf"), filepath.Join(dir, "bmc.emu")
	for path, text := range map[string]string{
		filepath.Join(state, "sel.20"): sel.String(),
		lan: fmt.Sprintf(`name "bmc"
set_working_mc 0x20
  startlan 1
    addr %s %d
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  user 2 true "%s" "%s" admin 10 none md2 md5 straight
`, loopback, port, Username, Password),
		emulation: `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 4000 0x0a
mc_enable 0x20
`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return exec.CommandContext(ctx, "ipmi_sim", "-c", lan, "-f", emulation, "-s", filepath.Join(dir, "state"), "-n"), nil
}

// StartIPMISim runs ipmi_sim with a log until the test ends.
func StartIPMISim(t testing.TB, log [][]byte) *Sim {
	t.Helper()
	sim := &Sim{Host: loopback, Port: freeUDPPort(t)}
	ctx, cancel := context.WithCancel(context.Background())
	var output bytes.Buffer
	cmd, err := SimCommand(ctx, t.TempDir(), sim.Port, log)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatalf("ipmi_sim (package openipmi): %v", err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("ipmi_sim said: %s", output.Bytes())
		}
	})
	sim.await(t)
	return sim
}

// await pings until the simulator answers.
func (s *Sim) await(t testing.TB) {
	t.Helper()
	conn, err := net.Dial("udp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Get Channel Authentication Capabilities outside of a session.
	ask := []byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x20, 0x18, 0xc8, 0x81, 0, 0x38, 0x8e, 4, 0xb5}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	end := time.Now().Add(startTimeout)
	for reply := make([]byte, 256); time.Now().Before(end); <-again.C {
		if _, err := conn.Write(ask); err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := conn.Read(reply); err == nil {
			return
		}
	}
	t.Fatal("ipmi_sim does not answer")
}

func (s *Sim) addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// SELList gives the columns of `ipmitool sel list`, record by record.
func (s *Sim) SELList(t testing.TB) [][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ipmitool", "-I", "lanplus", "-H", s.Host, "-p", strconv.Itoa(s.Port), "-U", Username, "-E", "-C", "3", "sel", "list")
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+Password)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ipmitool: %v", err)
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		columns := strings.Split(line, "|")
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		if len(columns) >= 6 || len(columns) >= 5 && columns[1] == "Pre-Init" {
			rows = append(rows, columns)
		}
	}
	return rows
}

func freeUDPPort(t testing.TB) int {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
}
