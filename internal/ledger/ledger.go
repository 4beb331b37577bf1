package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"capfleet/internal/fault"
)

// Namespace is a set of keys of its own. The packages that keep something in
// the ledger declare theirs; the daemon hands the union to Open.
type Namespace string

// Options say what is kept in the ledger and how it is opened.
type Options struct {
	// Namespaces that may be used. One that the file lacks is added to it; one
	// that the file has and nobody declares is left alone.
	Namespaces []Namespace
	// Migrations bring a file of an older schema up to date, see Migration.
	Migrations []Migration
	// LockTimeout is how long to wait for a process that has the file open.
	// The default is half a second, enough for a predecessor that is closing.
	LockTimeout time.Duration
	// Backups is the directory where Backups puts copies; a ledger that cannot be
	// used is refused with the newest sound one in it. "" is none.
	Backups string
	// Reserve is how many bytes Room keeps free for what runs already; 0 is none.
	Reserve int64
	// Logger gets panics of functions given to Update, and migrations. The
	// default discards.
	Logger *slog.Logger

	compactAbove int64                                  // default compactAbove
	free         func(dir string) (uint64, bool, error) // default freeSpace
	at           func(point string)                     // called at each crash point; default failpoints
}

// ErrClosed is in the chain of what a closed ledger returns.
var ErrClosed = errors.New("the ledger is closed")

// DB is an open ledger. It is safe for concurrent use.
type DB struct {
	path string
	bolt *bolt.DB
	log  *slog.Logger

	reserve uint64
	free    func(dir string) (bytes uint64, known bool, err error)
	at      func(point string)

	namespaces map[Namespace]struct{}
	requests   chan *request // unbuffered: what is received is being worked on
	closing    chan struct{}
	written    chan struct{} // closed when the writer has returned
	closeOnce  sync.Once
	closeErr   error
	broken     atomic.Pointer[fault.Error] // set when memory and file may differ
}

// initialMap is how much address space is reserved for the file, so that it can
// grow to this size while a reader holds a snapshot.
const initialMap = 1 << 30

// Open opens the ledger at path, creating it if there is no file. It starts the
// writer; Close joins it.
//
// A file that another process has open is fault.Conflict. A damaged file, one
// that is not a ledger, and one of a newer schema are fault.Storage and are left
// as they are.
func Open(path string, opts Options) (*DB, error) {
	db, err := open(path, opts)
	return db, opts.advise(path, err)
}

func open(path string, opts Options) (*DB, error) {
	if opts.compactAbove <= 0 {
		opts.compactAbove = compactAbove
	}
	if opts.free == nil {
		opts.free = freeSpace
	}
	if opts.at == nil {
		opts.at = failpoints()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.LockTimeout <= 0 {
		opts.LockTimeout = 500 * time.Millisecond
	}
	if err := validate(opts); err != nil {
		return nil, err
	}
	act := "open ledger " + path
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(path, schemaOf(opts.Migrations)); err != nil {
			return nil, storage("create ledger "+path, err)
		}
	case err != nil:
		return nil, storage(act, err)
	case !info.Mode().IsRegular():
		return nil, &fault.Error{Kind: fault.Storage, Act: act, Err: errors.New("it is not a regular file")}
	case info.Size() == 0:
		// Ours are complete before they get their name, so this one lost its content.
		return nil, damaged(act, errors.New("the file is empty"))
	case info.Size() < int64(2*os.Getpagesize()):
		return nil, damaged(act, errors.New("the file is shorter than its head"))
	}

	db := &DB{
		path:       path,
		log:        opts.Logger,
		reserve:    uint64(max(opts.Reserve, 0)),
		free:       opts.free,
		at:         opts.at,
		namespaces: make(map[Namespace]struct{}, len(opts.Namespaces)),
		requests:   make(chan *request),
		closing:    make(chan struct{}),
		written:    make(chan struct{}),
	}
	for _, ns := range opts.Namespaces {
		db.namespaces[ns] = struct{}{}
	}
	if err := db.openLocked(act, opts.LockTimeout); err != nil {
		return nil, err
	}
	if err := checkFile(db.bolt, path); err != nil {
		db.abandon()
		return nil, openError(act, err)
	}
	if err := db.shrink(act, opts); err != nil {
		return nil, err
	}
	if err := db.prepare(opts); err != nil {
		db.abandon()
		return nil, err
	}
	go db.write()
	return db, nil
}

// validate refuses declarations that cannot be meant.
func validate(opts Options) error {
	seen := map[Namespace]bool{metaNamespace: true}
	for _, ns := range opts.Namespaces {
		if ns == "" || seen[ns] {
			return fault.New(fault.Internal, "ledger namespace %q is empty, reserved or declared twice", ns)
		}
		seen[ns] = true
	}
	for i, m := range opts.Migrations {
		if m.To != firstSchema+1+i || m.Apply == nil {
			return fault.New(fault.Internal, "ledger migration %d (%s) leads to schema %d, want %d", i, m.Name, m.To, firstSchema+1+i)
		}
	}
	return nil
}

