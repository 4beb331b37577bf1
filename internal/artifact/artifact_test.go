package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

type fixture struct {
	dir string
	db  *ledger.DB
	*Store
}

func epoch() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func open(tb testing.TB, opts Options) fixture {
	tb.Helper()
	dir := tb.TempDir()
	db, err := ledger.Open(filepath.Join(dir, "ledger.db"), ledger.Options{Namespaces: append(Namespaces(), audit.Namespaces()...)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	opts.Now = epoch
	f := fixture{dir: filepath.Join(dir, "artifacts"), db: db}
	f.Store = f.reopen(tb, opts)
	return f
}

func (f fixture) reopen(tb testing.TB, opts Options) *Store {
	tb.Helper()
	s, err := Open(f.dir, f.db, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (f fixture) put(tb testing.TB, meta Meta, content string) Artifact {
	tb.Helper()
	a, err := f.Put(tb.Context(), meta, strings.NewReader(content))
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// files lists what is on the disk, relative to the store.
func (f fixture) files(tb testing.TB) []string {
	tb.Helper()
	var out []string
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(f.dir, path)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func (f fixture) read(tb testing.TB, sha string) (string, error) {
	tb.Helper()
	r, _, err := f.Open(tb.Context(), sha)
	if err != nil {
		return "", err
	}
	defer func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	}()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestPutAndOpen(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"empty": "", "small": "Bytes Total 1\n", "larger than a buffer": strings.Repeat("0123456789", 100_000)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, Options{})
			want := Artifact{
				SHA256: digest(content), Name: "raw.txt", MediaType: "text/plain; charset=utf-8",
				Size: int64(len(content)), Job: "7", Device: "lon-probe-01", CreatedAt: epoch(),
			}
			got := s.put(t, Meta{Name: "raw.txt", MediaType: "text/plain; charset=utf-8", Job: "7", Device: "lon-probe-01"}, content)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			back, err := s.read(t, got.SHA256)
			if err != nil || back != content {
				t.Errorf("%d bytes came back of %d: %v", len(back), len(content), err)
			}
			st, err := os.Stat(s.object(got.SHA256))
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
			if diff := cmp.Diff([]string{filepath.Join("objects", got.SHA256[:2], got.SHA256)}, s.files(t)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSameContentIsOneFile(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	first := s.put(t, Meta{Name: "a.txt", Job: "1", Device: "x"}, "same")
	again := s.put(t, Meta{Name: "a.txt", Job: "1", Device: "x"}, "same") // a retried attempt
	other := s.put(t, Meta{Name: "b.txt", Job: "2", Device: "y"}, "same")
	if first != again {
		t.Errorf("a repeated Put gave %+v, then %+v", first, again)
	}
	if n := len(s.files(t)); n != 1 {
		t.Errorf("%d files", n)
	}
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Artifact{first, other}, all); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if _, a, err := s.Open(t.Context(), first.SHA256); err != nil || a != first {
		t.Errorf("opened as %+v, %v", a, err)
	}
}

func TestListByJob(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	for _, job := range []string{"1", "12", "2", "1", ""} {
		s.put(t, Meta{Name: "f", Job: job}, fmt.Sprint("content ", len(s.files(t))))
	}
	for job, want := range map[string]int{"1": 2, "12": 1, "2": 1, "3": 0, "": 5} {
		got, err := s.List(t.Context(), job)
		if err != nil || len(got) != want {
			t.Errorf("job %q: %d entries, want %d (%v)", job, len(got), want, err)
		}
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	a := s.put(t, Meta{Name: "a", Job: "1"}, "one")
	s.put(t, Meta{Name: "b", Job: "2"}, "one")
	keep := s.put(t, Meta{Name: "c", Job: "2"}, "two")
	r, _, err := s.Open(t.Context(), a.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), a.SHA256); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "one" {
		t.Errorf("an open reader got %q, %v", b, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Artifact{keep}, all); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if n := len(s.files(t)); n != 1 {
		t.Errorf("%d files left", n)
	}
	if _, err := s.read(t, a.SHA256); !fault.Is(err, fault.NotFound) {
		t.Errorf("read after remove: %v", err)
	}
	if err := s.Remove(t.Context(), a.SHA256); !fault.Is(err, fault.NotFound) {
		t.Errorf("second remove: %v", err)
	}
}

func TestDigestIsNeverAPath(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	for _, bad := range []string{"", "../../etc/passwd", strings.Repeat("A", 64), strings.Repeat("g", 64), strings.Repeat("a", 63), strings.Repeat("a", 66)} {
		if _, _, err := s.Open(t.Context(), bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("open %q: %v", bad, err)
		}
		if err := s.Remove(t.Context(), bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("remove %q: %v", bad, err)
		}
	}
}

// A damaged file is never read to its end as if it were whole.
func TestDamageIsNoticed(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("packet ", 50_000)
	for name, damage := range map[string]func([]byte) []byte{
		"one bit":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"last byte": func(b []byte) []byte { b[len(b)-1]++; return b },
		"shortened": func(b []byte) []byte { return b[:len(b)-1] },
		"emptied":   func([]byte) []byte { return nil },
		"lengthened": func(b []byte) []byte {
			return append(b, 'x')
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, Options{})
			a := s.put(t, Meta{Name: "a"}, content)
			if err := os.WriteFile(s.object(a.SHA256), damage([]byte(content)), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := s.read(t, a.SHA256)
			if !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("read gave %v", err)
			}
			if len(got) >= len(content) {
				t.Error("all of it was handed out")
			}
			// Keeping the same content again heals it.
			s.put(t, Meta{Name: "a"}, content)
			if got, err := s.read(t, a.SHA256); err != nil || got != content {
				t.Errorf("after keeping it again: %v", err)
			}
		})
	}
}

// Whatever goes wrong, nothing is left half kept.
func TestFailedPutLeavesNothing(t *testing.T) {
	t.Parallel()
	boom := &fault.Error{Kind: fault.Disconnected, Act: "read", Err: errors.New("cut")}
	for name, c := range map[string]struct {
		stop bool
		r    io.Reader
		full failingFile
		meta Meta
		kind fault.Kind
		want string
	}{
		"reader fails":    {r: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(boom)), kind: fault.Disconnected},
		"canceled":        {stop: true, r: strings.NewReader("x"), kind: fault.Canceled},
		"too large":       {r: strings.NewReader(strings.Repeat("x", 101)), kind: fault.TooLarge, want: "larger than 100 bytes"},
		"disk full":       {r: strings.NewReader("x"), full: failingFile{write: syscall.ENOSPC}, kind: fault.Storage, want: "free some space"},
		"sync fails":      {r: strings.NewReader("x"), full: failingFile{sync: syscall.EIO}, kind: fault.Storage, want: "input/output"},
		"close fails":     {r: strings.NewReader("x"), full: failingFile{close: syscall.EDQUOT}, kind: fault.Storage, want: "free some space"},
		"zero byte in id": {r: strings.NewReader("x"), meta: Meta{Job: "1\x00"}, kind: fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, Options{MaxSize: 100})
			s.create = func(dir string) (tempFile, error) {
				f, err := os.CreateTemp(dir, "put-*")
				c.full.File = f
				return c.full, err
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.stop {
				cancel()
			}
			_, err := s.Put(ctx, c.meta, c.r)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (%s), want %s %q", err, fault.KindOf(err), c.kind, c.want)
			}
			s.empty(t)
		})
	}
}

func (f fixture) empty(t *testing.T) {
	t.Helper()
	if files := f.files(t); len(files) > 0 {
		t.Errorf("files left: %v", files)
	}
	if all, err := f.List(t.Context(), ""); err != nil || len(all) > 0 {
		t.Errorf("entries left: %v, %v", all, err)
	}
}

type failingFile struct {
	*os.File
	write, sync, close error
}

func (f failingFile) Write(p []byte) (int, error) {
	if f.write != nil {
		return 0, f.write
	}
	return f.File.Write(p)
}

func (f failingFile) Sync() error { return f.sync }

func (f failingFile) Close() error { return errors.Join(f.File.Close(), f.close) }

// The disk refuses the move to the file's place after the entry was written.
func TestFailedMoveTakesTheEntryBack(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	// A file where the folder should be made.
	blocker := filepath.Join(s.objects(), digest("x")[:2])
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), Meta{Name: "a"}, strings.NewReader("x")); !fault.Is(err, fault.Storage) {
		t.Fatalf("got %v", err)
	}
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	s.empty(t)
}

