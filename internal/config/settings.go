package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"capfleet/internal/fault"
)

// Settings of fleetd. All paths are absolute.
type Settings struct {
	File      string // the configuration file that was read, or ""
	State     string // directory of ledger and artifacts
	Inventory string
	Overrides string
	Socket    string
	// SocketGroup may connect as well; "" is nobody but the user that fleetd runs as.
	SocketGroup string
	// MetricsAddress is host:port for metrics over TCP; "" is none.
	MetricsAddress string
	LogLevel       slog.Level
	LogFormat      string // text or json
	Limits         Limits
	Backup         Backup
	Retention      Retention
	MinFree        int64 // bytes of free space; below, no new work is accepted
	// Notifications are in the file alone; nil where it says nothing of them.
	Notifications *Notifications
}

// Limits say how many units may be worked on at once.
type Limits struct {
	Global    int
	PerSite   int
	PerDevice int // reads of one device; a change is alone
}

// Setting is one setting as flags, environment and file name it.
type Setting struct {
	Name string // in the file; dots are levels
	Flag string
	Env  string
	Help string

	path  bool
	value value
}

// value joins a setting's text with the field that holds it.
type value struct {
	set  func(*Settings, string) error
	show func(*Settings) string
}

// Show gives the text of a setting as it is in force, "" for none.
func (s Setting) Show(in Settings) string { return s.value.show(&in) }

func text(field func(*Settings) *string) value {
	return value{
		set:  func(s *Settings, v string) error { *field(s) = v; return nil },
		show: func(s *Settings) string { return *field(s) },
	}
}

// checked is a text that is checked, and may be completed, by read.
func checked(field func(*Settings) *string, read func(string) (string, error)) value {
	return value{
		set:  func(s *Settings, v string) (err error) { *field(s), err = read(v); return err },
		show: func(s *Settings) string { return *field(s) },
	}
}

func limit(field func(*Settings) *int) value {
	return value{
		set: func(s *Settings, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > maxLimit {
				return fmt.Errorf("a number from 1 to %d is expected", maxLimit)
			}
			*field(s) = n
			return nil
		},
		show: func(s *Settings) string { return strconv.Itoa(*field(s)) },
	}
}

// All lists the settings, in the order in which help shows them.
func All() []Setting {
	return append([]Setting{
		{"state", "state", "FLEETD_STATE", "directory of the ledger and the artifacts", true,
			text(func(s *Settings) *string { return &s.State })},
		{"inventory", "inventory", "FLEETD_INVENTORY", "inventory file", true,
			text(func(s *Settings) *string { return &s.Inventory })},
		{"socket", "socket", "FLEETD_SOCKET", "Unix socket to listen on", true,
			text(func(s *Settings) *string { return &s.Socket })},
		{"socket_group", "socket-group", "FLEETD_SOCKET_GROUP", "group whose members may connect too", false,
			text(func(s *Settings) *string { return &s.SocketGroup })},
		{"overrides", "overrides", "FLEETD_OVERRIDES", "directory of your own platforms/ and templates/", true,
			text(func(s *Settings) *string { return &s.Overrides })},
		{"metrics_address", "metrics-address", "FLEETD_METRICS_ADDRESS", "serve Prometheus metrics on HOST:PORT too; without HOST on this machine alone", false,
			checked(func(s *Settings) *string { return &s.MetricsAddress }, metricsAddress)},
		{"log.level", "log-level", "FLEETD_LOG_LEVEL", "debug, info, warn or error", false,
			value{
				set: func(s *Settings, v string) error {
					if err := s.LogLevel.UnmarshalText([]byte(v)); err != nil {
						return errors.New("debug, info, warn or error is expected")
					}
					return nil
				},
				show: func(s *Settings) string { return s.LogLevel.String() },
			}},
		{"log.format", "log-format", "FLEETD_LOG_FORMAT", "text or json", false,
			checked(func(s *Settings) *string { return &s.LogFormat }, func(v string) (string, error) {
				if v != "text" && v != "json" {
					return "", errors.New("text or json is expected")
				}
				return v, nil
			})},
		{"limits.global", "limit", "FLEETD_LIMIT", "units worked on at once", false,
			limit(func(s *Settings) *int { return &s.Limits.Global })},
		{"limits.per_site", "limit-per-site", "FLEETD_LIMIT_PER_SITE", "units of one site worked on at once", false,
			limit(func(s *Settings) *int { return &s.Limits.PerSite })},
		{"limits.per_device", "limit-per-device", "FLEETD_LIMIT_PER_DEVICE", "jobs reading one device at once", false,
			limit(func(s *Settings) *int { return &s.Limits.PerDevice })},
	}, keeping()...)
}

