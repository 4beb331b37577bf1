package sshconn

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
	"pgregory.net/rapid"
)

// testKey makes the n-th key; the same every time.
func testKey(n int) ssh.PublicKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0], seed[1] = byte(n), byte(n>>8)
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed).Public())
	if err != nil {
		panic(err)
	}
	return key
}

func keyFields(n int) string {
	return strings.SplitN(xknownhosts.Line([]string{"x"}, testKey(n)), " ", 2)[1]
}

var (
	drawHost = rapid.SampledFrom([]string{"a", "b", "lon-probe-1", "lon-probe-2", "192.0.2.11", "192.0.2.1", "2001:db8::1"})
	drawPort = rapid.SampledFrom([]int{22, 22, 2222, 8022})
)

var (
	allGlobs = []string{"*", "lon-*", "lon-probe-?", "!lon-probe-1", "192.0.2.*", "?", "!a", "192.0.2.1?", "[lon-*]:2222", "*b*", "**1"}
	// Without those that the library reads otherwise than OpenSSH: for it a * at
	// the end does not stand for nothing.
	sharedGlobs = slices.DeleteFunc(slices.Clone(allGlobs), func(p string) bool { return p == "*b*" })
)

// drawPattern draws the host field of a line.
func drawPattern(t *rapid.T, globs []string) string {
	if len(globs) == 0 || rapid.IntRange(0, 2).Draw(t, "kind") > 0 {
		name := hostName(drawHost.Draw(t, "host"), drawPort.Draw(t, "port"))
		if rapid.Bool().Draw(t, "hashed") {
			return xknownhosts.HashHostname(name)
		}
		if rapid.Bool().Draw(t, "two") {
			name += "," + hostName(drawHost.Draw(t, "host"), drawPort.Draw(t, "port"))
		}
		return name
	}
	list := rapid.SliceOfN(rapid.SampledFrom(globs), 1, 3)
	return strings.Join(list.Draw(t, "patterns"), ",")
}

func drawFile(t *rapid.T, globs []string) string {
	var b strings.Builder
	for range rapid.IntRange(0, 6).Draw(t, "lines") {
		switch rapid.IntRange(0, 9).Draw(t, "line") {
		case 0:
			b.WriteString("# comment\n")
		case 1:
			b.WriteString("\n")
		default:
			fmt.Fprintf(&b, "%s %s\n", drawPattern(t, globs), keyFields(rapid.IntRange(0, 3).Draw(t, "key")))
		}
	}
	return b.String()
}

// TestLookupAgreesWithSSHKeygen asks OpenSSH which lines are a host's.
func TestLookupAgreesWithSSHKeygen(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		content := drawFile(t, allGlobs)
		path := filepath.Join(dir, "known_hosts")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		hosts, err := parseKnownHosts(path, []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		name := hostName(drawHost.Draw(t, "host"), drawPort.Draw(t, "port"))
		ours := []string{}
		for _, at := range hosts.named(name) {
			ours = append(ours, strconv.Itoa(hosts.lines[at].number))
		}
		for _, at := range hosts.globs {
			if matchPatterns(hosts.lines[at].patterns, name) {
				ours = append(ours, strconv.Itoa(hosts.lines[at].number))
			}
		}
		theirs := []string{}
		out, _ := exec.Command("ssh-keygen", "-F", name, "-f", path).Output() // it fails when nothing is found
		for line := range strings.SplitSeq(string(out), "\n") {
			if number, ok := strings.CutPrefix(line, "# Host "+name+" found: line "); ok {
				theirs = append(theirs, strings.Fields(number)[0])
			}
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		if !slices.Equal(ours, theirs) {
			t.Fatalf("lines of %s: ours %v, ssh-keygen's %v in\n%s", name, ours, theirs, content)
		}
	})
}

