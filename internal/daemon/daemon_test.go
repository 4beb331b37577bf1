package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/api/client"
	"capfleet/internal/childtest"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/leaktest"
	"capfleet/internal/operation"
	"capfleet/internal/sim"
)

func TestMain(m *testing.M) {
	childtest.Main(map[string]func(arg string) error{"week": liveTheWeek})
	leaktest.Main(m)
}

// place is a folder for a daemon. Its name is short because a socket's path may
// have no more than 107 bytes.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// options are those of a daemon in a folder with an inventory of its own.
func options(t *testing.T, dir, inventory string) Options {
	t.Helper()
	if inventory == "" {
		inventory = filepath.Join(dir, "inventory.yaml")
		write(t, inventory, minimal)
	}
	return Options{
		StateDir:  filepath.Join(dir, "state"),
		Inventory: inventory,
		Socket:    filepath.Join(dir, "s"),
		Logger:    slog.New(slog.NewTextHandler(t.Output(), nil)),
		Retry:     jobs.RetryPolicy{Base: 10 * time.Millisecond, Max: 50 * time.Millisecond},
	}
}

const minimal = `version: 1
credentials:
  default: {username: fleet, password: {file: secrets/the-password}, enable: {env: FLEET_TEST_ENABLE}}
devices:
  - {name: a, platform: linux, address: 127.0.0.1:1}
  - {name: b, platform: linux, address: "[::1]:2222", labels: {tier: core}}
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run starts a daemon and gives a client of it. stop is safe to call twice.
func run(t *testing.T, opts Options) (c *client.Client, stop func()) {
	t.Helper()
	d, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return runDaemon(t, d, opts)
}

// runDaemon is run of a daemon that is there already.
func runDaemon(t *testing.T, d *Daemon, opts Options) (c *client.Client, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	c, err := client.New(opts.Socket)
	if err != nil {
		t.Fatal(err)
	}
	stop = func() { cancel(); <-done; c.Close() }
	t.Cleanup(stop)
	return c, stop
}

// fleet is a simulated fleet for the length of a test.
func fleet(t *testing.T, devices int, faults ...string) *sim.Fleet {
	t.Helper()
	f, err := sim.New(sim.Options{Dir: filepath.Join(place(t), "f"), Devices: devices, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// promptly bounds what has to end without waiting for a timeout of the program's
// own, the shortest of which is 15 s; a loaded machine is slow, not that slow.
const promptly = 10 * time.Second

func TestStartStopAgain(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	for range 3 {
		c, stop := run(t, opts)
		v, err := c.Version(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v.Devices != 2 || v.Inventory != opts.Inventory || v.Socket != opts.Socket || v.State != opts.StateDir || v.Go == "" || v.StartedAt.IsZero() {
			t.Errorf("%+v", v)
		}
		for path, mode := range map[string]os.FileMode{opts.Socket: 0o600, opts.StateDir: 0o700} {
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v; want mode %o", path, st.Mode(), err, mode)
			}
		}
		began := time.Now()
		stop()
		if d := time.Since(began); d > promptly {
			t.Errorf("stopping took %v", d)
		}
		if _, err := os.Lstat(opts.Socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	}
}

func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	c, _ := run(t, opts)
	me := fmt.Sprintf("(process %d)", os.Getpid())
	for name, change := range map[string]func(*Options){
		"same state":  func(o *Options) { o.Socket += "2" },
		"same socket": func(o *Options) { o.StateDir += "2" },
	} {
		second := opts
		change(&second)
		_, err := New(t.Context(), second)
		if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), me) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Version(t.Context()); err != nil {
			t.Errorf("%s: the first one suffered: %v", name, err)
		}
	}
}

func TestSocketPath(t *testing.T) {
	t.Parallel()
	t.Run("stale", func(t *testing.T) {
		t.Parallel()
		opts := options(t, place(t), "")
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: opts.Socket})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		c, _ := run(t, opts)
		if _, err := c.Version(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file", func(t *testing.T) {
		t.Parallel()
		opts := options(t, place(t), "")
		write(t, opts.Socket, "precious")
		if _, err := New(t.Context(), opts); !fault.Is(err, fault.Conflict) {
			t.Errorf("got %v", err)
		}
		if b, err := os.ReadFile(opts.Socket); string(b) != "precious" {
			t.Errorf("the file is %q, %v", b, err)
		}
	})
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		opts := options(t, place(t), "")
		opts.Socket = filepath.Join(filepath.Dir(opts.Socket), strings.Repeat("x", 120))
		if _, err := New(t.Context(), opts); !fault.Is(err, fault.Invalid) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no folder", func(t *testing.T) {
		t.Parallel()
		opts := options(t, place(t), "")
		opts.Socket = filepath.Join(filepath.Dir(opts.Socket), "run", "s")
		c, _ := run(t, opts)
		if _, err := c.Version(t.Context()); err != nil {
			t.Error(err)
		}
		if st, err := os.Stat(filepath.Dir(opts.Socket)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%v %v", st.Mode(), err)
		}
	})
	t.Run("taken over", func(t *testing.T) { // by somebody who removed ours
		t.Parallel()
		opts := options(t, place(t), "")
		_, stop := run(t, opts)
		if err := os.Remove(opts.Socket); err != nil {
			t.Fatal(err)
		}
		write(t, opts.Socket, "another's")
		stop()
		if _, err := os.Stat(opts.Socket); err != nil {
			t.Errorf("it was removed: %v", err)
		}
	})
}

// A New that fails says why and leaves nothing behind that stops the next one.
func TestFailedNew(t *testing.T) {
	t.Parallel()
	dir := place(t)
	opts := options(t, dir, "")
	for name, tc := range map[string]struct {
		change func(*Options)
		kind   fault.Kind
		says   string
	}{
		"no inventory": {func(o *Options) { o.Inventory += "x" }, fault.NotFound, "does not exist"},
		"bad inventory": {func(o *Options) {
			o.Inventory = filepath.Join(dir, "bad.yaml")
			write(t, o.Inventory, "version: 1\ndevcies: []\n")
		}, fault.Invalid, "devcies"},
		"unknown platform": {func(o *Options) {
			o.Inventory = filepath.Join(dir, "toaster.yaml")
			write(t, o.Inventory, "version: 1\ncredentials: {default: {username: x, agent: true}}\ndevices: [{name: a, platform: toaster, address: h}]\n")
		}, fault.Invalid, "toaster"},
		"bad override": {func(o *Options) {
			o.Overrides = filepath.Join(dir, "overrides")
			if err := os.MkdirAll(filepath.Join(o.Overrides, "platforms"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(o.Overrides, "platforms", "linux.yaml"), "platfrom: linux\n")
		}, fault.Invalid, "platfrom"},
		"no state": {func(o *Options) { o.StateDir = "" }, fault.Invalid, "state"},
		"damaged ledger": {func(o *Options) {
			o.StateDir = filepath.Join(dir, "damaged")
			if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(o.StateDir, "ledger.db"), strings.Repeat("nonsense", 4096))
		}, fault.Storage, "ledger"},
	} {
		bad := opts
		tc.change(&bad)
		_, err := New(t.Context(), bad)
		if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v (%s)", name, err, fault.KindOf(err))
		}
		if _, err := os.Lstat(opts.Socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the socket is left: %v", name, err)
		}
	}
	run(t, opts)
}

// Starting and stopping at any moment ends clean; goleak looks at the end.
func TestStartStopHammered(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	for i := range 15 {
		d, err := New(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if err := d.Close(); err != nil { // a second time
			t.Error(err)
		}
	}
}

// Nothing that the API says of a device tells a secret, or where one is.
func TestDevicesShowNoSecret(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	c, _ := run(t, opts)
	devices, err := c.Devices(t.Context(), api.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	one, err := c.Device(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]any{devices, one})
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{"the-password", "FLEET_TEST_ENABLE"} {
		if strings.Contains(string(b), hidden) {
			t.Errorf("%q is in %s", hidden, b)
		}
	}
	if one.Address != "[::1]:2222" || one.Username != "fleet" || len(devices) != 2 || one.Labels["tier"] != "core" {
		t.Errorf("%+v", one)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	c, _ := run(t, options(t, place(t), ""))
	all := api.Selection{All: true}
	for name, tc := range map[string]struct {
		req  api.JobRequest
		kind fault.Kind
		says string
	}{
		"operation":   {api.JobRequest{Operation: "reprot", Selection: all}, fault.Invalid, `there is no operation "reprot" (there are: bmccerts`},
		"no device":   {api.JobRequest{Operation: "check"}, fault.Invalid, "no devices are selected"},
		"nobody":      {api.JobRequest{Operation: "check", Selection: api.Selection{Names: []string{"z*"}}}, fault.NotFound, "z*"},
		"selector":    {api.JobRequest{Operation: "check", Selection: api.Selection{Selector: "tier=croe"}}, fault.NotFound, "tier=core"},
		"spec":        {api.JobRequest{Operation: "check", Spec: json.RawMessage(`{"x":1}`), Selection: all}, fault.Invalid, "x"},
		"nothing":     {api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"rotation-file"}`), Selection: all}, fault.Unsupported, "no rotation files"},
		"not allowed": {api.JobRequest{Operation: "command", Spec: json.RawMessage(`{"command":"reboot"}`), Selection: all}, fault.Denied, "--unsafe"},
	} {
		_, err := c.Submit(t.Context(), tc.req)
		if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v (%s), want %s with %q", name, err, fault.KindOf(err), tc.kind, tc.says)
		}
	}
	if l, err := c.Jobs(t.Context(), api.JobQuery{}); err != nil || len(l.Rows) != 0 {
		t.Errorf("jobs were made: %v %v", l, err)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	devices := []*device.Device{{Name: "a", HAPeer: "b"}, {Name: "b", HAPeer: "a"}, {Name: "c", HAPeer: "gone"}, {Name: "d"}}
	for access, want := range map[operation.Access]string{
		operation.Read:   "map[a:a b:b c:c d:d]",
		operation.Change: "map[a:a+b b:a+b c:c d:d]",
	} {
		if got := fmt.Sprint(unitsOf(devices, access)); got != want {
			t.Errorf("%s: %s, want %s", access, got, want)
		}
	}
}

