package artifact

import (
	"bytes"
	"strings"
	"testing"

	"capfleet/internal/fault"
)

// TestQuota: what all files take is bounded, over restarts, too; the same content is
// counted once, and what was removed or refused not at all.
func TestQuota(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Quota: 1000})
	s := f.Store
	put := func(name string, n int) (Artifact, error) {
		return s.Put(t.Context(), Meta{Name: name}, strings.NewReader(strings.Repeat(name[:1], n)))
	}
	first, err := put("a", 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put("a", 600); !fault.Is(err, fault.Storage) {
		t.Fatalf("there is no room for a copy while it is written: %v", err)
	}
	if _, err := put("b", 401); !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), "artifact rm") {
		t.Fatalf("over the quota: %v", err)
	}
	if n := s.used.Load(); n != 600 {
		t.Errorf("%d bytes are counted", n)
	}
	s = f.reopen(t, Options{Quota: 1000})
	if _, err := put("b", 401); !fault.Is(err, fault.Storage) {
		t.Fatalf("after a restart: %v", err)
	}
	if _, err := put("c", 400); err != nil {
		t.Fatalf("up to the quota: %v", err)
	}
	if err := s.Remove(t.Context(), first.SHA256); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), Meta{Name: "d"}, bytes.NewReader(make([]byte, 600))); err != nil {
		t.Fatalf("after a removal: %v", err)
	}
	if n := s.used.Load(); n != 1000 {
		t.Errorf("%d bytes are counted", n)
	}
}
