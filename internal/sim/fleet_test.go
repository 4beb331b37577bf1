package sim_test

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"capfleet/internal/sim"
)

func TestDefaultFleet(t *testing.T) {
	f := startFleet(t, sim.Options{})
	devices := f.Devices()
	sites, platforms := map[string]int{}, map[string]int{}
	names := map[string]sim.DeviceInfo{}
	for _, d := range devices {
		sites[d.Site]++
		platforms[d.Platform]++
		names[d.Name] = d
	}
	if len(devices) < 24 || len(sites) < 3 || len(names) != len(devices) || sites["lon"] == 0 || sites["nyc"] == 0 || sites["sgp"] == 0 {
		t.Errorf("%d devices, sites %v", len(devices), sites)
	}
	for _, p := range []string{"endace_osm", "f5_bigip", "linux"} {
		if platforms[p] == 0 {
			t.Errorf("no %s", p)
		}
	}
	for _, d := range devices {
		if d.HAPeer != "" && names[d.HAPeer].HAPeer != d.Name {
			t.Errorf("%s has the peer %s, which has %q", d.Name, d.HAPeer, names[d.HAPeer].HAPeer)
		}
		if d.Jump != "" && names[d.Jump].Role != "bastion" {
			t.Errorf("%s is behind %s", d.Name, d.Jump)
		}
		if host, _, err := net.SplitHostPort(d.Addr); err != nil || host != "127.0.0.1" {
			t.Errorf("%s listens on %s", d.Name, d.Addr)
		}
	}
	if names["sgp-probe-01"].Jump == "" || names["sgp-bastion"].Jump != "" {
		t.Error("sgp is not behind its bastion")
	}
}

