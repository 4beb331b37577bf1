package artifact

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"capfleet/internal/fault"
)

// TestOpenAt: many read one file at once, anywhere, and a damaged one is noticed
// also when it was whole before.
func TestOpenAt(t *testing.T) {
	s := open(t, Options{})
	content := bytes.Repeat([]byte("0123456789"), 300_000)
	a, err := s.Put(t.Context(), Meta{Name: "fix.end"}, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			f, err := s.OpenAt(t.Context(), a.SHA256)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			got, err := io.ReadAll(io.NewSectionReader(f, int64(i)*100_000, f.Size()))
			if err != nil || !bytes.Equal(got, content[i*100_000:]) || f.Name() != "fix.end" || f.Size() != int64(len(content)) {
				t.Errorf("%d: %d bytes of %s, %v", i, len(got), f.Name(), err)
			}
		})
	}
	wg.Wait()

	content[17]++
	if err := os.Chmod(s.object(a.SHA256), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.object(a.SHA256), content, 0o600); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(s.object(a.SHA256), later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenAt(t.Context(), a.SHA256); !fault.Is(err, fault.Storage) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := s.OpenAt(t.Context(), a.SHA256[1:]); !fault.Is(err, fault.Invalid) {
		t.Errorf("no digest: %v", err)
	}
	if err := s.Remove(t.Context(), a.SHA256); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenAt(t.Context(), a.SHA256); !fault.Is(err, fault.NotFound) || errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
}
