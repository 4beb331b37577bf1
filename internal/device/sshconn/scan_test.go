package sshconn_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
)

func TestScanAgreesWithSSHKeyscan(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{HostKeys: []string{"rsa", "ecdsa", "ed25519"}})
	out, err := exec.Command("ssh-keyscan", "-p", strconv.Itoa(srv.Port), srv.Host).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "["+srv.Host+"]:"+strconv.Itoa(srv.Port) {
			want = append(want, f[1]+" "+f[2])
		}
	}
	slices.Sort(want)

	dev := srv.Device("probe")
	dev.KnownHosts = filepath.Join(t.TempDir(), "known_hosts") // nothing known
	d := newDialer(t, sshconn.Options{})
	keys, err := d.ScanHostKeys(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, 0, len(keys))
	for _, k := range keys {
		got = append(got, k.PublicKey)
		if k.Device != "probe" || k.Host != "["+srv.Host+"]:"+strconv.Itoa(srv.Port) || !strings.HasPrefix(k.PublicKey, k.Type+" ") {
			t.Errorf("%+v", k)
		}
	}
	if keys[0].Type != ssh.KeyAlgoED25519 {
		t.Errorf("the first is %s", keys[0].Type)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || len(got) != 3 {
		t.Errorf("ours\n%s\nssh-keyscan's\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	log, err := os.ReadFile(filepath.Join(srv.Dir, "sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sign := range []string{"Accepted", "Failed", "Postponed", "user " + srv.User} {
		if strings.Contains(string(log), sign) {
			t.Errorf("a login was begun (%q):\n%s", sign, log)
		}
	}
	// Scan, pin, connect: what `device trust` is for.
	if _, _, err := sshconn.PinHostKeys(t.Context(), dev.KnownHosts, keys, false); err != nil {
		t.Fatal(err)
	}
	dial(t, d, dev)
}

func TestFingerprintIsSSHKeygens(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	keys, err := newDialer(t, sshconn.Options{}).ScanHostKeys(t.Context(), srv.Device("probe"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	if out := sshdtest.Keygen(t, "-l", "-f", srv.HostKeys[0]+".pub"); !strings.Contains(out, " "+keys[0].SHA256+" ") {
		t.Errorf("%s is not in %s", keys[0].SHA256, out)
	}
}

func TestScanThroughJumpHost(t *testing.T) {
	bastion, target := sshdtest.Start(t, sshdtest.Options{}), sshdtest.Start(t, sshdtest.Options{HostKeys: []string{"ecdsa", "ed25519"}})
	dev := target.Device("probe")
	dev.Jump = []device.Hop{bastion.Hop("bastion")}
	dev.KnownHosts = sshdtest.KnownHosts(t, bastion)
	keys, err := newDialer(t, sshconn.Options{}).ScanHostKeys(t.Context(), dev)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	if n := bastion.Peak(); n != 1 {
		t.Errorf("%d connections to the bastion", n)
	}
	// The bastion itself has to be known.
	dev.KnownHosts = fileOf(t, "known_hosts", "")
	_, err = newDialer(t, sshconn.Options{}).ScanHostKeys(t.Context(), dev)
	wantFault(t, err, fault.HostKey, "jump", "jump host bastion")
}

func TestScanSendsNoCredential(t *testing.T) {
	srv := newServer(t).start(t)
	dev := srv.device(t, "probe")
	dev.Credentials.Password.File = "/nonexistent" // not even read
	keys, err := newDialer(t, sshconn.Options{}).ScanHostKeys(t.Context(), dev)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	if tried := srv.tried(); len(tried) > 0 {
		t.Errorf("attempts: %v", tried)
	}
}

func TestScanFails(t *testing.T) {
	t.Run("mute", func(t *testing.T) {
		srv := newServer(t)
		srv.wire = mute
		dev := srv.start(t).device(t, "probe")
		dev.SSH.ConnectTimeout = 100 * time.Millisecond
		_, err := newDialer(t, sshconn.Options{}).ScanHostKeys(t.Context(), dev)
		wantFault(t, err, fault.Timeout, "handshake", "connect to probe")
	})
	t.Run("old keys only", func(t *testing.T) {
		srv := newServer(t)
		old, err := ssh.NewSignerWithAlgorithms(newRSAKey(t).(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
		if err != nil {
			t.Fatal(err)
		}
		srv.keys = []ssh.Signer{old}
		dev := srv.start(t).device(t, "probe")
		d := newDialer(t, sshconn.Options{})
		_, err = d.ScanHostKeys(t.Context(), dev)
		wantFault(t, err, fault.Denied, "handshake", "legacy_algorithms")
		dev.SSH.LegacyAlgorithms = true
		if keys, err := d.ScanHostKeys(t.Context(), dev); err != nil || len(keys) != 1 {
			t.Errorf("%v, %v", keys, err)
		}
	})
	t.Run("down", func(t *testing.T) {
		dev := newServer(t).start(t).device(t, "probe")
		dev.Port = 1
		_, err := newDialer(t, sshconn.Options{}).ScanHostKeys(t.Context(), dev)
		wantFault(t, err, fault.Unreachable, "dial")
	})
}