func TestPlansOfEverySize(t *testing.T) {
	for n := 1; n <= 300; n += 1 + n/20 {
		f, err := sim.New(sim.Options{Dir: t.TempDir(), Devices: n})
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]sim.DeviceInfo{}
		for _, d := range f.Devices() {
			names[d.Name] = d
		}
		if len(names) != n {
			t.Errorf("%d devices planned, %d names", n, len(names))
		}
		for _, d := range names {
			if d.HAPeer != "" && names[d.HAPeer].HAPeer != d.Name {
				t.Errorf("%d devices: %s has no peer", n, d.Name)
			}
			if d.Jump != "" && names[d.Jump].Name == "" {
				t.Errorf("%d devices: %s is behind nothing", n, d.Name)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDirectory(t *testing.T) {
	f := startFleet(t, sim.Options{})
	raw, err := os.ReadFile(f.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	var inv struct {
		Version     int
		KnownHosts  string `yaml:"known_hosts"`
		Sites       map[string]struct{ Timezone string }
		Credentials map[string]struct {
			Username   string
			Password   struct{ File string }
			PrivateKey struct{ File string } `yaml:"private_key"`
			Enable     struct{ File string }
		}
		Groups map[string]struct {
			Platform, Credentials string
			Labels                map[string]string
		}
		Devices []struct {
			Name, Address, Site string
			Groups, Covers      []string
			Labels              map[string]string
			HAPeer              string `yaml:"ha_peer"`
			Jump                string
			BMC                 struct{ Address, Protocol, Credentials string }
		}
	}
	if err := yaml.UnmarshalWithOptions(raw, &inv, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if inv.Version != 1 || inv.KnownHosts != "known_hosts" || len(inv.Devices) != len(f.Devices()) {
		t.Errorf("inventory: version %d, %s, %d devices", inv.Version, inv.KnownHosts, len(inv.Devices))
	}
	covers := map[string]int{}
	for _, d := range inv.Devices {
		have := info(t, f, d.Name)
		g := inv.Groups[d.Groups[0]]
		if d.Address != have.Addr || d.Site != have.Site || d.HAPeer != have.HAPeer || d.Jump != have.Jump || g.Platform != have.Platform || inv.Sites[d.Site].Timezone == "" {
			t.Errorf("inventory has %+v of %+v", d, have)
		}
		c := inv.Credentials[g.Credentials]
		file := c.Password.File + c.PrivateKey.File
		st, err := os.Stat(filepath.Join(f.Dir(), file))
		if err != nil || st.Mode().Perm() != 0o600 || c.Username != have.Username {
			t.Errorf("%s: credentials %+v: %v", d.Name, c, err)
		}
		for _, l := range d.Covers {
			covers[l]++
		}
	}
	if len(covers) < 3 || slices.Max(slices.Collect(mapValues(covers))) < 2 {
		t.Errorf("links are covered by %v", covers)
	}
	for _, name := range []string{"", "secrets", "state.json", "journal.jsonl", "known_hosts", "inventory.yaml", "ssh_config"} {
		st, err := os.Stat(filepath.Join(f.Dir(), name))
		if err != nil || name != "" && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	if len(secretOf(t, f, "endace")) < 20 || secretOf(t, f, "endace") == secretOf(t, f, "f5-root") {
		t.Error("passwords are short or the same")
	}
	other := startFleet(t, sim.Options{Devices: 8})
	if secretOf(t, f, "endace") == secretOf(t, other, "endace") {
		t.Error("two directories have the same password")
	}
}

func mapValues(m map[string]int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

func TestJournalLines(t *testing.T) {
	f := startFleet(t, quick())
	login(t, f, "lon-probe-01")
	order(t, f, "lon-ltm-01", "failover")
	for line := range strings.Lines(journal(t, f)) {
		var e sim.JournalEntry
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil || e.Device == "" || e.Event == "" || time.Since(e.Time) > time.Minute {
			t.Errorf("%s: %+v, %v", line, e, err)
		}
	}
}

// A directory goes on where it stopped: ports, keys, passwords, states, files.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	opts := quick()
	opts.Dir, opts.Seed = dir, 42
	f := startFleet(t, opts)
	before := f.Devices()
	hosts, err := os.ReadFile(filepath.Join(dir, "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	password := secretOf(t, f, "endace")
	x := probe(t, f)
	x.do("conf t", "(config) # ")
	x.do("hostname renamed", "renamed (config) # ")
	rings := x.do("show erfstream rotation-file", "renamed (config) # ")
	x.do("maintenance-mode noconfirm", "(maintenance) renamed (config) # ")
	order(t, f, "lon-ltm-01", "failover")
	execute(t, login(t, f, "lon-cap-01"), "echo kept > /capture/kept")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// What an operator adds to known_hosts stays there; so does an edited inventory.
	added := string(hosts) + "|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA\nother.example ssh-ed25519 AAAA\n"
	if err := os.WriteFile(filepath.Join(dir, "known_hosts"), []byte(added), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "inventory.yaml"), []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	g := startFleet(t, sim.Options{Dir: dir})
	if !slices.Equal(g.Devices(), before) {
		t.Errorf("devices were %v, are %v", before, g.Devices())
	}
	now, err := os.ReadFile(filepath.Join(dir, "known_hosts"))
	if err != nil || len(now) != len(added) || !strings.Contains(string(now), "|1|c2FsdA==") || secretOf(t, g, "endace") != password {
		t.Errorf("known_hosts or password changed: %v, %s", err, now)
	}
	if inv, err := os.ReadFile(g.Inventory()); err != nil || string(inv) != "# mine\n" {
		t.Errorf("the edited inventory is %q, %v", inv, err)
	}
	// Now that its lines are back in order, the login checks the same host key.
	if err := os.WriteFile(filepath.Join(dir, "known_hosts"), hosts, 0o600); err != nil {
		t.Fatal(err)
	}
	x = openShell(t, login(t, g, "lon-probe-01"), 200, 1000)
	x.do("enable", "(maintenance) renamed # ")
	if got := x.do("show erfstream rotation-file", "(maintenance) renamed # "); got != rings {
		t.Error("the figures changed with the restart")
	}
	if out, _, _ := execute(t, login(t, g, "lon-ltm-01"), "tmsh show sys failover"); !strings.Contains(out, "standby") {
		t.Errorf("failover state: %s", out)
	}
	if out, _, _ := execute(t, login(t, g, "lon-cap-01"), "cat /capture/kept"); out != "kept\n" {
		t.Errorf("file: %q", out)
	}
}

func TestRestartInTheMiddleOfABoot(t *testing.T) {
	dir := t.TempDir()
	f := startFleet(t, sim.Options{Dir: dir, Devices: 8, Faults: []string{"*:boot_time=1h"}})
	order(t, f, "lon-probe-01", "reboot")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	g := startFleet(t, sim.Options{Dir: dir})
	if !strings.Contains(journal(t, g), `"event":"boot"`) {
		t.Error("the boot was never finished")
	}
	login(t, g, "lon-probe-01")
}

// A port that was taken meanwhile is given up, and the files say so.
func TestTakenPort(t *testing.T) {
	dir := t.TempDir()
	f := startFleet(t, sim.Options{Dir: dir, Devices: 8})
	addr := info(t, f, "lon-probe-01").Addr
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	g := startFleet(t, sim.Options{Dir: dir})
	now := info(t, g, "lon-probe-01").Addr
	inv, err := os.ReadFile(g.Inventory())
	if err != nil || now == addr || strings.Contains(string(inv), addr+"\n") || !strings.Contains(string(inv), now+"\n") {
		t.Errorf("address was %s, is %s; %v", addr, now, err)
	}
	login(t, g, "lon-probe-01")
}

func TestControl(t *testing.T) {
	// A long path as well: socket addresses have room for about a hundred bytes.
	for _, sub := range []string{"d", strings.Repeat("a-long-name-", 10)} {
		dir := filepath.Join(t.TempDir(), sub)
		if err := sim.OrderRunning(dir, "lon-probe-01", "down"); !errors.Is(err, sim.ErrNotRunning) {
			t.Errorf("before the start: %v", err)
		}
		f := startFleet(t, sim.Options{Dir: dir, Devices: 8})
		if err := sim.OrderRunning(dir, "lon-probe-01", "down"); err != nil {
			t.Fatal(err)
		}
		if _, err := net.Dial("tcp", info(t, f, "lon-probe-01").Addr); err == nil {
			t.Error("the order had no effect")
		}
		if err := sim.OrderRunning(dir, "lon-probe-01", "nonsense"); !errors.Is(err, sim.ErrInvalid) || !strings.Contains(err.Error(), "mute_after_login") {
			t.Errorf("a bad order gives %v", err)
		}
		second, err := sim.New(sim.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another one is running") {
			t.Errorf("a second fleet in the directory: %v", err)
		}
		if err := sim.OrderRunning(dir, "lon-probe-01", "none"); err != nil {
			t.Errorf("the first fleet does not survive the second: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := sim.OrderRunning(dir, "lon-probe-01", "down"); !errors.Is(err, sim.ErrNotRunning) {
			t.Errorf("after the end: %v", err)
		}
		if err := f.Order("lon-probe-01", "down"); !errors.Is(err, sim.ErrNotRunning) {
			t.Errorf("an order after the end: %v", err)
		}
	}
}

func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	for _, content := range []string{"{", `{"version":99,"secret":"AAAA"}`, "null"} {
		if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sim.New(sim.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "state.json") {
			t.Errorf("state %q gives %v", content, err)
		}
	}
}

// Files of one device are nobody else's, and no path leads out.
func TestFilesStayInside(t *testing.T) {
	f := startFleet(t, quick())
	outside := filepath.Join(f.Dir(), "state.json")
	files, err := sftp.NewClient(login(t, f, "lon-probe-01"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = files.Close() }()
	if wd, err := files.Getwd(); err != nil || wd != "/" {
		t.Errorf("working directory %q, %v", wd, err)
	}
	for _, p := range []string{outside, "../../state.json", "/../../state.json", "/endace/../../../state.json", "/etc/passwd"} {
		if _, err := files.Open(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("open %s: %v", p, err)
		}
	}
	for i, target := range []string{outside, "../../state.json", "/", "../lon-probe-02"} {
		link := "/link" + string(rune('a'+i))
		if err := files.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if got, err := files.ReadLink(link); err != nil || got != target {
			t.Errorf("link to %s reads %q, %v", target, got, err)
		}
		if _, err := files.Open(link); err == nil && target != "/" {
			t.Errorf("a link leads to %s", target)
		}
		if _, err := files.Create(link + "/x"); err == nil {
			t.Errorf("a link lets write in %s", target)
		}
		if _, err := files.ReadDir(link); err == nil {
			t.Errorf("a link lists %s", target)
		}
	}
	if err := files.Rename("/endace/packages", "/../../out"); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Stat("/out"); err != nil {
		t.Errorf("a rename went elsewhere: %v", err)
	}
	w, err := files.Create("/file")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	for _, step := range []error{w.Close(), files.Truncate("/file", 4), files.Chmod("/file", 0o640), files.Chtimes("/file", time.Unix(1e9, 0), time.Unix(1e9, 0))} {
		if step != nil {
			t.Error(step)
		}
	}
	if st, err := files.Stat("/file"); err != nil || st.Size() != 4 || st.ModTime().Unix() != 1e9 {
		t.Errorf("stat: %v, %v", st, err)
	}
	other, err := files.Create("/file2")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := files.Rename("/file", "/file2"); err == nil {
		t.Error("rename overwrites")
	}
	if err := files.PosixRename("/file", "/file2"); err != nil {
		t.Error(err)
	}
	if err := files.Remove("/file2"); err != nil {
		t.Error(err)
	}
}

func TestCutUploadIsInTheJournal(t *testing.T) {
	f := startFleet(t, quick())
	c := login(t, f, "lon-probe-01")
	files, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	w, err := files.Create("/endace/packages/half.end")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	eventually(t, "journal", func() bool {
		return strings.Contains(journal(t, f), `path=\"/endace/packages/half.end\" bytes=4 state=cut`)
	})
}

// A fleet of hundreds is there in a moment, answers, and leaves nothing behind.
func TestFiveHundredDevices(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	f := startFleet(t, sim.Options{Dir: dir, Devices: 500})
	up := time.Since(start)
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	t.Logf("up in %v, heap %d KiB", up, mem.HeapAlloc/1024)
	for i, d := range f.Devices() {
		if i%25 == 0 && d.Jump == "" && d.Role == "probe" && !regexp.MustCompile(`^nyc`).MatchString(d.Name) {
			x := openShell(t, login(t, f, d.Name), 80, 24)
			x.expect(d.Name + ` > \z`)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func benchmarkClient(b *testing.B, role string) *ssh.Client {
	b.Helper()
	f, err := sim.New(sim.Options{Dir: b.TempDir(), Devices: 8})
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(f.Dir(), "id_ed25519"))
	if err != nil {
		b.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := f.Close(); err != nil {
			b.Error(err)
		}
	})
	for _, d := range f.Devices() {
		if d.Role != role {
			continue
		}
		c, err := connect(d.Addr, &ssh.ClientConfig{User: d.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		return c
	}
	b.Fatalf("no %s", role)
	return nil
}

// BenchmarkTurn is one command and its answer in an open shell.
func BenchmarkTurn(b *testing.B) {
	c := benchmarkClient(b, "probe")
	s, err := c.NewSession()
	if err != nil {
		b.Fatal(err)
	}
	if err := s.RequestPty("vt100", 1000, 500, nil); err != nil {
		b.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	turn := func(line, end string) {
		if _, err := in.Write([]byte(line + "\n")); err != nil {
			b.Fatal(err)
		}
		got := ""
		for !strings.HasSuffix(got, end) {
			n, err := out.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			got += string(buf[:n])
		}
	}
	turn("enable", "lon-probe-01 # ")
	for b.Loop() {
		turn("show files system", "lon-probe-01 # ")
	}
}

// BenchmarkExec is one command over an exec channel of its own.
func BenchmarkExec(b *testing.B) {
	c := benchmarkClient(b, "capture")
	for b.Loop() {
		s, err := c.NewSession()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Output("df -P"); err != nil {
			b.Fatal(err)
		}
	}
}