func TestPinHostKeys(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	c, _ := run(t, opts)
	key := api.HostKey{Device: "b", Host: "[::1]:2222", Type: "ssh-ed25519",
		PublicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPxzrtAgPpD7zSYwJm8FHYLDhqZvGJ9fQqLQ0zHkGWq1",
	}
	for name, tc := range map[string]struct {
		change func(*api.HostKey)
		kind   fault.Kind
	}{
		"another host":   {func(k *api.HostKey) { k.Host = "[::2]:2222" }, fault.Invalid},
		"another port":   {func(k *api.HostKey) { k.Host = "::1" }, fault.Invalid},
		"unknown device": {func(k *api.HostKey) { k.Device = "z" }, fault.NotFound},
		"no key":         {func(k *api.HostKey) { k.PublicKey = "nonsense" }, fault.Invalid},
	} {
		bad := key
		tc.change(&bad)
		if _, err := c.PinHostKeys(t.Context(), api.PinRequest{Keys: []api.HostKey{key, bad}}); !fault.Is(err, tc.kind) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	known := filepath.Join(filepath.Dir(opts.Inventory), "known_hosts")
	if _, err := os.Stat(known); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was pinned: %v", err)
	}
	for _, want := range []string{"1 0", "0 1"} {
		res, err := c.PinHostKeys(t.Context(), api.PinRequest{Keys: []api.HostKey{key}})
		if got := fmt.Sprint(len(res.Added), len(res.Unchanged)); err != nil || got != want {
			t.Errorf("added and unchanged: %s, want %s (%v)", got, want, err)
		}
	}
	// Who asked is kept: what was refused before anything was written is not.
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Audit(t.Context(), api.AuditQuery{By: me.Username, Action: "host_key.pin"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list.Rows {
		got = append(got, e.Result+" "+e.Device)
	}
	if want := []string{"done ", "begun ", "done b", "begun ", "failed ", "begun "}; !slices.Equal(got, want) {
		t.Errorf("audit %q, want %q", got, want)
	}
	if b, err := os.ReadFile(known); err != nil || !strings.HasPrefix(string(b), "|1|") {
		t.Errorf("%s, %v", b, err)
	}
}

// runReport submits a report, waits for its end and gives its results.
func runReport(ctx context.Context, t *testing.T, c *client.Client, sel api.Selection) api.Results {
	t.Helper()
	job, err := c.Submit(ctx, api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"filesystem"}`), Selection: sel})
	if err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, c, job.ID)
	res, err := c.Results(ctx, job.ID)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func wait(ctx context.Context, t *testing.T, c *client.Client, job string) (types []string) {
	t.Helper()
	for ev, err := range c.Events(ctx, job, 0) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, ev.Type)
	}
	return types
}

// rows gives what identifies each row of a file-system report.
func rows(t *testing.T, res api.Results) (keys []string) {
	t.Helper()
	for _, raw := range res.Rows {
		var r struct{ Device, Filesystem string }
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, r.Device+" "+r.Filesystem)
	}
	return keys
}

func TestReportOfAFleet(t *testing.T) {
	t.Parallel()
	f := fleet(t, 8, "lon-probe-02:down")
	dir := place(t)
	c, _ := run(t, options(t, dir, f.Inventory()))
	res := runReport(t.Context(), t, c, api.Selection{All: true})
	if res.Job.State != "partial" || len(res.Failures) != 1 || res.Failures[0].Device != "lon-probe-02" || res.Failures[0].Stage != "dial" {
		t.Errorf("job %+v, failures %+v", res.Job, res.Failures)
	}
	keys := rows(t, res)
	if !slices.IsSortedFunc(keys, func(a, b string) int { return strings.Compare(strings.Fields(a)[0], strings.Fields(b)[0]) }) {
		t.Errorf("rows are not in order of device: %v", keys)
	}
	seen := map[string]bool{}
	for _, k := range keys {
		seen[strings.Fields(k)[0]] = true
	}
	if len(seen) != 7 {
		t.Errorf("rows of %d devices: %v", len(seen), seen)
	}

	// The device comes back and the job is taken up again: the watcher of its whole
	// story sees two ends, and the stream ends with the second.
	if err := f.Order("lon-probe-02", "none"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Retry(t.Context(), res.Job.ID); err != nil {
		t.Fatal(err)
	}
	types := wait(t.Context(), t, c, res.Job.ID)
	if n := count(types, "job_finished"); n != 2 || types[len(types)-1] != "job_finished" || count(types, "job_retried") != 1 {
		t.Errorf("%d ends in %v", n, types)
	}
	again, err := c.Results(t.Context(), res.Job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again.Job.State != "succeeded" || len(again.Failures) != 0 || len(again.Rows) <= len(res.Rows) {
		t.Errorf("after the retry: %s, %d rows (%d before), %v", again.Job.State, len(again.Rows), len(res.Rows), again.Failures)
	}
	dev, err := c.Device(t.Context(), "lon-probe-01")
	if err != nil || dev.LastSeenAt == nil || dev.Facts["host_key_sha256"] == "" {
		t.Errorf("%+v, %v", dev, err)
	}
}

func count(l []string, s string) (n int) {
	for _, x := range l {
		if x == s {
			n++
		}
	}
	return n
}

// A daemon that is told to stop does not wait for a device that never answers,
// and takes the work up again at its next start.
func TestStopWithWorkRunning(t *testing.T) {
	t.Parallel()
	f := fleet(t, 4, "lon-probe-01:mute")
	opts := options(t, place(t), f.Inventory())
	c, stop := run(t, opts)
	job, err := c.Submit(t.Context(), api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"filesystem"}`), Selection: api.Selection{All: true}})
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range c.Events(t.Context(), job.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Device == "lon-probe-01" && ev.Type == "task_step" {
			break
		}
	}
	began := time.Now()
	stop()
	if d := time.Since(began); d > promptly {
		t.Errorf("stopping took %v", d)
	}
	if err := f.Order("lon-probe-01", "none"); err != nil {
		t.Fatal(err)
	}
	c, _ = run(t, opts)
	wait(t.Context(), t, c, job.ID)
	res, err := c.Results(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	keys := rows(t, res)
	slices.Sort(keys)
	if res.Job.State != "succeeded" || len(slices.Compact(slices.Clone(keys))) != len(keys) {
		t.Errorf("%s, failures %+v, rows %v", res.Job.State, res.Failures, keys)
	}
}

// The socket is only for its owner, whatever the umask.
func TestSocketModeBeforeItHasAName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(place(t), "s")
	lc := net.ListenConfig{Control: ownerOnly}
	ln, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Mode&0o077 != 0 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
}

// Every kind of answer comes from the routes of one document.
func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	run(t, opts)
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", opts.Socket)
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://fleetd/openapi.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var doc struct{ OpenAPI string }
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("%+v, %v", doc, err)
	}
}
