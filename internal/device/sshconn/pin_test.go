package sshconn_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
)

func hostKey(host string, key ssh.PublicKey) device.HostKey {
	return device.HostKey{Device: "d", Host: host, Type: key.Type(), SHA256: ssh.FingerprintSHA256(key),
		PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))}
}

// accepts asks the library whether the file vouches for the key.
func accepts(tb testing.TB, path, addr string, key ssh.PublicKey) bool {
	tb.Helper()
	db, err := knownhosts.NewDB(path)
	if err != nil {
		tb.Fatal(err)
	}
	return db.HostKeyCallback()(addr, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, key) == nil
}

func read(tb testing.TB, path string) string {
	tb.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

func TestPinMakesHashedLinesThatOthersUnderstand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_hosts")
	a, b := newKey(t).PublicKey(), newRSAKey(t).PublicKey()
	keys := []device.HostKey{hostKey("lon-probe-1", a), hostKey("[192.0.2.11]:2222", a), hostKey("[2001:db8::1]:2222", b), hostKey("lon-probe-1", b)}
	added, unchanged, err := sshconn.PinHostKeys(t.Context(), path, keys, false)
	if err != nil || len(added) != 4 || len(unchanged) != 0 {
		t.Fatalf("added %v, unchanged %v, %v", added, unchanged, err)
	}
	content := read(t, path)
	if strings.Contains(content, "lon-probe") || strings.Contains(content, "192.0.2.11") {
		t.Errorf("names are readable:\n%s", content)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	for addr, key := range map[string]ssh.PublicKey{"lon-probe-1:22": a, "192.0.2.11:2222": a, "[2001:db8::1]:2222": b} {
		if !accepts(t, path, addr, key) {
			t.Errorf("the library does not find %s", addr)
		}
	}
	for _, name := range []string{"lon-probe-1", "[192.0.2.11]:2222", "[2001:db8::1]:2222"} {
		if out, err := exec.Command("ssh-keygen", "-F", name, "-f", path).CombinedOutput(); err != nil {
			t.Errorf("ssh-keygen does not find %s: %v %s", name, err, out)
		}
	}
	added, unchanged, err = sshconn.PinHostKeys(t.Context(), path, keys, false)
	if err != nil || len(added) != 0 || len(unchanged) != 4 {
		t.Errorf("again: added %v, unchanged %v, %v", added, unchanged, err)
	}
	if read(t, path) != content {
		t.Error("pinning what is known changed the file")
	}
}

func TestPinKeepsEverythingElse(t *testing.T) {
	oldKey, newKey, other := newKey(t).PublicKey(), newKey(t).PublicKey(), newKey(t).PublicKey()
	fields := func(k ssh.PublicKey) string { return strings.SplitN(xknownhosts.Line([]string{"x"}, k), " ", 2)[1] }
	kept := []string{
		"# a comment",
		"",
		"  other,192.0.2.9 " + fields(other) + " by hand",
		"lon-* " + fields(other),
		"@cert-authority *.example.com " + fields(other),
		"garbage",
	}
	file := strings.Join([]string{kept[0], kept[1], kept[2], "LON-1,alias " + fields(oldKey) + " comment", kept[3],
		xknownhosts.HashHostname("lon-1") + " " + fields(oldKey), kept[4], kept[5]}, "\n") // no line end at the end
	dir := t.TempDir()
	target, path := filepath.Join(dir, "real"), filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(target, []byte(file), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", path); err != nil {
		t.Fatal(err)
	}
	keys := []device.HostKey{hostKey("fresh", other), hostKey("lon-1", newKey)}

	_, _, err := sshconn.PinHostKeys(t.Context(), path, keys, false)
	wantFault(t, err, fault.Conflict, "host_key", "CHANGED", ":4 has", ssh.FingerprintSHA256(oldKey))
	if read(t, path) != file {
		t.Error("a refused pin changed the file")
	}
	added, _, err := sshconn.PinHostKeys(t.Context(), path, keys, true)
	if err != nil || len(added) != 2 {
		t.Fatalf("%v, %v", added, err)
	}
	lines := strings.Split(strings.TrimSuffix(read(t, path), "\n"), "\n")
	want := []string{kept[0], kept[1], kept[2], "alias " + fields(oldKey) + " comment", kept[3], kept[4], kept[5]}
	if len(lines) != len(want)+2 || strings.Join(lines[:len(want)], "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s\nand two hashed lines", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if st, err := os.Lstat(path); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", st, err)
	}
	if st, err := os.Stat(target); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
	srvKnows(t, path, newKey, oldKey)
}

// srvKnows looks through our own eyes: lon-1 has the new key and lost the old.
func srvKnows(t *testing.T, path string, fresh, stale ssh.PublicKey) {
	t.Helper()
	_, unchanged, err := sshconn.PinHostKeys(t.Context(), path, []device.HostKey{hostKey("lon-1", fresh)}, false)
	if err != nil || len(unchanged) != 1 {
		t.Errorf("the new key: %v, %v", unchanged, err)
	}
	_, _, err = sshconn.PinHostKeys(t.Context(), path, []device.HostKey{hostKey("lon-1", stale)}, false)
	wantFault(t, err, fault.Conflict, "host_key")
}

func TestPinRefuses(t *testing.T) {
	key := newKey(t).PublicKey()
	good := hostKey("lon-1", key)
	tests := map[string]struct {
		file   string
		change func(*device.HostKey)
		kind   fault.Kind
		text   string
	}{
		"a revoked key":          {"@revoked * " + strings.SplitN(xknownhosts.Line([]string{"x"}, key), " ", 2)[1] + "\n", func(*device.HostKey) {}, fault.HostKey, "REVOKED"},
		"an unreadable file":     {"@revoked * ssh-ed25519 AAAA\n", func(*device.HostKey) {}, fault.Invalid, "known_hosts:1"},
		"a line break in a name": {"", func(k *device.HostKey) { k.Host = "a\nb" }, fault.Invalid, "not a name"},
		"a wildcard":             {"", func(k *device.HostKey) { k.Host = "*" }, fault.Invalid, "not a name"},
		"a marker":               {"", func(k *device.HostKey) { k.Host = "@revoked" }, fault.Invalid, "not a name"},
		"no name":                {"", func(k *device.HostKey) { k.Host = "" }, fault.Invalid, "not a name"},
		"another fingerprint":    {"", func(k *device.HostKey) { k.SHA256 = "SHA256:x" }, fault.Invalid, "fingerprint"},
		"another type":           {"", func(k *device.HostKey) { k.Type = "ssh-rsa" }, fault.Invalid, "type"},
		"two keys in one":        {"", func(k *device.HostKey) { k.PublicKey += "\n" + k.PublicKey }, fault.Invalid, "cannot be read"},
		"no key":                 {"", func(k *device.HostKey) { k.PublicKey = "hello" }, fault.Invalid, "cannot be read"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := fileOf(t, "known_hosts", tt.file)
			bad := good
			tt.change(&bad)
			_, _, err := sshconn.PinHostKeys(t.Context(), path, []device.HostKey{hostKey("fine", newKey(t).PublicKey()), bad}, true)
			wantFault(t, err, tt.kind, "host_key", tt.text)
			if read(t, path) != tt.file {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("a folder that is not there", func(t *testing.T) {
		_, _, err := sshconn.PinHostKeys(t.Context(), t.TempDir()+"/none/known_hosts", []device.HostKey{good}, false)
		wantFault(t, err, fault.Storage, "host_key")
	})
}

func TestPinsAtOnceAreAllKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_hosts")
	key := newKey(t).PublicKey()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, _, err := sshconn.PinHostKeys(t.Context(), path, []device.HostKey{hostKey(fmt.Sprintf("h%d", i), key)}, i%2 == 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 40 {
		if !accepts(t, path, fmt.Sprintf("h%d:22", i), key) {
			t.Errorf("h%d was lost", i)
		}
	}
}
