package sim_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/sim"
)

// FuzzOrder: whatever is ordered, it is taken or refused as bad usage.
func FuzzOrder(f *testing.F) {
	for _, seed := range []string{"lon-probe-01:down", "*:slow=1s", "lon-*:flood=10MB", "x:y", "lon-probe-01:none=drop", ":", "[:down", "lon-ltm-01:sync=In Sync", "a:flood=9999999999GB"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		fleet, err := sim.New(sim.Options{Dir: dir, Devices: 8, Faults: []string{text}})
		if err != nil {
			if !errors.Is(err, sim.ErrInvalid) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if err := fleet.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzTyping: whatever a client types, the device lives and the session can be
// ended.
func FuzzTyping(f *testing.F) {
	for _, seed := range []string{
		"enable\rconf t\rno\r", "show ?\r", "\x1b[A\x1b[Z\x1b", "terminal length 5\rshow files system\r q", "\x7f\x7f\x17\x15\x03\x04",
		"tmsh\rlist sys db\ry\r", "run /util bash -c \"x\r", "echo <(x) >(y) ${x@Q} $((1/0))\r", "cd\rwhile :; do :; done\r\x03", "f() { f; }; trap f EXIT\r",
		"sudo sudo stty cols -1\r", "cat <<E\rE\r", "exec 3<>/dev/null; read x\r", "coproc x; wait\r", "declare -A a; a[x]=1; unset a; test -O /etc\r", "\xff\xfe\x00",
	} {
		for device := range byte(3) {
			f.Add(device, seed)
		}
	}
	fleet, err := sim.New(sim.Options{Dir: f.TempDir(), Devices: 8, Faults: []string{"*:boot_time=1ms", "*:install_time=1ms"}})
	if err != nil {
		f.Fatal(err)
	}
	if err := fleet.Start(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := fleet.Close(); err != nil {
			f.Error(err)
		}
	})
	raw, err := os.ReadFile(filepath.Join(fleet.Dir(), "id_ed25519"))
	if err != nil {
		f.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		f.Fatal(err)
	}
	addrs := map[byte]sim.DeviceInfo{}
	for _, d := range fleet.Devices() {
		addrs[map[string]byte{"endace_osm": 0, "f5_bigip": 1, "linux": 2}[d.Platform]] = d
	}
	f.Fuzz(func(t *testing.T, device byte, typed string) {
		d := addrs[device%3]
		var c *ssh.Client
		eventually(t, "login", func() bool { // what was typed before may have rebooted it
			var err error
			c, err = connect(d.Addr, &ssh.ClientConfig{User: d.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
				HostKeyCallback: ssh.InsecureIgnoreHostKey()})
			return err == nil
		})
		defer func() { _ = c.Close() }()
		s, err := c.NewSession()
		if err != nil {
			return // it is rebooting
		}
		out, err := s.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		in, err := s.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if s.RequestPty("xterm", 24, 80, nil) != nil || s.Shell() != nil {
			return
		}
		stop := time.AfterFunc(patience, func() { _ = c.Close() })
		defer stop.Stop()
		go func() {
			// Out of questions, pagers, commands and nested shells, then gone.
			_, _ = io.WriteString(in, typed+"\r\x03q\x03\x03")
			for range 20 {
				if _, err := io.WriteString(in, "\x15\x04"); err != nil {
					return
				}
			}
		}()
		if _, err := io.Copy(io.Discard, out); err != nil {
			t.Errorf("%s: %q: %v", d.Name, typed, err)
		}
		if !stop.Stop() {
			t.Errorf("%s: the session does not end after %q", d.Name, typed)
		}
	})
}
