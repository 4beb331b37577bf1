package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"capfleet/internal/fault"
)

// System is what the defaults depend on.
type System struct {
	OS     string // as runtime.GOOS
	UID    int    // 0 is root; -1 where there are no user ids
	Home   string // "" when there is none
	Getenv func(string) string
	IsDir  func(string) bool
	Exists func(string) bool // a file of any kind
}

// Here is the system and the user of this process.
func Here() System {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // an error only once a default needs it
	}
	return System{OS: runtime.GOOS, UID: os.Getuid(), Home: home, Getenv: os.Getenv, IsDir: func(dir string) bool {
		st, err := os.Stat(dir)
		return err == nil && st.IsDir()
	}, Exists: func(path string) bool {
		_, err := os.Lstat(path)
		return err == nil
	}}
}

// Paths are the places used where no setting names others.
type Paths struct {
	Config    string // configuration file; it need not exist
	Inventory string
	Overrides string // folder of the operator's platforms and templates; it need not exist
	State     string
	Socket    string
}

// Paths gives the defaults for this system and user.
func (s System) Paths() (Paths, error) {
	if s.OS == "windows" {
		local := s.Getenv("LOCALAPPDATA")
		if local == "" {
			return Paths{}, noHome("LOCALAPPDATA is not set")
		}
		base := filepath.Join(local, "fleetd")
		return under(base, filepath.Join(base, "state"), base), nil
	}
	if s.UID == 0 {
		return under("/etc/fleetd", "/var/lib/fleetd", "/run/fleetd"), nil
	}
	config, err := s.xdg("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return Paths{}, err
	}
	state, err := s.xdg("XDG_STATE_HOME", ".local", "state")
	if err != nil {
		return Paths{}, err
	}
	runtimeDir := s.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(runtimeDir) {
		runtimeDir = "/run/user/" + strconv.Itoa(s.UID)
		if s.OS != "linux" || !s.IsDir(runtimeDir) {
			runtimeDir = state
		}
	}
	return under(filepath.Join(config, "fleetd"), filepath.Join(state, "fleetd"), filepath.Join(runtimeDir, "fleetd")), nil
}

func under(config, state, runtimeDir string) Paths {
	return Paths{
		Config:    filepath.Join(config, "fleetd.yaml"),
		Inventory: filepath.Join(config, "inventory.yaml"),
		Overrides: filepath.Join(config, "overrides"),
		State:     state,
		Socket:    filepath.Join(runtimeDir, "fleetd.sock"),
	}
}

// xdg gives a base directory. A relative one is to be ignored (XDG Base
// Directory Specification).
func (s System) xdg(variable string, fallback ...string) (string, error) {
	if dir := s.Getenv(variable); filepath.IsAbs(dir) {
		return dir, nil
	}
	if s.Home == "" {
		return "", noHome("neither " + variable + " nor HOME is set")
	}
	return filepath.Join(append([]string{s.Home}, fallback...)...), nil
}

func noHome(why string) error {
	return &fault.Error{Kind: fault.Invalid, Act: "find the default places", Err: errors.New(why)}
}

// DefaultSocket is where fleetctl looks for fleetd when it was told nothing: where
// this user's own would listen, or, when there is none, the system's.
func (s System) DefaultSocket() (string, error) {
	paths, err := s.Paths()
	if err != nil {
		return "", err
	}
	if s.OS != "windows" && !s.Exists(paths.Socket) {
		if system := "/run/fleetd/fleetd.sock"; s.Exists(system) {
			return system, nil
		}
	}
	return paths.Socket, nil
}

// DefaultSocket is that of this process's system and user.
func DefaultSocket() (string, error) { return Here().DefaultSocket() }

// ContextsEnv names fleetctl's configuration file where the default is not it.
const ContextsEnv = "FLEET_CONFIG"

// ContextsFile is fleetctl's configuration file for this user. It need not exist.
func (s System) ContextsFile() (string, error) {
	if file := s.Getenv(ContextsEnv); file != "" {
		return file, nil
	}
	if s.OS == "windows" {
		if dir := s.Getenv("APPDATA"); dir != "" {
			return filepath.Join(dir, "fleetctl", "config.yaml"), nil
		}
		return "", noHome("APPDATA is not set")
	}
	dir, err := s.xdg("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "fleetctl", "config.yaml"), nil
}

// CheckSocket refuses a path that does not fit into the kernel's socket address
// (sun_path: 108 bytes on Linux, 104 on BSD and macOS, the last one a zero),
// where listen would say no more than "invalid argument".
func CheckSocket(path string) error {
	limit := 103
	if runtime.GOOS == "linux" || runtime.GOOS == "windows" {
		limit = 107
	}
	switch {
	case path == "":
		return fault.New(fault.Invalid, "the path of the socket is empty")
	case len(path) > limit:
		return &fault.Error{Kind: fault.Invalid, Act: "use socket " + path,
			Err:  fmt.Errorf("its path has %d bytes and the system allows %d", len(path), limit),
			Next: "name a shorter one with --socket"}
	}
	return nil
}
