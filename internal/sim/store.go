package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	stateFile    = "state.json"
	stateVersion = 1
)

// fleetState is the content of state.json.
type fleetState struct {
	Version int    `json:"version"`
	Secret  []byte `json:"secret"` // all keys and passwords are derived from it; worth nothing elsewhere
	Seed    uint64 `json:"seed"`
	Count   int    `json:"count"`
	// Written holds the digests of generated files, to leave alone what somebody
	// has edited and nothing has outdated.
	Written map[string]string       `json:"written,omitempty"`
	Devices map[string]*deviceState `json:"devices"`
}

// deviceState is what a device remembers over a restart of the simulator. It is
// guarded by the store's lock.
type deviceState struct {
	Port      int       `json:"port,omitempty"`
	BootTime  time.Time `json:"boot_time,omitzero"`
	Boots     int       `json:"boots,omitempty"`
	Booting   bool      `json:"booting,omitempty"`    // the simulator stopped while the device booted
	LegacyKey []byte    `json:"legacy_key,omitempty"` // RSA host key, PKCS #8
	BMC       *bmcState `json:"bmc,omitempty"`

	// Running is the configuration in force, Saved what the next boot finds.
	Running map[string]string `json:"running,omitempty"`
	Saved   map[string]string `json:"saved,omitempty"`

	// OSm.
	Maintenance    bool        `json:"maintenance,omitempty"`
	Packages       []installed `json:"packages,omitempty"`
	PackagesBefore []installed `json:"packages_before,omitempty"` // the installations of this run
	Unbooted       bool        `json:"unbooted,omitempty"`        // there were some
	CaptureDown    bool        `json:"capture_down,omitempty"`    // although not in maintenance mode
	CaptureStopped time.Time   `json:"capture_stopped,omitzero"`  // in this run

	// BIG-IP.
	Standby       bool      `json:"standby,omitempty"`
	FailoverSince time.Time `json:"failover_since,omitzero"`
	BootVolume    string    `json:"boot_volume,omitempty"`
	NextVolume    string    `json:"next_volume,omitempty"` // the next boot's
	Volumes       []volume  `json:"volumes,omitempty"`
	Inoperative   bool      `json:"inoperative,omitempty"` // booted and has not loaded its configuration
}

// installed is one package of an OSm device.
type installed struct {
	Name    string    `json:"name"`    // as `package install` was given it
	Version string    `json:"version"` // the suffix that show packages leaves out
	At      time.Time `json:"at"`
}

// store keeps state.json. Changes mark it dirty; run writes it behind them, so
// that a device's answer never waits for the disk.
type store struct {
	path  string
	dirty chan struct{}

	mu    sync.Mutex // guards state and everything below it
	state fleetState

	saving sync.Mutex // one writer at a time
}

// openStore reads dir's state, or starts an empty one.
func openStore(dir string) (*store, error) {
	s := &store{path: filepath.Join(dir, stateFile), dirty: make(chan struct{}, 1)}
	raw, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.state = fleetState{Version: stateVersion, Secret: newSecret()}
	case err != nil:
		return nil, fmt.Errorf("simulated fleet: %w", err)
	default:
		if err := json.Unmarshal(raw, &s.state); err != nil {
			return nil, fmt.Errorf("simulated fleet: %s is damaged: %w (remove it to start a new fleet)", s.path, err)
		}
		if s.state.Version != stateVersion || len(s.state.Secret) == 0 {
			return nil, fmt.Errorf("simulated fleet: %s has version %d, this program writes %d (use another directory)",
				s.path, s.state.Version, stateVersion)
		}
	}
	if s.state.Devices == nil {
		s.state.Devices = map[string]*deviceState{}
	}
	if s.state.Written == nil {
		s.state.Written = map[string]string{}
	}
	return s, nil
}

// settle fixes size and seed: what was asked for, else what was, else the default.
func (s *store) settle(count int, seed uint64) {
	switch {
	case count > 0:
		s.state.Count = count
	case s.state.Count <= 0 || s.state.Count > maxDevices:
		s.state.Count = DefaultDevices
	}
	switch {
	case seed != 0:
		s.state.Seed = seed
	case s.state.Seed == 0:
		s.state.Seed = 1
	}
}

// device gives the state of a device, new or old.
func (s *store) device(name string) *deviceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Devices[name]
	if st == nil {
		st = &deviceState{}
		s.state.Devices[name] = st
	}
	return st
}

// read runs fn with the state held still.
func (s *store) read(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// change runs fn and has the state written soon after.
func (s *store) change(fn func()) {
	s.read(fn)
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// run writes changes until ctx ends; Close saves the last ones.
func (s *store) run(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
			if err := s.save(); err != nil {
				log.Error("simulator state not saved", "err", err)
			}
		}
	}
}

// save writes state.json by way of a temporary name.
func (s *store) save() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	raw, err := json.Marshal(&s.state) //nolint:gosec // its file is its owner's alone
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("save simulator state: %w", err)
	}
	if err := replaceFile(s.path, raw, 0o600); err != nil {
		return fmt.Errorf("save simulator state: %w", err)
	}
	return nil
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
