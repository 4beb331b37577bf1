//go:build linux

package capture_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/capture/capturetest"
	"capfleet/internal/childtest"
)

// asFleetctl in the environment makes the test binary a fleetctl, for those who
// start it by a name of their own.
const asFleetctl = "CAPFLEET_TEST_AS_FLEETCTL"

// wireshark is an account without privileges, because tshark as root does not look
// into a folder of one's own, with our program in the folder.
type wireshark struct {
	fleet *fleet
	env   []string
	dir   string
}

const nobody = 65534

func newWireshark(t *testing.T) *wireshark {
	t.Helper()
	f := &fleet{Bed: capturetest.New(t), dir: t.TempDir()}
	f.inventory(t, "", "")
	if err := os.WriteFile(filepath.Join(f.dir, "group"), []byte("65534"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &wireshark{fleet: f, dir: t.TempDir()}
	for _, dir := range []string{f.dir, w.dir} {
		for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.start(t)
	// The test binary lies where nobody else gets.
	self := filepath.Join(w.dir, "fleetctl")
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	childtest.Executable(t, self, in)
	home := filepath.Join(w.dir, "home")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	w.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "WIRESHARK_EXTCAP_DIR=" + filepath.Join(home, "extcap"), asFleetctl + "=1", "LC_ALL=C.UTF-8"}
	if out, err := w.run(t, self, "--server", filepath.Join(f.dir, "s"), "extcap", "install"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return w
}

func (w *wireshark) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env, cmd.Dir = w.env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

func (w *wireshark) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := w.command(t, args...).CombinedOutput()
	return string(out), err
}

func TestWiresharkCaptures(t *testing.T) {
	t.Parallel()
	w := newWireshark(t)
	if out, err := w.run(t, "tshark", "-D"); err != nil || !strings.Contains(out, "capfleet-bed (Capture Fleet: bed (linux))") {
		t.Fatalf("tshark -D: %v\n%s", err, out)
	}
	cmd := w.command(t, "tshark", "-n", "-i", "capfleet-bed", "-f", "udp port 7", "-c", "3", "-T", "fields", "-e", "udp.dstport")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.fleet.WaitRuns(t, "tcpdump", 1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.fleet.Send(ctx, 7, 1<<20, 100, 20*time.Millisecond) })
	err := cmd.Wait()
	cancel()
	wg.Wait()
	if err != nil || strings.Count(out.String(), "7\n") != 3 {
		t.Errorf("tshark: %v\n%s%s", err, out.String(), errs.String())
	}
	w.fleet.WaitGone(t, "tcpdump")
}

// What is wrong is shown inside Wireshark, with the device and the remedy.
func TestWiresharkShowsErrors(t *testing.T) {
	t.Parallel()
	w := newWireshark(t)
	out, _ := w.run(t, "tshark", "-n", "-i", "capfleet-bed", "-f", "udp port 7", "-o", "extcap.capfleet_bed.deviceinterface:eth9", "-c", "3")
	for _, text := range []string{"bed", "eth9", "no such interface"} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in:\n%s", text, out)
		}
	}
}

// Wireshark asks at every start. Without fleetd it is answered from what is kept,
// and nothing is waited for.
func TestListIsAnsweredFromTheCache(t *testing.T) {
	t.Parallel()
	w := newWireshark(t)
	_ = w.fleet.daemon.Process.Kill()
	_ = w.fleet.daemon.Wait()
	program := filepath.Join(w.dir, "home", "extcap", "capfleet")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--extcap-interfaces", "--extcap-version=4.0"}, "interface {value=capfleet-bed}{display=Capture Fleet: bed (linux)}"},
		{[]string{"--extcap-dlts", "--extcap-interface", "capfleet-bed"}, "dlt {number=1}{name=EN10MB}"},
		{[]string{"--extcap-config", "--extcap-interface", "capfleet-bed"}, "{call=--device-interface}"},
		{[]string{"--extcap-interface", "capfleet-bed", "--extcap-capture-filter", "-w x"}, "brackets"},
	} {
		out, err := w.run(t, append([]string{program}, c.args...)...)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
	}
	// A filter that will do is answered with silence.
	if out, err := w.run(t, program, "--extcap-interface", "capfleet-bed", "--extcap-capture-filter", "tcp port 443"); err != nil || out != "" {
		t.Errorf("%v, %q", err, out)
	}
}