// TestCheckAgreesWithSkeema compares the verdict with the library's. Wildcards
// are left out where OpenSSH and the library differ (a wildcard and a port).
func TestCheckAgreesWithSkeema(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		wildcards := rapid.Bool().Draw(t, "wildcards")
		var globs []string
		if wildcards {
			globs = sharedGlobs
		}
		content := drawFile(t, globs)
		path := filepath.Join(dir, "known_hosts")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		hosts, err := parseKnownHosts(path, []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := knownhosts.NewDB(path)
		if err != nil {
			t.Fatal(err)
		}
		host, port := drawHost.Draw(t, "host"), 22
		if !wildcards {
			port = drawPort.Draw(t, "port")
		}
		key := testKey(rapid.IntRange(0, 3).Draw(t, "presented"))
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		want := theirs.HostKeyCallback()(addr, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 200), Port: port}, key)
		got := hosts.check(host, port, key)
		gotErr, ok := errors.AsType[*hostKeyError](got)
		switch {
		case want == nil && got == nil:
		case want != nil && ok && knownhosts.IsHostUnknown(want) == (gotErr.reason == keyUnknown) && knownhosts.IsHostKeyChanged(want) == (gotErr.reason == keyChanged):
		default:
			t.Fatalf("%s with %v in\n%s\nours %v, theirs %v", addr, key, content, got, want)
		}
		algs := orderHostKeys([]string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoED25519}, hosts.lookup(host, port))
		if known := len(theirs.HostKeyAlgorithms(addr)) > 0; known != (algs[0] == ssh.KeyAlgoED25519) {
			t.Fatalf("order %v, the library knows %v", algs, theirs.HostKeyAlgorithms(addr))
		}
	})
}

