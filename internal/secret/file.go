package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// credentialsDirectory is where systemd tells a service its credentials are
// (systemd.exec(5), CREDENTIALS).
const credentialsDirectory = "CREDENTIALS_DIRECTORY"

// readFile reads a bounded file. Anything that is not a regular file is refused:
// opening a pipe waits for ever for whoever writes into it.
func readFile(what, name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s %s is not a regular file", what, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if len(b) > maxValue {
		return nil, fmt.Errorf("%s %s is larger than %d bytes", what, name, maxValue)
	}
	return b, nil
}

// present reports a file that is not there, or "".
func present(what, name string) string {
	_, problem := stat(what, name)
	return problem
}

// private reports a file that is not there, or that people other than its owner
// and group can read, or "".
func private(what, name string) string {
	st, problem := stat(what, name)
	if problem == "" && runtime.GOOS != "windows" && st.Mode().Perm()&0o007 != 0 {
		return fmt.Sprintf("%s %s can be read by everybody (mode %04o): chmod 600 it", what, name, st.Mode().Perm())
	}
	return problem
}

func stat(what, name string) (fs.FileInfo, string) {
	st, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Sprintf("%s %s does not exist", what, name)
	case err != nil:
		return nil, fmt.Sprintf("%s %s: %v", what, name, bare(err))
	case !st.Mode().IsRegular():
		return nil, fmt.Sprintf("%s %s is not a regular file", what, name)
	}
	return st, ""
}

// CheckCredential reports a name that no systemd credential has: it is a plain
// file name.
func CheckCredential(name string) error {
	const longest = 255
	if name == "" || len(name) > longest || name == "." || name == ".." ||
		strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '\\' || r == ':' }) {
		return errors.New("that is not the name of a systemd credential (a file name of printable ASCII without / \\ : and spaces)")
	}
	return nil
}

func credentialPath(name string) (string, error) {
	dir := os.Getenv(credentialsDirectory)
	if dir == "" {
		return "", fmt.Errorf("systemd credential %s: %s is not set: start fleetd from a systemd unit with LoadCredential=%s:PATH",
			name, credentialsDirectory, name)
	}
	return filepath.Join(dir, name), nil
}

func readCredential(name string) ([]byte, error) {
	path, err := credentialPath(name)
	if err != nil {
		return nil, err
	}
	return readFile("systemd credential", path)
}
