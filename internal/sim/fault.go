package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// FaultInfo describes one thing that a device can be ordered to do.
type FaultInfo struct {
	Name string
	// Argument is how the argument is written, "" where there is none; brackets
	// mean that it can be left out.
	Argument string
	// Kind is "fault", "variant" (another way in which real devices print or ask
	// things) or "event" (happens once).
	Kind string
	// Platform that knows it, or several with commas between; "" is all.
	Platform    string
	Description string
}

// The kinds of orders.
const (
	kindFault   = "fault"
	kindVariant = "variant"
	kindEvent   = "event"
)

// Faults lists the faults that can be ordered.
func Faults() []FaultInfo { return infos(kindFault) }

// Orders lists everything that can be ordered: faults, variants and events.
func Orders() []FaultInfo { return infos(kindFault, kindVariant, kindEvent) }

func infos(kinds ...string) []FaultInfo {
	var out []FaultInfo
	for _, e := range catalogue() {
		if slices.Contains(kinds, e.Kind) {
			out = append(out, e.FaultInfo)
		}
	}
	return out
}

// units is how OSm prints sizes.
type units string

// The known ways; the family's newer word for "Bytes" is "Space".
const (
	unitsNone  units = "none"
	unitsGB    units = "gb"
	unitsMB    units = "mb"
	unitsSpace units = "space"
)

// faults is everything ordered of one device, ready to be looked at on every
// turn. It is immutable but for the counters.
type faults struct {
	down           bool
	mute           bool
	muteAfterLogin bool
	authFail       bool
	otherHostKey   bool
	oldAlgorithms  bool
	banner         bool
	sessions       int64 // 0: as OpenSSH allows

	slow         time.Duration
	drip         time.Duration
	splitEscapes bool

	flood          int64 // bytes; 0 none, negative endless
	drop           *atomic.Int64
	promptInOutput bool
	promptPause    time.Duration
	refuse         string // command prefix
	garbled        bool
	hang           bool

	takeover       bool
	oldTcpdump     bool
	noTcpdump      bool
	captureDenied  bool
	enablePassword bool
	failoverFlap   bool
	rebootLoop     time.Duration

	units          units
	versioned      bool
	configPrompt   string
	ansi           bool
	syncState      string
	bootTime       time.Duration
	installTime    time.Duration
	disturbsOutput bool // whether a report's output passes the slow way

	change changeFaults
	bmc    bmcFaults
}

// defaultFaults are a healthy device of the poorest variant.
func defaultFaults() faults {
	return faults{units: unitsNone, configPrompt: "config", bootTime: 2 * time.Second, installTime: time.Second, change: healthyChange()}
}

// entry is one line of the catalogue.
type entry struct {
	FaultInfo
	aliases []string
	// set parses the argument; what it returns puts the order in force.
	set func(arg string) (func(*faults), error)
	// event happens at once instead.
	event func(d *device, arg string) error
}

// catalogue is the one list of orders.
func catalogue() []entry {
	return slices.Concat(generalCatalogue(), changeCatalogue(), bmcOrders())
}

