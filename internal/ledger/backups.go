package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"capfleet/internal/fault"
)

// Backups are verified copies of a ledger in a directory, named by the time at
// which they were made.
type Backups struct {
	Dir  string
	Keep int // the newest so many; at least one is kept
}

const (
	backupPrefix = "ledger-"
	backupSuffix = ".db"
	backupTime   = "20060102T150405Z"
)

// Make adds a copy and removes the oldest ones over Keep. A copy has its name only
// when it is complete, on the disk and checked to its last page; when that fails
// nothing is removed, so that damage in the ledger does not push out the copies
// from before it. It wants room for the copy above the ledger's reserve, since a
// backup must not be what fills the disk.
func (b Backups) Make(ctx context.Context, db *DB, now time.Time) (path string, err error) {
	act := "back up ledger " + db.path
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return "", storage(act, err)
	}
	if err := removeAll(filepath.Join(b.Dir, backupPrefix+"*.new-*")); err != nil { // of a process that was killed
		return "", storage(act, err)
	}
	size, err := fileSize(db.path)
	if err != nil {
		return "", storage(act, err)
	}
	if err := db.room(act, b.Dir, uint64(size)); err != nil {
		return "", err
	}
	path = filepath.Join(b.Dir, backupPrefix+now.UTC().Format(backupTime)+backupSuffix)
	if err := db.backupFile(ctx, path); err != nil {
		if ctx.Err() != nil {
			return "", fault.Wrap(fault.KindOf(ctx.Err()), act, context.Cause(ctx))
		}
		return "", openError(act, err)
	}
	names, err := b.names()
	if err != nil {
		return path, storage(act, err)
	}
	for _, name := range names[:max(0, len(names)-max(b.Keep, 1))] {
		if err := os.Remove(filepath.Join(b.Dir, name)); err != nil {
			return path, storage(act, err)
		}
	}
	return path, nil
}

// Last is when the newest copy was made; the zero time when there is none.
func (b Backups) Last() (time.Time, error) {
	names, err := b.names()
	if err != nil || len(names) == 0 {
		return time.Time{}, err
	}
	return madeAt(names[len(names)-1])
}

// names are the copies' names, oldest first.
func (b Backups) names() ([]string, error) {
	entries, err := os.ReadDir(b.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, err := madeAt(e.Name()); err == nil && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func madeAt(name string) (time.Time, error) {
	return time.Parse(backupPrefix+backupTime+backupSuffix, name)
}

func removeAll(pattern string) error {
	names, err := filepath.Glob(pattern)
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// Restore puts a copy in the place of the ledger at path, which no process may
// have open. The copy is checked to its last page first, and so is what was made
// of it; its schema must be one that opts can bring up to date. The ledger that
// was there is kept beside it, under the name that is given back ("" when there
// was none). Path names one complete ledger at each instant.
func Restore(ctx context.Context, path, from string, opts Options, now time.Time) (replaced string, err error) {
	act := "restore ledger " + path
	if a, err := os.Stat(path); err == nil {
		if b, err := os.Stat(from); err == nil && os.SameFile(a, b) {
			return "", fault.New(fault.Invalid, "%s is the ledger itself, not a copy of it", from)
		}
	}
	schema, err := Inspect(ctx, from)
	if err != nil {
		return "", err
	}
	if known := schemaOf(opts.Migrations); schema > known {
		return "", &fault.Error{Kind: fault.Storage, Act: act, Err: fmt.Errorf("%s is of schema %d, this fleetd knows up to %d", from, schema, known),
			Next: "restore it with the fleetd that wrote it"}
	}
	made, err := copyFile(from, path+".new-*")
	if made != "" {
		defer func() { _ = os.Remove(made) }() // gone when it got its name
	}
	if err != nil {
		return "", storage(act, err)
	}
	if _, err := Inspect(ctx, made); err != nil {
		return "", err
	}
	if err := sameOwner(made, filepath.Dir(path)); err != nil {
		return "", storage(act, err)
	}
	if replaced, err = keepReplaced(path, now); err != nil {
		return "", storage(act, err)
	}
	if err := os.Rename(made, path); err != nil {
		return "", storage(act, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return replaced, storage(act, err)
	}
	return replaced, nil
}

// keepReplaced gives the file at path a second name, which has the time and, from the
// second restore within a second on, a number. It is empty when there is no file.
func keepReplaced(path string, now time.Time) (string, error) {
	base := path + ".replaced-" + now.UTC().Format(backupTime)
	name := base
	for n := 2; ; n++ {
		switch err := os.Link(path, name); {
		case err == nil:
			return name, nil
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case !errors.Is(err, fs.ErrExist):
			return "", err
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
}

// copyFile copies a file under a name of its own and makes it durable.
func copyFile(from, pattern string) (name string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.CreateTemp(filepath.Dir(pattern), filepath.Base(pattern))
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	return out.Name(), errors.Join(err, out.Sync(), out.Close())
}

// advise adds to the refusal of a ledger which copy is the newest that this build
// can use, and the command that puts it in place.
func (o Options) advise(path string, err error) error {
	var e *fault.Error
	if !errors.As(err, &e) || !errors.Is(err, errUnusable) {
		return err
	}
	e.Next = "there is no sound backup"
	if o.Backups != "" {
		e.Next += " in " + o.Backups
	}
	e.Next += "; put one in its place, or move the file away to start with an empty ledger"
	if good, made := newestGood(path, o.Backups, schemaOf(o.Migrations)); good != "" {
		e.Next = fmt.Sprintf("fleetd --state %s --restore %s goes back to the newest sound backup, of %s",
			quote(filepath.Dir(path)), quote(good), made.UTC().Format(time.RFC3339))
	}
	return err
}

// newestGood finds the newest copy that is sound and not newer than the schema,
// among those made by time and those made before a schema was changed.
func newestGood(path, dir string, schema int) (name string, made time.Time) {
	type copied struct {
		path string
		made time.Time
	}
	var all []copied
	if dir != "" {
		b := Backups{Dir: dir}
		names, _ := b.names() // a directory that cannot be read has none
		for _, name := range names {
			at, _ := madeAt(name)
			all = append(all, copied{filepath.Join(dir, name), at})
		}
	}
	for n := firstSchema; n <= schema; n++ {
		if info, err := os.Stat(backupName(path, n)); err == nil {
			all = append(all, copied{backupName(path, n), info.ModTime()})
		}
	}
	slices.SortStableFunc(all, func(a, b copied) int { return b.made.Compare(a.made) })
	for _, c := range all {
		if have, err := Inspect(context.Background(), c.path); err == nil && have <= schema {
			return c.path, c.made
		}
	}
	return "", time.Time{}
}

// quote makes a path one word for a POSIX shell.
func quote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@,", r)
	}
	if path != "" && strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
