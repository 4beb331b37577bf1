package artifact

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

// Meta is what is said about a file when it is kept.
type Meta struct {
	Name      string // as it came, possibly from a device; it is cleaned
	MediaType string // "" or nonsense becomes application/octet-stream; see Secret
	Job       string // "" for a file that an operator added
	Device    string
	CreatedBy string // who added it; "" for what a job made
}

// Artifact is a kept file.
type Artifact struct {
	SHA256    string    `json:"sha256"` // 64 lower-case hexadecimal digits
	Name      string    `json:"name"`   // a plain file name, safe on every system
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size"` // bytes
	Job       string    `json:"job,omitempty"`
	Device    string    `json:"device,omitempty"`
	CreatedBy string    `json:"created_by,omitempty"` // of a file that an operator added
	CreatedAt time.Time `json:"created_at"`           // UTC
	// Recovered is set of a file that was found without an entry; see Open.
	Recovered bool `json:"recovered,omitempty"`
}

// Secret reports whether the file holds keys or passwords: its media type has the
// parameter secret=yes. Such a file is kept like any other, and handed out only to
// who asks for it as a secret.
func (a Artifact) Secret() bool {
	_, params, err := mime.ParseMediaType(a.MediaType)
	return err == nil && params["secret"] == "yes"
}

// Options of Open.
type Options struct {
	// MaxSize bounds one file in bytes; 0 is no bound. A larger one is
	// fault.TooLarge and nothing of it is kept.
	MaxSize int64
	// Quota bounds what all files take together, in bytes; 0 is no bound. What would
	// go beyond it is fault.Storage and nothing of it is kept.
	Quota  int64
	Logger *slog.Logger     // gets what was left over from a crash
	Now    func() time.Time // default time.Now
}

// Store keeps artifacts in one directory. It is safe for concurrent use by one
// process; the ledger's lock keeps a second one out.
type Store struct {
	dir     string
	db      *ledger.DB
	maxSize int64
	quota   int64
	used    atomic.Int64 // bytes of all files, and of those that are being written
	log     *slog.Logger
	now     func() time.Time
	create  func(dir string) (tempFile, error)

	// moving is held shared while a file and its entry are brought in and alone
	// while they are taken out, so that neither is seen halfway.
	moving sync.RWMutex

	checking chan struct{}      // of one: a mutex that a context can leave, for checked
	checked  map[string]checked // by digest
}

// tempFile is what Put needs of a new file; tests make it fail.
type tempFile interface {
	io.WriteCloser
	Sync() error
	Name() string
}

// Open opens the store in dir, which is created, and finishes or removes what a
// crash left halfway. The ledger must have been opened with Namespaces. Where it is
// older than the files, as after a restore from a backup, files without an entry get
// one, and entries without a file are told of in the log.
func Open(dir string, db *ledger.DB, opts Options) (*Store, error) {
	s := &Store{dir: dir, db: db, maxSize: opts.MaxSize, quota: opts.Quota, log: opts.Logger, now: opts.Now, create: createTemp,
		checking: make(chan struct{}, 1), checked: make(map[string]checked)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, d := range []string{dir, s.tmp(), s.objects()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, storage("open artifact store "+dir, err)
		}
	}
	if err := s.recover(); err != nil {
		return nil, err
	}
	if err := s.reconcile(); err != nil {
		return nil, storage("open artifact store "+dir, err)
	}
	return s, nil
}

func createTemp(dir string) (tempFile, error) { return os.CreateTemp(dir, "put-*") }

func (s *Store) tmp() string     { return filepath.Join(s.dir, "tmp") }
func (s *Store) objects() string { return filepath.Join(s.dir, "objects") }

// object is a digest's place; only checked digests come here.
func (s *Store) object(sha string) string { return filepath.Join(s.objects(), sha[:2], sha) }

// recover brings in or takes out what is in tmp.
func (s *Store) recover() error {
	const act = "recover artifact store"
	entries, err := os.ReadDir(s.tmp())
	if err != nil {
		return storage(act, err)
	}
	for _, e := range entries {
		name := filepath.Join(s.tmp(), e.Name())
		sha, _, _ := strings.Cut(e.Name(), ".")
		kept := false
		if checkDigest(sha) == nil {
			if kept, err = s.known(sha); err != nil {
				return err
			}
		}
		if kept {
			err = s.bringIn(name, sha)
		} else {
			err = os.RemoveAll(name)
		}
		if err != nil {
			return storage(act, err)
		}
		s.log.Info("artifact left over from a crash", "file", e.Name(), "kept", kept)
	}
	return nil
}

