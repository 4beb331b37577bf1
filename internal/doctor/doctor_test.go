package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
	"capfleet/internal/secret"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var now = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)

// healthy is a host on which nothing is wrong.
func healthy(t *testing.T) Subject {
	t.Helper()
	devices := []*device.Device{
		{Name: "a", Platform: "endace_osm", Host: "192.0.2.1", Port: 22, KnownHosts: "/kh", Credentials: device.Credentials{Password: secret.Ref{Env: "A"}}},
		{Name: "b", Platform: "linux", Host: "192.0.2.2", Port: 22, KnownHosts: "/kh", Credentials: device.Credentials{Password: secret.Ref{Env: "A"}, Agent: true},
			Jump: []device.Hop{{Name: "jump@192.0.2.9:22", Host: "192.0.2.9", Port: 22, Credentials: device.Credentials{PrivateKey: secret.Ref{File: "/key"}}}},
			BMC:  &device.BMC{Host: "192.0.2.3", Credentials: device.Credentials{Password: secret.Ref{Env: "BMC"}}}},
	}
	return Subject{
		Inventory: "/inv", Reload: func() (bool, error) { return false, nil }, Devices: devices,
		Trusts:   func(string, string, int) (bool, error) { return true, nil },
		Resolve:  func(context.Context, secret.Ref) error { return nil },
		Getenv:   func(string) string { return "/agent" },
		StateDir: t.TempDir(), Space: func(string) (Space, error) { return Space{50e9, 100e9}, nil },
		Now: now, Newest: now.Add(-time.Hour), Synchronized: func() (bool, bool) { return true, true },
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	areas := map[string]bool{}
	for _, f := range Examine(t.Context(), healthy(t)) {
		if f.Severity != OK || f.Next != "" || f.Message == "" {
			t.Errorf("%+v", f)
		}
		areas[f.Area] = true
	}
	for _, want := range []string{"inventory", "secrets", "host keys", "disk", "clock", "templates"} {
		if !areas[want] {
			t.Errorf("nobody looked at %s", want)
		}
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ill  func(*Subject)
		want Finding // Message and Next are parts
	}{
		"inventory that would be refused": {func(s *Subject) { s.Reload = func() (bool, error) { return false, errors.New("line 3: no such key") } },
			Finding{"inventory", "/inv", Error, "line 3: no such key", "goes on with what it read before"}},
		"inventory that was not reloaded": {func(s *Subject) { s.Reload = func() (bool, error) { return true, nil } },
			Finding{"inventory", "/inv", Warning, "has changed since", "kill -HUP"}},
		"warning of the inventory": {func(s *Subject) {
			s.Warnings = []string{"secret file x can be read by everybody (mode 0644): chmod 600 it"}
		},
			Finding{"inventory", "/inv", Warning, "everybody", ""}},
		"secret that is not there": {func(s *Subject) {
			s.Resolve = func(_ context.Context, ref secret.Ref) error {
				if ref.Env == "A" {
					return errors.New("environment variable A is not set")
				}
				return nil
			}
		}, Finding{"secrets", "environment variable A", Error, "is not set; needed by a, b", "put the secret there"}},
		"secret of a jump host": {func(s *Subject) {
			s.Resolve = func(_ context.Context, ref secret.Ref) error {
				if ref.File != "" {
					return errors.New("no such file")
				}
				return nil
			}
		}, Finding{"secrets", "file /key", Error, "needed by jump@192.0.2.9:22", ""}},
		"no agent": {func(s *Subject) { s.Getenv = func(string) string { return "" } }, Finding{"secrets", "SSH agent", Error, "needed by b", "private_key"}},
		"host key that is not pinned": {func(s *Subject) {
			s.Trusts = func(_, host string, _ int) (bool, error) { return host != "192.0.2.1", nil }
		}, Finding{"host keys", "a", Error, "1 device", "fleetctl device trust a "}},
		"jump host's": {func(s *Subject) {
			s.Trusts = func(_, host string, _ int) (bool, error) { return host != "192.0.2.9", nil }
		}, Finding{"host keys", "jump@192.0.2.9:22", Error, "1 jump host", ""}},
		"known_hosts that cannot be read": {func(s *Subject) {
			s.Trusts = func(string, string, int) (bool, error) {
				return false, &fault.Error{Kind: fault.HostKey, Act: "read", Err: errors.New("/kh:1: bad key"), Next: "correct /kh"}
			}
		}, Finding{"host keys", "/kh", Error, "/kh:1: bad key", "correct /kh"}},
		"disk that is nearly full": {func(s *Subject) { s.Space = func(string) (Space, error) { return Space{1 << 30, 10e9}, nil } },
			Finding{"disk", "", Warning, "1.1 GB free of 10.0 GB", "free some space"}},
		"disk that is full": {func(s *Subject) { s.Space = func(string) (Space, error) { return Space{1 << 20, 10e9}, nil } },
			Finding{"disk", "", Error, "0.0 GB free", "refused when the disk is full"}},
		"no place to write":    {func(s *Subject) { s.StateDir = filepath.Join(s.StateDir, "gone") }, Finding{"disk", "", Error, "cannot write there", "user that fleetd runs as"}},
		"clock that went back": {func(s *Subject) { s.Newest = now.Add(time.Hour) }, Finding{"clock", "2026-05-01T10:00:00Z", Error, "gone back", "NTP"}},
		"clock of another age": {func(s *Subject) { s.Now = time.Unix(0, 0) }, Finding{"clock", "1970-01-01T00:00:00Z", Error, "in the past", "NTP"}},
		"clock that nobody keeps": {func(s *Subject) { s.Synchronized = func() (bool, bool) { return false, true } },
			Finding{"clock", "2026-05-01T10:00:00Z", Warning, "not synchronized", "NTP"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy(t)
			c.ill(&s)
			var ill []Finding
			for _, f := range Examine(t.Context(), s) {
				if f.Severity != OK {
					ill = append(ill, f)
				}
			}
			if c.want.Subject == "" {
				c.want.Subject = s.StateDir
			}
			if len(ill) != 1 || ill[0].Area != c.want.Area || ill[0].Subject != c.want.Subject || ill[0].Severity != c.want.Severity ||
				!strings.Contains(ill[0].Message, c.want.Message) || !strings.Contains(ill[0].Next, c.want.Next) {
				t.Errorf("got %+v\nwant %+v", ill, c.want)
			}
		})
	}
}

// What the inventory warns of is told once.
func TestNothingTwice(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	s.Warnings = []string{"environment variable A is not set or empty", "known_hosts file /kh does not exist: every device will be refused"}
	s.Resolve = func(_ context.Context, ref secret.Ref) error {
		if ref.Env == "A" {
			return errors.New("environment variable A is not set")
		}
		return nil
	}
	s.Trusts = func(string, string, int) (bool, error) { return false, nil }
	count := map[string]int{}
	for _, f := range Examine(t.Context(), s) {
		if f.Severity != OK {
			count[f.Area]++
		}
	}
	if count["inventory"] != 0 || count["secrets"] != 1 || count["host keys"] != 2 {
		t.Errorf("%v", count)
	}
}

func TestOwnTemplates(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	s.Overrides = t.TempDir()
	file := filepath.Join(s.Overrides, "templates", "endace_osm", "filesystem.textfsm")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("Value Total (\\S+)\n\nStart\n  ^Total ${Total} -> Record\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var warned, failed bool
	for _, f := range Examine(t.Context(), s) {
		warned = warned || f.Area == "templates" && f.Subject == "endace_osm/filesystem" && f.Severity == Warning && strings.Contains(f.Message, "lets lines pass")
		failed = failed || f.Area == "templates" && f.Subject == "endace_osm" && f.Severity == Error && strings.Contains(f.Message, "has no Value")
	}
	if !warned || !failed {
		t.Errorf("lint %v, layout %v", warned, failed)
	}
}

// A program that hangs does not keep the rest from being told when people lose
// their patience.
func TestEndsWithContext(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Resolve = func(ctx context.Context, _ secret.Ref) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	for _, f := range Examine(ctx, s) {
		if f.Severity == Error {
			t.Errorf("an interrupt is no finding: %+v", f)
		}
	}
}

// The host that runs the tests can be looked at.
func TestHost(t *testing.T) {
	t.Parallel()
	space, err := HostSpace(t.TempDir())
	if err != nil && !errors.Is(err, errors.ErrUnsupported) || err == nil && (space.Total == 0 || space.Free > space.Total) {
		t.Errorf("%+v, %v", space, err)
	}
	if yes, known := HostSynchronized(); yes && !known {
		t.Error("synchronized, and not known")
	}
}