// The states in which a kill at any instant can leave the store.
func TestRecovery(t *testing.T) {
	t.Parallel()
	content, sha := "content", digest("content")
	t.Run("half written", func(t *testing.T) {
		t.Parallel()
		s := open(t, Options{})
		leave(t, filepath.Join(s.tmp(), "put-123"), "con")
		s.reopen(t, Options{})
		s.empty(t)
	})
	t.Run("written, not entered", func(t *testing.T) {
		t.Parallel()
		s := open(t, Options{})
		leave(t, filepath.Join(s.tmp(), sha+".123"), content)
		s.reopen(t, Options{})
		s.empty(t)
	})
	t.Run("entered, not moved", func(t *testing.T) {
		t.Parallel()
		s := open(t, Options{})
		s.put(t, Meta{Name: "a"}, content)
		if err := os.Rename(s.object(sha), filepath.Join(s.tmp(), sha+".123")); err != nil {
			t.Fatal(err)
		}
		s.Store = s.reopen(t, Options{})
		if got, err := s.read(t, sha); err != nil || got != content {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("taken out, entry gone", func(t *testing.T) {
		t.Parallel()
		s := open(t, Options{})
		s.put(t, Meta{Name: "a"}, content)
		if _, err := s.takeOut(sha); err != nil {
			t.Fatal(err)
		}
		if err := s.forget(t.Context(), sha, ""); err != nil {
			t.Fatal(err)
		}
		s.reopen(t, Options{})
		s.empty(t)
	})
	t.Run("foreign file", func(t *testing.T) {
		t.Parallel()
		s := open(t, Options{})
		if err := os.MkdirAll(filepath.Join(s.tmp(), "dir", "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		s.reopen(t, Options{})
		s.empty(t)
	})
}

func leave(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEntryWithoutItsFile(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	a := s.put(t, Meta{Name: "a"}, "x")
	if err := os.Remove(s.object(a.SHA256)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.read(t, a.SHA256); !fault.Is(err, fault.Storage) {
		t.Errorf("read: %v", err)
	}
	if err := s.Remove(t.Context(), a.SHA256); err != nil {
		t.Errorf("remove: %v", err)
	}
	s.empty(t)
}

// Many writers, readers and removers of a few contents: a reader gets a whole
// file or is told that there is none.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 20 {
				content := fmt.Sprint("content ", (worker+i)%3)
				if a, err := s.Put(t.Context(), Meta{Name: "f", Job: strconv.Itoa(worker)}, strings.NewReader(content)); err != nil || a.SHA256 != digest(content) {
					t.Errorf("put: %v", err)
				}
				if got, err := s.read(t, digest(content)); err != nil && !fault.Is(err, fault.NotFound) || err == nil && got != content {
					t.Errorf("read: %q, %v", got, err)
				}
				if i%5 == 4 {
					if err := s.Remove(t.Context(), digest(content)); err != nil && !fault.Is(err, fault.NotFound) {
						t.Errorf("remove: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, a := range all {
		want[filepath.Join("objects", a.SHA256[:2], a.SHA256)] = true
	}
	files := s.files(t)
	if len(files) != len(want) || slices.ContainsFunc(files, func(f string) bool { return !want[f] }) {
		t.Errorf("files %v, entries %v", files, want)
	}
}

func TestCleanName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"raw.txt":                    "raw.txt",
		"../../etc/x":                "x",
		`C:\temp\evil.exe`:           "evil.exe",
		"..":                         "artifact",
		"":                           "artifact",
		"/":                          "artifact",
		"-rf":                        "rf",
		".profile":                   "profile",
		"show version.txt":           "show_version.txt",
		"a\x1b[31m\nb":               "a_[31m_b",
		"$(reboot)`x`":               "_(reboot)_x_",
		"café.pcap":                  "café.pcap",
		"bad\xff":                    "bad_",
		"\u202egnp.exe":              "_gnp.exe",
		strings.Repeat("é", 150):     strings.Repeat("é", 100),
		"a" + strings.Repeat(".", 9): "a",
	} {
		if got := cleanName(in); got != want {
			t.Errorf("cleanName(%q) = %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
		got := cleanName(in)
		if got == "" || len(got) > maxName || got != filepath.Base(got) || strings.ContainsAny(got, "/\\\x00\n") || strings.HasPrefix(got, ".") {
			t.Fatalf("cleanName(%q) = %q", in, got)
		}
		if again := cleanName(got); again != got {
			t.Fatalf("cleaning %q again gives %q", got, again)
		}
	})
}

func TestCleanMediaType(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"text/plain":                        "text/plain",
		"Text/Plain; Charset=UTF-8":         "text/plain; charset=UTF-8",
		"":                                  "application/octet-stream",
		"plain":                             "application/octet-stream",
		"text/html\r\nSet-Cookie: a":        "application/octet-stream",
		"text/" + strings.Repeat("x", 1000): "application/octet-stream",
	} {
		if got := cleanMediaType(in); got != want {
			t.Errorf("cleanMediaType(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPutStopsWithItsContext(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, "more"), nil
	})
	if _, err := s.Put(ctx, Meta{Name: "a"}, endless); !fault.Is(err, fault.Canceled) {
		t.Errorf("got %v", err)
	}
	s.empty(t)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func BenchmarkPut(b *testing.B) {
	s := open(b, Options{})
	content := bytes.Repeat([]byte("x"), 64<<10)
	b.SetBytes(int64(len(content)))
	n := 0
	for b.Loop() {
		n++
		copy(content, fmt.Sprint(n, " "))
		if _, err := s.Put(b.Context(), Meta{Name: "a"}, bytes.NewReader(content)); err != nil {
			b.Fatal(err)
		}
	}
}