func generalCatalogue() []entry {
	return []entry{
		fault("down", "", "is powered off: refuses connections and cuts those it has", flag(func(f *faults) { f.down = true })),
		fault("mute", "", "accepts connections and never says a word (also called unreachable)",
			flag(func(f *faults) { f.mute = true })).alias("unreachable"),
		fault("mute_after_login", "", "lets clients log in and then never answers a session", flag(func(f *faults) { f.muteAfterLogin = true })),
		fault("auth_fail", "", "refuses every password and key", flag(func(f *faults) { f.authFail = true })),
		fault("host_key_changed", "", "presents another host key than the one in known_hosts", flag(func(f *faults) { f.otherHostKey = true })),
		fault("old_algorithms", "", "offers only key exchanges, ciphers, MACs and host keys of long ago", flag(func(f *faults) { f.oldAlgorithms = true })),
		fault("banner", "", "shows a banner before and a message after login, with lines that look like prompts", flag(func(f *faults) { f.banner = true })),
		fault("session_limit", "[=N]", "allows N sessions on a connection (1)", number(1, func(f *faults, n int64) { f.sessions = n })),
		fault("slow", "[=DURATION]", "takes that long for every answer (2s)", duration(2*time.Second, func(f *faults, d time.Duration) { f.slow = d })),
		fault("drip", "[=DURATION]", "sends one byte at a time with that pause between (1s)", duration(time.Second, func(f *faults, d time.Duration) { f.drip = d })),
		fault("split_escapes", "", "colours its output and sends each escape sequence in two parts", flag(func(f *faults) { f.splitEscapes, f.disturbsOutput = true, true })),
		fault("flood", "[=SIZE]", "answers report commands with that much text (endless), 10MB and the like", size(func(f *faults, n int64) { f.flood, f.disturbsOutput = n, true })),
		fault("drop", "[=N]", "cuts the connection in the middle of a report's output, N times (always)", dropping),
		fault("prompt_in_output", "[=DURATION]", "has lines in its output that look like its prompt, with that pause after each (0s)",
			duration(0, func(f *faults, d time.Duration) { f.promptInOutput, f.promptPause, f.disturbsOutput = true, d, true })),
		fault("refuse_command", "[=PREFIX]", "answers commands that begin with PREFIX (all report commands) with an error", text(func(f *faults, s string) {
			f.refuse = s
			if s == "" {
				f.refuse = anyReport
			}
		})),
		fault("garbled", "", "prints reports in a layout that no template knows", flag(func(f *faults) { f.garbled, f.disturbsOutput = true, true })),
		fault("hang_command", "", "never answers a report command", flag(func(f *faults) { f.hang, f.disturbsOutput = true, true })),
		fault("takeover", "", "has somebody else in configuration mode, who is back at once", flag(func(f *faults) { f.takeover = true })).on(platformOSm),
		fault("enable_password", "", "asks for a password before enable mode (secrets/endace-enable)", flag(func(f *faults) { f.enablePassword = true })).on(platformOSm),
		fault("failover_flap", "", "fails over to its peer or back before every prompt", flag(func(f *faults) { f.failoverFlap = true })).on(platformBigIP),
		fault("reboot_loop", "[=DURATION]", "reboots for ever, staying up that long (5s)", duration(5*time.Second, func(f *faults, d time.Duration) { f.rebootLoop = max(d, time.Millisecond) })),

		variant("units", "=none|gb|mb|space", "how sizes are printed: bare numbers of GB (default), with GB, with MB, or MB and the word Space",
			choice(func(f *faults, s string) { f.units = units(s) }, string(unitsNone), string(unitsGB), string(unitsMB), string(unitsSpace))).on(platformOSm),
		variant("packages", "=plain|versioned", "whether show packages keeps the version suffix of a hotfix (plain: no)",
			choice(func(f *faults, s string) { f.versioned = s == "versioned" }, "plain", "versioned")).on(platformOSm),
		variant("config_prompt", "=config|configuration", "the word in the prompt of configuration mode",
			choice(func(f *faults, s string) { f.configPrompt = s }, "config", "configuration")).on(platformOSm),
		variant("install_time", "=DURATION", "how long an installation takes (1s)", duration(time.Second, func(f *faults, d time.Duration) { f.installTime = d })),
		variant("old_tcpdump", "", "has a tcpdump of long ago, without -U", flag(func(f *faults) { f.oldTcpdump = true })),
		fault("no_tcpdump", "", "has no tcpdump", flag(func(f *faults) { f.noTcpdump = true })),
		fault("capture_denied", "", "lets nobody but root capture", flag(func(f *faults) { f.captureDenied = true })),
		variant("ansi", "", "puts escape sequences around its prompts", flag(func(f *faults) { f.ansi = true })),
		variant("boot_time", "=DURATION", "how long a boot takes (2s)", duration(2*time.Second, func(f *faults, d time.Duration) { f.bootTime = d })),
		variant("sync", "=STATE", "the configuration sync state that prompts and show cm sync-status give",
			choice(func(f *faults, s string) { f.syncState = s }, "In Sync", "Changes Pending", "Disconnected", "Awaiting Initial Sync", "Sync Failure", "Standalone")).on(platformBigIP),

		event("reboot", "", "reboots now; what was not saved is lost", func(d *device, _ string) error { return d.reboot("ordered") }),
		event("log", "=TEXT", "writes a line to "+systemLog, (*device).log).on(platformLinux, platformBigIP),
		event("rotate_log", "[=rename|copy]", "rotates "+systemLog+": another file gets the name, or it is copied and emptied", (*device).rotateLog).on(platformLinux, platformBigIP),
		event("failover", "", "hands the active role to the other member of the pair, or takes it",
			func(d *device, _ string) error { return d.swapRoles("ordered") }).on(platformBigIP),
	}
}

// anyReport as refuse prefix means all of a platform's report commands.
const anyReport = "\x00report"

type setter = func(string) (func(*faults), error)

