package daemon

import (
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"capfleet/internal/config"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

// Options is everything that a Daemon is told from outside.
type Options struct {
	// StateDir holds the ledger, the artifacts and the lock. It is created, for its
	// owner only. One fleetd at a time uses it.
	StateDir string
	// Inventory is the path of inventory.yaml.
	Inventory string
	// Socket is the path of the Unix socket to listen on. Its folder is created, for
	// its owner only, where it does not exist.
	Socket string
	// SocketGroup is a group, by name or number, whose members may connect as well;
	// "" leaves the socket to its owner alone.
	SocketGroup string
	// MetricsAddress is a TCP address on which metrics are served besides the socket,
	// without a login; "" is none.
	MetricsAddress string
	// Overrides is a folder with platforms/*.yaml and templates/<platform>/* that
	// take the place of those built in. It need not exist; "" is none.
	Overrides string

	// Reload asks, by anything that arrives, for the inventory to be read again;
	// nil never does.
	Reload <-chan os.Signal

	// Notify is the service manager to tell about readiness; the zero Notify is none.
	Notify Notify

	// Notifications say who is told what; nil tells nobody.
	Notifications *config.Notifications

	// Upkeep says what is kept for how long, and how it is backed up.
	Upkeep Upkeep
	Limits jobs.Limits
	Retry  jobs.RetryPolicy
	Logger *slog.Logger // nil discards

	// Tune changes the platform definitions before anything uses them: devices that
	// are known to be quicker than any real one need not be waited for as long. nil
	// leaves them as they are.
	Tune func(*device.Definition)

	// Version of the program; "" is what the build says.
	Version string

	// LookEvery is how long schedules look away from the clock at most; 0 is 15 seconds.
	LookEvery time.Duration

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// DefaultOptions gives the places and limits that are used where nothing says
// otherwise, for root or for the user that runs this process.
func DefaultOptions() (Options, error) {
	paths, err := config.Here().Paths()
	if err != nil {
		return Options{}, err
	}
	return Options{StateDir: paths.State, Inventory: paths.Inventory, Socket: paths.Socket, Overrides: paths.Overrides}, nil
}

func (o Options) validate() error {
	for name, value := range map[string]string{"state directory": o.StateDir, "inventory": o.Inventory} {
		if value == "" {
			return fault.New(fault.Invalid, "no %s is given", name)
		}
	}
	return config.CheckSocket(o.Socket)
}

// Build gives what is known of how this program was built. A version from the
// linker wins over the module's.
func Build(linked string) (version, commit string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return linked, ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = s.Value
		}
	}
	if linked != "" {
		return linked, commit
	}
	return info.Main.Version, commit
}