// bringIn moves a complete file to its place.
func (s *Store) bringIn(from, sha string) error {
	to := s.object(sha)
	dir := filepath.Dir(to)
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		if err := syncDir(s.objects()); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrExist):
		return err
	}
	// Over an older copy of the same content: ours was hashed just now.
	more := sizeOf(from) - sizeOf(to)
	if err := os.Rename(from, to); err != nil {
		return err
	}
	s.used.Add(more)
	return syncDir(dir)
}

// takeOut moves a file out of its place and gives its new name.
func (s *Store) takeOut(sha string) (string, error) {
	to := filepath.Join(s.tmp(), sha+".out")
	less := sizeOf(s.object(sha))
	if err := os.Rename(s.object(sha), to); err != nil {
		return "", err
	}
	s.used.Add(-less)
	return to, errors.Join(syncDir(s.tmp()), syncDir(filepath.Dir(s.object(sha))))
}

// Remove takes out a file with all its entries; fault.NotFound when there is
// none. Readers that have it open keep it to the end.
func (s *Store) Remove(ctx context.Context, sha256 string) error { return s.remove(ctx, sha256, "") }

func (s *Store) remove(ctx context.Context, sha256, by string) error {
	if err := checkDigest(sha256); err != nil {
		return err
	}
	act := "remove artifact " + sha256
	s.moving.Lock()
	defer s.moving.Unlock()
	if kept, err := s.known(sha256); err != nil {
		return err
	} else if !kept {
		return notFound(sha256)
	}
	return s.removeFile(ctx, act, sha256, by)
}

// removeFile takes out a file with all its entries, moving being held alone. By
// is who asked, or "" for fleetd itself.
func (s *Store) removeFile(ctx context.Context, act, sha256, by string) error {
	out, err := s.takeOut(sha256)
	gone := errors.Is(err, os.ErrNotExist) // somebody removed it by hand; the entries go too
	if err != nil && !gone {
		return storage(act, err)
	}
	if err := s.forget(ctx, sha256, by); err != nil {
		if !gone {
			err = errors.Join(err, s.bringIn(out, sha256))
		}
		return storage(act, err)
	}
	if !gone {
		if err := os.Remove(out); err != nil {
			// The entries are gone and the next Open removes the file.
			s.log.Warn("removed artifact still takes space", "file", out, "err", err)
		}
	}
	return nil
}

func checkDigest(sha string) error {
	if raw, err := hex.DecodeString(sha); err != nil || len(raw) != 32 || strings.ToLower(sha) != sha {
		return fault.New(fault.Invalid, "%q is no SHA-256 digest: 64 lower-case hexadecimal digits are expected", fault.Clip(sha, 80))
	}
	return nil
}

func notFound(sha string) error {
	return fault.New(fault.NotFound, "there is no artifact with the digest %s", sha)
}

// storage gives an error its kind and, where the disk is full, the way out.
func storage(act string, err error) error {
	next := ""
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		next = "free some space where fleetd keeps its state, then retry"
	}
	var have *fault.Error
	if errors.As(err, &have) {
		return err
	}
	return &fault.Error{Kind: fault.Storage, Act: act, Stage: "artifact", Err: err, Next: next}
}

// maxName bounds a file name; every file system takes that many bytes.
const maxName = 200

// cleanName makes a plain file name of what a device or an operator called a
// file: the last part of a path of either kind, printable, without what means
// something to a shell or to Windows.
func cleanName(name string) string {
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == utf8.RuneError || unicode.IsSpace(r) || strings.ContainsRune(`<>:"|?*`+"`'$&;!", r) {
			return '_'
		}
		return r
	}, name)
	name = strings.TrimLeft(name, ".-")
	if reserved(name) {
		name = "_" + name
	}
	for len(name) > maxName {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	if name = strings.TrimRight(name, "."); name == "" {
		return "artifact"
	}
	return name
}

// reserved reports a name that Windows takes for a device, whatever its extension.
func reserved(name string) bool {
	base, _, _ := strings.Cut(name, ".")
	switch base = strings.ToUpper(base); base {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	port, ok := strings.CutPrefix(base, "COM")
	if !ok {
		port, ok = strings.CutPrefix(base, "LPT")
	}
	return ok && utf8.RuneCountInString(port) == 1 && strings.Contains("0123456789¹²³", port)
}

func cleanMediaType(s string) string {
	if media, params, err := mime.ParseMediaType(s); err == nil && len(s) <= maxName {
		if full := mime.FormatMediaType(media, params); strings.Contains(full, "/") {
			return full
		}
	}
	return "application/octet-stream"
}