func TestWildcardHoldsForEveryPort(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		host    string
		port    int
		want    bool
	}{
		{"*", "a", 2222, true},
		{"lon-*", "lon-1", 2222, true},
		{"*.example.com", "x.example.com", 2222, true},
		{"*.example.com,!x.example.com", "x.example.com", 2222, false},
		{"x.example.com", "x.example.com", 2222, false},
		{"[x.example.com]:22", "x.example.com", 22, true},
		{"[*]:2222", "a", 2222, true},
		{"[*]:2222", "a", 22, false},
		{"LON-1", "lon-1", 22, true},
		{"lon-1", "LON-1", 22, true},
		{"2001:db8::1", "2001:db8::1", 22, true},
		{"[2001:db8::1]:2222", "2001:db8::1", 2222, true},
	} {
		hosts, err := parseKnownHosts("f", []byte(tt.pattern+" "+keyFields(1)+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := hosts.check(tt.host, tt.port, testKey(1)) == nil; got != tt.want {
			t.Errorf("%s for %s port %d: %v", tt.pattern, tt.host, tt.port, got)
		}
	}
}

func TestLinesThatAreNoHostKeys(t *testing.T) {
	content := strings.Join([]string{
		"a 1024 35 1234567890",             // SSH version 1
		"nonsense",                         // 2
		"|1|bad " + keyFields(1),           // 3
		"@unknown a " + keyFields(1),       // 4
		"b " + keyFields(1) + " a comment", // fine
		"c ssh-rsa " + strings.Fields(keyFields(1))[1],
	}, "\r\n")
	hosts, err := parseKnownHosts("f", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(hosts.ignored, []int{1, 2, 3, 4}) {
		t.Errorf("ignored %v", hosts.ignored)
	}
	if err := hosts.check("b", 22, testKey(1)); err != nil {
		t.Error(err)
	}
	if err := hosts.check("c", 22, testKey(1)); err == nil || !strings.Contains(err.Error(), "f:6") {
		t.Errorf("a line with two types: %v", err)
	}
}

func TestMatchGlobIsNotExponential(t *testing.T) {
	if matchGlob(strings.Repeat("*a", 40), strings.Repeat("a", 200)+"b") {
		t.Error("matched")
	}
}

// TestHostCertificate has ssh-keygen sign a host key.
func TestHostCertificate(t *testing.T) {
	dir := t.TempDir()
	keygen := func(args ...string) {
		t.Helper()
		cmd := exec.Command("ssh-keygen", append([]string{"-q"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	read := func(name string) ssh.PublicKey {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(raw)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	keygen("-t", "ed25519", "-N", "", "-f", "ca")
	keygen("-t", "ed25519", "-N", "", "-f", "other-ca")
	keygen("-t", "ed25519", "-N", "", "-f", "host")
	keygen("-s", "ca", "-I", "host", "-h", "-n", "lon-probe-1", "host.pub")
	cert, ca, plain := read("host-cert.pub"), read("ca.pub"), read("host.pub")
	line := func(marker, hosts string, key ssh.PublicKey) string {
		return strings.TrimSpace(marker+" "+hosts+" "+string(ssh.MarshalAuthorizedKey(key))) + "\n"
	}
	tests := map[string]struct {
		file string
		host string
		ok   bool
	}{
		"authority for the host": {line("@cert-authority", "lon-*", ca), "lon-probe-1", true},
		"another host's name":    {line("@cert-authority", "lon-*", ca), "lon-probe-2", false},
		"authority for others":   {line("@cert-authority", "nyc-*", ca), "lon-probe-1", false},
		"another authority":      {line("@cert-authority", "lon-*", read("other-ca.pub")), "lon-probe-1", false},
		"authority as plain key": {line("", "lon-probe-1", ca), "lon-probe-1", false},
		"revoked key":            {line("@cert-authority", "lon-*", ca) + line("@revoked", "*", plain), "lon-probe-1", false},
		"revoked authority":      {line("@cert-authority", "lon-*", ca) + line("@revoked", "*", ca), "lon-probe-1", false},
	}
	for name, tt := range tests {
		hosts, err := parseKnownHosts("f", []byte(tt.file))
		if err != nil {
			t.Fatal(err)
		}
		if err := hosts.check(tt.host, 22, cert); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
		// An authority's key is no host key.
		if err := hosts.check(tt.host, 22, ca); (err == nil) != (name == "authority as plain key") {
			t.Errorf("%s: the authority's key as a host key: %v", name, err)
		}
	}
	hosts, err := parseKnownHosts("f", []byte(line("@cert-authority", "lon-*", ca)))
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{ssh.KeyAlgoED25519, ssh.CertAlgoED25519v01}
	if got := orderHostKeys(allowed, hosts.lookup("lon-1", 22)); got[0] != ssh.CertAlgoED25519v01 {
		t.Errorf("with an authority: %v", got)
	}
	if got := orderHostKeys(allowed, hosts.lookup("nyc-1", 22)); slices.Contains(got, ssh.CertAlgoED25519v01) {
		t.Errorf("without an authority: %v", got)
	}
}

func FuzzParseKnownHosts(f *testing.F) {
	f.Add([]byte("a " + keyFields(1) + "\n@revoked * " + keyFields(2)))
	f.Add([]byte("|1|" + strings.Repeat("A", 28) + "|" + strings.Repeat("A", 28) + " ssh-rsa AAAA"))
	f.Add([]byte("@cert-authority *,!b ssh-ed25519 x\n[a]:22,[b]:0 1 2"))
	f.Fuzz(func(t *testing.T, content []byte) {
		hosts, err := parseKnownHosts("f", content)
		if err != nil {
			return
		}
		_ = hosts.check("a", 22, testKey(1))
		_ = hosts.check("b", 2222, testKey(2))
		for _, n := range hosts.ignored {
			if n < 1 || n > bytes.Count(content, []byte("\n"))+1 {
				t.Fatalf("line %d of %q", n, content)
			}
		}
	})
}

// BenchmarkKnownHosts is a first look at each of 10,000 hosts in a hashed file:
// with a salt for each line as ssh writes it, and as PinHostKeys does.
func BenchmarkKnownHosts(b *testing.B) {
	const n = 10_000
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("shared=%v", shared), func(b *testing.B) {
			var file bytes.Buffer
			for i := range n {
				name := "host-" + strconv.Itoa(i)
				if shared {
					file.WriteString(hashedLine([]byte("01234567890123456789"), name, testKey(i)) + "\n")
				} else {
					fmt.Fprintf(&file, "%s %s\n", xknownhosts.HashHostname(name), keyFields(i))
				}
			}
			hosts, err := parseKnownHosts("f", file.Bytes())
			if err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				i = (i + 1) % n
				if len(hosts.lookup("host-"+strconv.Itoa(i), 22).plain) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}

func TestHashNameIsHMAC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		salt, name := rapid.StringN(0, 100, 100).Draw(t, "salt"), rapid.StringN(0, 400, 400).Draw(t, "name")
		mac := hmac.New(sha1.New, []byte(salt))
		_, _ = mac.Write([]byte(name))
		if got := hashName(salt, name); !bytes.Equal(got[:], mac.Sum(nil)) {
			t.Fatalf("%x", got)
		}
	})
}