// ConfigEnv names the configuration file where no flag does.
const ConfigEnv = "FLEETD_CONFIG"

const maxLimit = 10_000

// Defaults of the limits: a device rarely likes more than a few readers, and one
// site's link should not be filled by its own reports.
func defaultLimits() Limits { return Limits{Global: 64, PerSite: 32, PerDevice: 4} }

// Request says what was asked for beside the environment.
type Request struct {
	File   string            // --config; "" is $FLEETD_CONFIG, else the default, which may be missing
	Flags  map[string]string // by Setting.Flag; only those that were given
	System System
}

// Load gives the settings in force: flags over environment over file over
// defaults. A key or value that is not understood is fault.Invalid and names
// where it stands.
func Load(req Request) (Settings, error) {
	paths, err := req.System.Paths()
	if err != nil {
		paths = Paths{} // every path may be given; what is missing is told below
	}
	s := Settings{
		State: paths.State, Inventory: paths.Inventory, Overrides: paths.Overrides, Socket: paths.Socket,
		LogLevel: slog.LevelInfo, LogFormat: "text", Limits: defaultLimits(),
		Backup: defaultBackup(), Retention: defaultRetention(), MinFree: defaultMinFree,
	}
	file, must := req.File, true
	if file == "" {
		file = req.System.Getenv(ConfigEnv)
	}
	if file == "" {
		file, must = paths.Config, false
	}
	if file != "" {
		if err := s.readFile(file, must, req.System.Home); err != nil {
			return Settings{}, err
		}
	}
	for _, setting := range All() {
		value, from := req.System.Getenv(setting.Env), setting.Env
		if flag, given := req.Flags[setting.Flag]; given {
			value, from = flag, "--"+setting.Flag
		} else if value == "" {
			continue
		}
		if err := s.apply(setting, value, ""); err != nil {
			return Settings{}, &fault.Error{Kind: fault.Invalid, Act: from + " " + strconv.Quote(value), Err: err}
		}
	}
	for _, p := range []string{s.State, s.Inventory, s.Socket} {
		if p == "" {
			return Settings{}, err
		}
	}
	if s.Backup.Dir == "" {
		s.Backup.Dir = filepath.Join(s.State, "backups")
	}
	return s, CheckSocket(s.Socket)
}

// apply sets one value; a relative path is taken from dir, or from the working
// directory.
func (s *Settings) apply(setting Setting, value, dir string) error {
	if value == "" {
		return errors.New("it is empty")
	}
	if setting.path {
		if dir != "" && !filepath.IsAbs(value) {
			value = filepath.Join(dir, value)
		}
		abs, err := filepath.Abs(value)
		if err != nil {
			return err
		}
		value = abs
	}
	return setting.value.set(s, value)
}