func fault(name, arg, text string, set setter) entry {
	return entry{FaultInfo: FaultInfo{Name: name, Argument: arg, Kind: kindFault, Description: text}, set: set}
}

func variant(name, arg, text string, set setter) entry {
	return entry{FaultInfo: FaultInfo{Name: name, Argument: arg, Kind: kindVariant, Description: text}, set: set}
}

func event(name, arg, text string, do func(*device, string) error) entry {
	return entry{FaultInfo: FaultInfo{Name: name, Argument: arg, Kind: kindEvent, Description: text}, event: do}
}

func (e entry) alias(names ...string) entry { e.aliases = names; return e }

func (e entry) on(platforms ...string) entry { e.Platform = strings.Join(platforms, ", "); return e }

func flag(do func(*faults)) setter {
	return func(arg string) (func(*faults), error) {
		if arg != "" {
			return nil, fmt.Errorf("%w: it takes no argument", ErrInvalid)
		}
		return do, nil
	}
}

func duration(otherwise time.Duration, do func(*faults, time.Duration)) setter {
	return func(arg string) (func(*faults), error) {
		d := otherwise
		if arg != "" {
			var err error
			if d, err = time.ParseDuration(arg); err != nil || d < 0 {
				return nil, fmt.Errorf("%w: %q is not a duration such as 500ms or 2s", ErrInvalid, arg)
			}
		}
		return func(f *faults) { do(f, d) }, nil
	}
}

func number(otherwise int64, do func(*faults, int64)) setter {
	return func(arg string) (func(*faults), error) {
		n := otherwise
		if arg != "" {
			var err error
			if n, err = strconv.ParseInt(arg, 10, 32); err != nil || n < 1 {
				return nil, fmt.Errorf("%w: %q is not a number above 0", ErrInvalid, arg)
			}
		}
		return func(f *faults) { do(f, n) }, nil
	}
}

func text(do func(*faults, string)) setter {
	return func(arg string) (func(*faults), error) {
		return func(f *faults) { do(f, arg) }, nil
	}
}

func choice(do func(*faults, string), allowed ...string) setter {
	return func(arg string) (func(*faults), error) {
		if !slices.Contains(allowed, arg) {
			return nil, fmt.Errorf("%w: %q is none of %s", ErrInvalid, arg, strings.Join(allowed, ", "))
		}
		return func(f *faults) { do(f, arg) }, nil
	}
}

// dropping counts down over all connections of the device; the counter belongs
// to the order and outlives other orders.
func dropping(arg string) (func(*faults), error) {
	left := new(atomic.Int64)
	left.Store(-1) // always
	if arg != "" {
		n, err := strconv.ParseInt(arg, 10, 32)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%w: %q is not a number of times", ErrInvalid, arg)
		}
		left.Store(n)
	}
	return func(f *faults) { f.drop, f.disturbsOutput = left, true }, nil
}

func size(do func(*faults, int64)) setter {
	return func(arg string) (func(*faults), error) {
		n := int64(-1)
		if arg != "" {
			var err error
			if n, err = parseSize(arg); err != nil {
				return nil, err
			}
		}
		return func(f *faults) { do(f, n) }, nil
	}
}

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKMGTiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: %q is not a size such as 500kB, 10MB or 1GiB", ErrInvalid, s)
	}
	unit := int64(0)
	switch s[len(digits):] {
	case "", "B":
		unit = 1
	case "k", "K", "kB", "KB":
		unit = 1e3
	case "M", "MB":
		unit = 1e6
	case "G", "GB":
		unit = 1e9
	case "T", "TB":
		unit = 1e12
	case "KiB":
		unit = 1 << 10
	case "MiB":
		unit = 1 << 20
	case "GiB":
		unit = 1 << 30
	}
	if unit == 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%w: %q is not a size such as 500kB, 10MB or 1GiB", ErrInvalid, s)
	}
	return n * unit, nil
}

// takeDrop uses up one ordered cut, if there is one left.
func (f *faults) takeDrop() bool {
	if f.drop == nil {
		return false
	}
	for {
		n := f.drop.Load()
		switch {
		case n < 0:
			return true
		case n == 0:
			return false
		case f.drop.CompareAndSwap(n, n-1):
			return true
		}
	}
}

// refuses tells whether a command is ordered to be refused.
func (f *faults) refuses(line string, report bool) bool {
	switch f.refuse {
	case "":
		return false
	case anyReport:
		return report
	default:
		return strings.HasPrefix(line, f.refuse)
	}
}
