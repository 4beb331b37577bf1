package output

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile puts data into a file by way of a temporary name in the same
// directory, so that whoever reads the file sees all of it or what was there
// before. A link is followed; what is there and no regular file (a device, a
// directory) is refused, since a rename would take its place. A file keeps the mode
// that it had.
func WriteFile(name string, data []byte) error { return WriteFrom(name, bytes.NewReader(data)) }

// WriteFrom is WriteFile of what r gives until its end. When r fails nothing is
// written, and the error is r's own.
func WriteFrom(name string, r io.Reader) error {
	return WriteWith(name, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// WriteSecret is WriteFrom into a file that its owner alone can read, whatever mode
// it had.
func WriteSecret(name string, r io.Reader) error {
	return writeWith(name, true, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// WriteWith is WriteFile of what fill writes. When fill fails nothing is written,
// and the error is fill's own.
func WriteWith(name string, fill func(io.Writer) error) error { return writeWith(name, false, fill) }

func writeWith(name string, secret bool, fill func(io.Writer) error) error {
	target, err := filepath.EvalSymlinks(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		target = name
	case err != nil:
		return err
	}
	before, err := os.Stat(target)
	if err == nil && !before.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	existed := err == nil
	tmp := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+"."+rand.Text())
	mode := os.FileMode(0o666) // the usual one, less what the umask takes away
	if secret {
		mode = 0o600
	}
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if existed && !secret {
		// Before there is anything to read in it.
		err = file.Chmod(before.Mode().Perm())
	}
	if err == nil {
		err = fill(file)
	}
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(tmp, target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}