// layout is the file as it is written.
type layout struct {
	State          *string `yaml:"state"`
	Inventory      *string `yaml:"inventory"`
	Socket         *string `yaml:"socket"`
	Overrides      *string `yaml:"overrides"`
	SocketGroup    *string `yaml:"socket_group"`
	MetricsAddress *string `yaml:"metrics_address"`
	Log            struct {
		Level  *string `yaml:"level"`
		Format *string `yaml:"format"`
	} `yaml:"log"`
	Limits struct {
		Global    *int `yaml:"global"`
		PerSite   *int `yaml:"per_site"`
		PerDevice *int `yaml:"per_device"`
	} `yaml:"limits"`
	Backup struct {
		Dir      *string `yaml:"dir"`
		Interval *string `yaml:"interval"`
		Keep     *string `yaml:"keep"`
	} `yaml:"backup"`
	Retention struct {
		Age           *string `yaml:"age"`
		Jobs          *string `yaml:"jobs"`
		Bytes         *string `yaml:"bytes"`
		ArtifactAge   *string `yaml:"artifact_age"`
		ArtifactBytes *string `yaml:"artifact_bytes"`
		ArtifactQuota *string `yaml:"artifact_quota"`
		AuditAge      *string `yaml:"audit_age"`
		HistoryAge    *string `yaml:"history_age"`
	} `yaml:"retention"`
	MinFree *string       `yaml:"min_free"`
	Notify  *notifyLayout `yaml:"notify"`
}

func (l *layout) values() map[string]string {
	out := map[string]string{}
	for name, v := range map[string]*string{
		"state": l.State, "inventory": l.Inventory, "socket": l.Socket, "socket_group": l.SocketGroup, "metrics_address": l.MetricsAddress, "overrides": l.Overrides,
		"log.level": l.Log.Level, "log.format": l.Log.Format,
		"backup.dir": l.Backup.Dir, "backup.interval": l.Backup.Interval, "backup.keep": l.Backup.Keep,
		"retention.age": l.Retention.Age, "retention.jobs": l.Retention.Jobs, "retention.bytes": l.Retention.Bytes,
		"retention.artifact_age": l.Retention.ArtifactAge, "retention.artifact_bytes": l.Retention.ArtifactBytes,
		"retention.artifact_quota": l.Retention.ArtifactQuota,
		"retention.audit_age":      l.Retention.AuditAge, "retention.history_age": l.Retention.HistoryAge,
		"min_free": l.MinFree,
	} {
		if v != nil {
			out[name] = *v
		}
	}
	for name, v := range map[string]*int{
		"limits.global": l.Limits.Global, "limits.per_site": l.Limits.PerSite, "limits.per_device": l.Limits.PerDevice,
	} {
		if v != nil {
			out[name] = strconv.Itoa(*v)
		}
	}
	return out
}

func (s *Settings) readFile(path string, must bool, home string) error {
	const act = "read configuration"
	var l layout
	err := readYAML(path, act, &l, func() []string {
		names := make([]string, 0, len(All()))
		for _, s := range All() {
			names = append(names, s.Name)
		}
		return append(append(names, "notify"), notifyKeys()...)
	})
	if errors.Is(err, fs.ErrNotExist) && !must {
		return nil
	}
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return &fault.Error{Kind: fault.Invalid, Act: act, Err: err}
	}
	values := l.values()
	for _, setting := range All() {
		value, given := values[setting.Name]
		if !given {
			continue
		}
		if rest, ok := strings.CutPrefix(value, "~/"); ok && setting.path && home != "" {
			value = filepath.Join(home, rest)
		}
		if err := s.apply(setting, value, filepath.Dir(abs)); err != nil {
			return &fault.Error{Kind: fault.Invalid, Act: act, Err: fmt.Errorf("%s: %s %q: %w", path, setting.Name, value, err)}
		}
	}
	if l.Notify != nil {
		n, err := l.Notify.read(filepath.Dir(abs))
		if err != nil {
			return &fault.Error{Kind: fault.Invalid, Act: act, Err: fmt.Errorf("%s: %w", path, err)}
		}
		s.Notifications = &n
	}
	s.File = abs
	return nil
}

// metricsAddress completes an address. Metrics have no login, so whoever wants
// them on the network has to name an address of it.
func metricsAddress(v string) (string, error) {
	if !strings.Contains(v, ":") {
		v = ":" + v
	}
	host, port, err := net.SplitHostPort(v)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", errors.New("HOST:PORT or a port is expected")
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