// openLocked opens the file for this process alone.
func (db *DB) openLocked(act string, timeout time.Duration) error {
	var opened *os.File
	opts := &bolt.Options{
		Timeout:         timeout,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: initialMap,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			if opened == nil {
				opened = f
			}
			return f, err
		},
	}
	bdb, err := openFile(db.path, opts)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return locked(act)
	case err != nil:
		return openError(act, err)
	}
	db.bolt = bdb
	// The lock is the file's and not the name's. Whoever held it may have put
	// another file in place before letting go.
	mine, err := opened.Stat()
	if err == nil {
		var named fs.FileInfo
		if named, err = os.Stat(db.path); err == nil && os.SameFile(mine, named) {
			return nil
		}
	}
	if err := errors.Join(err, bdb.Close()); err != nil {
		return storage(act, err)
	}
	return locked(act)
}

func locked(act string) error {
	return &fault.Error{Kind: fault.Conflict, Act: act,
		Err:  errors.New("another process has it open"),
		Next: "one fleetd to a state directory: stop the other one, or give this one its own --state"}
}

// shrink removes what a compaction that was cut short left and compacts the file
// where that is worth it. What goes wrong with that is no reason not to start.
func (db *DB) shrink(act string, opts Options) error {
	if err := removeAll(db.path + ".compact-*"); err != nil {
		db.log.Warn("a half-made copy of the ledger could not be removed", "err", err)
	}
	done, err := db.compact(opts.compactAbove)
	if err != nil {
		db.log.Warn("ledger is not compacted", "file", db.path, "err", err)
	}
	if !done {
		return nil
	}
	if err := guard(db.bolt.Close); err != nil {
		return openError(act, err)
	}
	return db.openLocked(act, opts.LockTimeout)
}

// reach is a point at which a test may end the process.
func (db *DB) reach(point string) {
	if db.at != nil {
		db.at(point)
	}
}

// openFile is bolt.Open that turns panics and memory faults on damaged files
// into errors. After one of these the file stays mapped and locked until the
// process ends, which is what a process without its ledger does.
func openFile(path string, opts *bolt.Options) (db *bolt.DB, err error) {
	err = guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, opts)
		return err
	})
	return db, err
}

// create makes an empty ledger under a temporary name and links it into place,
// so that the name never stands for a half-made file and never replaces one.
func create(path string, schema int) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, base+".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openFile(f.Name(), &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return initMeta(tx, schema) })
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// prepare brings the file's schema up to date and adds namespaces.
func (db *DB) prepare(opts Options) error {
	if err := db.migrate(opts.Migrations); err != nil {
		return err
	}
	missing := slices.Clone(opts.Namespaces)
	err := guard(func() error {
		return db.bolt.View(func(tx *bolt.Tx) error {
			missing = slices.DeleteFunc(missing, func(ns Namespace) bool { return tx.Bucket([]byte(ns)) != nil })
			return nil
		})
	})
	if err == nil && len(missing) > 0 {
		err = guard(func() error {
			return db.bolt.Update(func(tx *bolt.Tx) error {
				for _, ns := range missing {
					if _, err := tx.CreateBucket([]byte(ns)); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	return openError("open ledger "+db.path, err)
}

// Path is the file's name.
func (db *DB) Path() string { return db.path }

// Close stops the writer, lets open Views end and closes the file. Updates that
// the writer has not taken yet get ErrClosed. It may be called again.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		close(db.closing)
		<-db.written
		if db.broken.Load() != nil {
			db.abandon()
			return
		}
		db.closeErr = openError("close ledger "+db.path, guard(db.bolt.Close))
	})
	return db.closeErr
}

// abandon closes a file whose state in memory is not to be trusted. It must not
// wait: the transaction that failed may still hold bbolt's locks.
func (db *DB) abandon() {
	bdb := db.bolt
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = guard(bdb.Close) // the damage has been reported already
	}()
	select {
	case <-closed:
	case <-time.After(time.Second):
		db.log.Warn("closing the damaged ledger did not end; the process should", "file", db.path)
	}
}

func (db *DB) closedError(act string) error {
	return &fault.Error{Kind: fault.Storage, Act: act + " ledger " + db.path, Err: ErrClosed}
}

// View runs fn on a consistent snapshot of everything acknowledged before it
// began. It may run beside other Views and the writer. Keep it short, and do not
// use the Tx or slices it gave out after fn has returned.
func (db *DB) View(fn func(*Tx) error) error {
	select {
	case <-db.closing:
		return db.closedError("read")
	default:
	}
	var btx *bolt.Tx
	err := guard(func() (err error) {
		btx, err = db.bolt.Begin(false)
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return db.closedError("read")
	case err != nil:
		return openError("read ledger "+db.path, err)
	}
	defer btx.Rollback() //nolint:errcheck // a read transaction has nothing to lose
	return db.call(fn, newTx(db, btx))
}

// Update runs fn in the writer and returns after its changes are on the disk.
// An error of fn is returned as it is and nothing of fn is kept. fault.Storage
// means that the changes are not known to be on the disk; a later Update may
// succeed, when there is space again.
// fn runs at most once, in the writer's goroutine: it must be quick and must not
// call Update or View. The context counts until the writer has taken fn; from
// then on it is a matter of one commit.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.KindOf(err), "write ledger", context.Cause(ctx))
	}
	r := &request{fn: fn, done: make(chan error, 1)}
	select {
	case db.requests <- r:
		return <-r.done
	case <-ctx.Done():
		return fault.Wrap(fault.KindOf(ctx.Err()), "write ledger", context.Cause(ctx))
	case <-db.closing:
		return db.closedError("write")
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only read and synced
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
