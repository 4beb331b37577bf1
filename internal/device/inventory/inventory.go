package inventory

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/hint"
)

// maxFile bounds an inventory file; 100,000 devices are about 20 MB.
const maxFile = 64 << 20

// Options of Load.
type Options struct {
	// Platforms that exist. A device of another one is an error; nil accepts any.
	Platforms []string
}

// Inventory is a file that was read without an error. It is immutable and safe
// for concurrent use; a changed file gives a new one.
type Inventory struct {
	path       string
	knownHosts string
	devices    []*device.Device // by name
	byName     map[string]*device.Device
	vocabulary vocabulary
}

// Load reads an inventory file. What is wrong with the file comes back all at
// once as fault.Invalid around a *FileError; a file that cannot be read is
// fault.NotFound or fault.Invalid. It reads no secret and calls no device.
func Load(path string, opts Options) (*Inventory, error) {
	src, err := read(path)
	if err != nil {
		return nil, err
	}
	return parse(src, path, opts)
}

func read(path string) ([]byte, error) {
	const act = "load inventory"
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fault.Error{Kind: fault.NotFound, Act: act, Err: fmt.Errorf("%s does not exist", path),
			Next: "write one, or name another with --inventory"}
	}
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Act: act, Err: err}
	}
	defer func() { _ = f.Close() }()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Act: act, Err: err}
	}
	if len(src) > maxFile {
		return nil, &fault.Error{Kind: fault.TooLarge, Act: act, Err: fmt.Errorf("%s is larger than %d bytes", path, maxFile)}
	}
	return src, nil
}

func parse(src []byte, path string, opts Options) (*Inventory, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "load inventory", Err: err}
	}
	found := &problems{}
	inv := build(src, filepath.Dir(abs), opts, found)
	if err := found.err(path); err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "load inventory", Err: err}
	}
	inv.path = path
	return inv, nil
}

// build gives nothing useful once there is a problem.
func build(src []byte, dir string, opts Options, found *problems) *Inventory {
	root, ok := document(src, found)
	if !ok {
		return nil
	}
	if root == nil {
		found.add(place{line: 1}, "the file is empty: version: %d and devices are expected", formatVersion)
		return nil
	}
	s := &schema{decoder: decoder{found}, checked: map[label]string{}, zones: map[string]error{}}
	if !s.version(root) {
		return nil
	}
	f := s.file(root)
	r := &resolver{
		problems:  found,
		file:      f,
		platforms: opts.Platforms,
		dir:       dir,
		entries:   make(map[string]*entry, len(f.devices)),
		devices:   make(map[string]*device.Device, len(f.devices)),
		creds:     make(map[string]device.Credentials, len(f.credentials)),
		jumps:     make(map[string]text, len(f.devices)),
		bmcJumps:  make(map[string]text, len(f.devices)),
	}
	devices := r.run()
	return &Inventory{
		knownHosts: r.hosts,
		devices:    devices,
		byName:     r.devices,
		vocabulary: newVocabulary(devices, &f, opts.Platforms),
	}
}

// Path is the file that was read, as it was named to Load.
func (inv *Inventory) Path() string { return inv.path }

// KnownHosts is the absolute path of the known_hosts file, which may not exist yet.
func (inv *Inventory) KnownHosts() string { return inv.knownHosts }

// Devices gives all devices by name. The devices are shared and must not be
// changed; the slice is the caller's.
func (inv *Inventory) Devices() []*device.Device { return slices.Clone(inv.devices) }

// Device gives one device by its name, or fault.NotFound with the nearest name.
func (inv *Inventory) Device(name string) (*device.Device, error) {
	if d, ok := inv.byName[name]; ok {
		return d, nil
	}
	return nil, fault.New(fault.NotFound, "no device is called %s%s", quote(name), hint.DidYouMean(name, inv.names()))
}
