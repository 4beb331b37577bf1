package sel

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// TestRefusedAccountIsLeftAlone: an hour, two, up to a day; a new password or a
// login that is taken ends it.
func TestRefusedAccountIsLeftAlone(t *testing.T) {
	t.Parallel()
	var r refusals
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	target := bmc.Target{Host: "192.0.2.9", Username: "ADMIN", Password: secret.New("old")}
	refused := &fault.Error{Kind: fault.Auth, Stage: "login", Err: errors.New("no")}
	for i, hours := range []int{1, 2, 4, 8, 16, 24, 24} {
		if err := r.check(target, now); err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
		r.note(target, now, refused)
		now = now.Add(time.Duration(hours)*time.Hour - time.Second)
		err := r.check(target, now)
		if !fault.Is(err, fault.Auth) || !strings.Contains(err.Error(), "--try-refused") {
			t.Errorf("try %d: a second before %d h: %v", i, hours, err)
		}
		now = now.Add(time.Second)
	}
	r.note(target, now, refused)
	other := target
	other.Host = "192.0.2.10"
	if err := r.check(other, now); err != nil {
		t.Errorf("another BMC: %v", err)
	}
	renewed := target
	renewed.Password = secret.New("new")
	if err := r.check(renewed, now); err != nil {
		t.Errorf("a new password: %v", err)
	}
	r.note(renewed, now, nil)
	if err := r.check(target, now); err != nil {
		t.Errorf("after a login: %v", err)
	}
	// Nothing that says something of the account.
	for _, err := range []error{fault.New(fault.Timeout, "silent"), &fault.Error{Kind: fault.Auth, Stage: bmc.StageSession, Err: errors.New("a page")}} {
		r.note(target, now, err)
		if held := r.check(target, now); held != nil {
			t.Errorf("after %v: %v", err, held)
		}
	}
}

func TestPinFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	b := &device.BMC{Host: "BMC1", Port: 8443, KnownBMCs: filepath.Join(t.TempDir(), "known_bmcs")}
	var p pinFiles
	if got, err := p.of(b); err != nil || len(got) != 0 {
		t.Fatalf("no file: %q, %v", got, err)
	}
	for n, digit := range []string{"A", "B"} {
		pin := bmc.Pin{Host: bmc.HostName(b.Host, b.Port), Fingerprint: strings.Repeat(digit, 64)}
		if _, _, err := bmc.AddPins(b.KnownBMCs, []bmc.Pin{pin}, true); err != nil {
			t.Fatal(err)
		}
		// File systems may tell times coarsely.
		stamp := time.Unix(int64(1_700_000_000+n), 0)
		if err := os.Chtimes(b.KnownBMCs, stamp, stamp); err != nil {
			t.Fatal(err)
		}
		if got, err := p.of(b); err != nil || !slices.Equal(got, []string{pin.Fingerprint}) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := os.WriteFile(b.KnownBMCs, []byte("bmc1 nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.of(b); !fault.Is(err, fault.Invalid) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

func TestPinOf(t *testing.T) {
	t.Parallel()
	dev := &device.Device{Name: "a", BMC: &device.BMC{Host: "192.0.2.9", KnownBMCs: "/inv/known_bmcs"}}
	der := []byte("not really a certificate")
	const inBase64 = "bm90IHJlYWxseSBhIGNlcnRpZmljYXRl"
	path, pin, err := PinOf(dev, "192.0.2.9", bmc.Fingerprint(der), inBase64)
	if err != nil || path != "/inv/known_bmcs" || pin.Fingerprint != bmc.Fingerprint(der) {
		t.Errorf("%s, %+v, %v", path, pin, err)
	}
	for name, c := range map[string][3]string{
		"another host":        {"192.0.2.10", bmc.Fingerprint(der), inBase64},
		"another fingerprint": {"192.0.2.9", strings.Repeat("A", 64), inBase64},
		"no certificate":      {"192.0.2.9", bmc.Fingerprint(der), "%"},
	} {
		if _, _, err := PinOf(dev, c[0], c[1], c[2]); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := PinOf(&device.Device{Name: "b"}, "192.0.2.9", "", ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("no BMC: %v", err)
	}
}
