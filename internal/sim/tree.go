package sim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"
)

// tree is a device's files, kept in a folder of the fleet's directory and
// opened with os.Root, so that neither ".." nor a symbolic link leads out of
// it. It is made when somebody first looks.
type tree struct {
	dir string
	dev *device

	mu     sync.Mutex
	root   *os.Root
	closed bool
	inodes []fs.FileInfo // files that were asked for their number
}

func newTree(dir string, dev *device) *tree { return &tree{dir: dir, dev: dev} }

// open gives the root, furnished.
func (t *tree) open() (*os.Root, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root != nil {
		return t.root, nil
	}
	if t.closed {
		return nil, fs.ErrClosed
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return nil, err
	}
	if err := furnish(root, t.dev.persona.furnish(t.dev)); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	t.root = root
	return root, nil
}

// furnish makes the files that a device has from the start; those that exist
// are left alone.
func furnish(root *os.Root, files map[string]string) error {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := root.MkdirAll(inside(path.Dir(name+"x")), 0o755); err != nil {
			return fmt.Errorf("furnish %s: %w", name, err)
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		f, err := root.OpenFile(inside(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("furnish %s: %w", name, err)
		}
		_, err = io.WriteString(f, files[name])
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("furnish %s: %w", name, err)
		}
	}
	return nil
}

// inside turns a device's path into one below the root.
func inside(name string) string {
	name = strings.TrimPrefix(filepath.ToSlash(name), filepath.VolumeName(name))
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	return filepath.FromSlash(name)
}

func (t *tree) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.root == nil {
		return nil
	}
	err := t.root.Close()
	t.root = nil
	return err
}

// forget empties folders that are in memory.
func (t *tree) forget(dirs ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root == nil {
		return nil // nobody has looked yet, or it is over
	}
	var errs []error
	for _, dir := range dirs {
		entries, err := fs.ReadDir(t.root.FS(), strings.TrimPrefix(dir, "/"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			errs = append(errs, t.root.RemoveAll(inside(dir+"/"+e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (t *tree) openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	root, err := t.open()
	if err != nil {
		return nil, err
	}
	return root.OpenFile(inside(name), flag, perm)
}

// content opens a file for reading: one that changes by itself, or one that is kept.
func (t *tree) content(name string) (io.ReadCloser, error) {
	if live := t.dev.persona.live(t.dev, path.Clean(name)); live != nil {
		return io.NopCloser(strings.NewReader(string(live))), nil
	}
	f, err := t.openFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close() // read-only
		return nil, &fs.PathError{Op: "read", Path: name, Err: errIsDirectory}
	}
	return f, nil
}

var errIsDirectory = errors.New("is a directory")

func (t *tree) stat(name string, follow bool) (fs.FileInfo, error) {
	root, err := t.open()
	if err != nil {
		return nil, err
	}
	if follow {
		return root.Stat(inside(name))
	}
	return root.Lstat(inside(name))
}

func (t *tree) readDir(name string) ([]fs.DirEntry, error) {
	f, err := t.openFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	return entries, errors.Join(err, f.Close())
}
