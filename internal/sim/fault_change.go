package sim

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Faults of changes: what goes wrong while a device is given new software.

// changeFaults are those ordered of one device. They are immutable but for what
// counts.
type changeFaults struct {
	cuts        map[changeStep]*cut
	uploadRate  int64 // bytes a second; 0: as fast as it goes
	uploadCut   *uploadCut
	corrupt     bool
	space       *atomic.Int64 // left on the disks; nil: as much as the file system has
	fills       *fill         // something else that takes room; nil: nothing
	installFail bool
	listedOld   bool

	neverReturns  bool
	inMaintenance bool
	noCapture     bool
	unchanged     bool
	noConfig      bool

	// BIG-IP.
	licence        string // service check date, 20240131; "" is a good one
	badConfig      bool
	ucsFails       bool
	failoverStuck  bool
	bothActive     bool
	autoFailback   bool
	firmwareReboot time.Duration
	settleTime     time.Duration
	imageTime      time.Duration
	ucsTime        time.Duration

	reload  string // what reload asks, reloadNone and so on
	capture string // what can be seen of capture, captureFull and so on
}

func healthyChange() changeFaults {
	return changeFaults{cuts: map[changeStep]*cut{}, reload: reloadNone, capture: captureFull,
		settleTime: 200 * time.Millisecond, imageTime: 200 * time.Millisecond, ucsTime: 100 * time.Millisecond}
}

// changeStep is a part of a change whose connection can be ordered to be cut.
type changeStep string

const (
	stepMaintenance changeStep = "maintenance"
	stepInstall     changeStep = "install"
	stepSave        changeStep = "save"
	stepReload      changeStep = "reload"
	stepFailover    changeStep = "failover"
)

// When a connection is cut.
const (
	cutBefore = "before" // the command is lost
	cutDuring = "during" // it is being carried out
	cutAfter  = "after"  // it was carried out and its answer is lost
)

// What reload asks.
const (
	reloadNone    = "none"
	reloadUnsaved = "unsaved"
	reloadConfirm = "confirm"
	reloadDrop    = "drop"
)

// What a probe shows of its capture.
const (
	captureFull    = "full"
	captureCounter = "counter"
	captureNone    = "none"
)

// changeCatalogue is the part of the catalogue that concerns changes.
func changeCatalogue() []entry {
	return []entry{
		fault("cut_upload", "[=SIZE[xN]]", "cuts the connection once SIZE of an uploaded file has arrived over it, N times (64kB, once)", cuttingUploads),
		fault("slow_upload", "[=SIZE]", "takes that much of an uploaded file a second (100kB)", func(arg string) (func(*faults), error) {
			n := int64(100e3)
			if arg != "" {
				var err error
				if n, err = parseSize(arg); err != nil {
					return nil, err
				}
			}
			return func(f *faults) { f.change.uploadRate = n }, nil
		}),
		fault("wrong_checksum", "", "stores another first byte of a file than was uploaded", flag(func(f *faults) { f.change.corrupt = true })),
		fault("disk_full", "[=SIZE]", "has room for that much more and no further (none)", filling),
		fault("disk_fills", "[=SIZE]", "loses that much room a second to something else (1GB)", func(arg string) (func(*faults), error) {
			f := &fill{rate: 1e9, since: time.Now()}
			if arg != "" {
				var err error
				if f.rate, err = parseSize(arg); err != nil {
					return nil, err
				}
			}
			return func(o *faults) { o.change.fills = f }, nil
		}),
		cutting(stepMaintenance, "maintenance-mode", cutAfter, cutBefore).on(platformOSm),
		cutting(stepInstall, "the install command", cutDuring, cutBefore, cutAfter),
		cutting(stepSave, "saving the configuration", cutAfter, cutBefore),
		cutting(stepReload, "the command that reboots", cutAfter, cutBefore),
		cutting(stepFailover, "run sys failover standby", cutAfter, cutBefore).on(platformBigIP),
		fault("install_fails", "", "fails half-way through an installation", flag(func(f *faults) { f.change.installFail = true })),
		fault("listed_old", "", "says that a package was installed and goes on listing what it listed before", flag(func(f *faults) { f.change.listedOld = true })).on(platformOSm),
		fault("never_returns", "", "does not come back from a reboot for as long as this is ordered", flag(func(f *faults) { f.change.neverReturns = true })),
		fault("back_in_maintenance", "", "comes back from a reboot in maintenance mode", flag(func(f *faults) { f.change.inMaintenance = true })).on(platformOSm),
		fault("back_without_capture", "", "comes back from a reboot and captures nothing", flag(func(f *faults) { f.change.noCapture = true })).on(platformOSm),
		fault("back_unchanged", "", "comes back from a reboot with the software of before (also called boots_old_volume)",
			flag(func(f *faults) { f.change.unchanged = true })).alias("boots_old_volume"),
		fault("back_without_config", "", "comes back from a reboot without its configuration", flag(func(f *faults) { f.change.noConfig = true })),
		fault("licence_old", "[=YYYYMMDD]", "has a licence with that service check date (20130101); newer software boots and loads no configuration", licence).on(platformBigIP),
		fault("config_invalid", "", "has a configuration that load sys config verify finds an error in", flag(func(f *faults) { f.change.badConfig = true })).on(platformBigIP),
		fault("ucs_fails", "", "cannot save a UCS archive", flag(func(f *faults) { f.change.ucsFails = true })).on(platformBigIP),
		fault("failover_stuck", "", "takes run sys failover standby and stays active", flag(func(f *faults) { f.change.failoverStuck = true })).on(platformBigIP),
		fault("both_active", "", "calls itself active whatever its peer is", flag(func(f *faults) { f.change.bothActive = true })).on(platformBigIP),
		fault("firmware_reboot", "[=DURATION]", "reboots once more that long after its first boot from a volume (500ms)",
			duration(500*time.Millisecond, func(f *faults, d time.Duration) { f.change.firmwareReboot = d })).on(platformBigIP),

		variant("auto_failback", "", "takes the active role back when it boots", flag(func(f *faults) { f.change.autoFailback = true })).on(platformBigIP),
		variant("settle_time", "=DURATION", "how long after a boot it is INOPERATIVE (200ms)",
			duration(0, func(f *faults, d time.Duration) { f.change.settleTime = d })).on(platformBigIP),
		variant("image_time", "=DURATION", "how long it hashes an image before it lists it (200ms)",
			duration(0, func(f *faults, d time.Duration) { f.change.imageTime = d })).on(platformBigIP),
		variant("ucs_time", "=DURATION", "how long saving a UCS archive takes (100ms)",
			duration(0, func(f *faults, d time.Duration) { f.change.ucsTime = d })).on(platformBigIP),
		variant("reload_prompt", "=none|unsaved|confirm|drop",
			"what reload asks: nothing, whether to save, whether to reboot; or it drops the connection with no word",
			choice(func(f *faults, s string) { f.change.reload = s }, reloadNone, reloadUnsaved, reloadConfirm, reloadDrop)).on(platformOSm),
		variant("capture_status", "=full|counter|none",
			"what show erfstream statistics gives: counters and the newest packet, counters alone, or an error",
			choice(func(f *faults, s string) { f.change.capture = s }, captureFull, captureCounter, captureNone)).on(platformOSm),

		event("installed", "=PACKAGE", "has had a package, named as package install names it, for long", (*device).hadPackage).on(platformOSm),
	}
}

func licence(arg string) (func(*faults), error) {
	if arg == "" {
		arg = "20130101"
	}
	if _, err := time.Parse("20060102", arg); err != nil {
		return nil, fmt.Errorf("%w: %q is not a date such as 20240131", ErrInvalid, arg)
	}
	return func(f *faults) { f.change.licence = arg }, nil
}

// cut is an order to cut the connection once at one step.
type cut struct {
	when string
	left atomic.Int64
}

// cutting describes the fault of one step; the first way is the default.
func cutting(step changeStep, what string, ways ...string) entry {
	set := func(arg string) (func(*faults), error) {
		if arg == "" {
			arg = ways[0]
		}
		c := &cut{when: arg}
		c.left.Store(1)
		return choiceOf(arg, ways, func(f *faults) { f.change.cuts[step] = c })
	}
	return fault("cut_"+string(step), "[="+strings.Join(ways, "|")+"]",
		fmt.Sprintf("cuts the connection %s %s, once", ways[0], what), set)
}

func choiceOf(arg string, allowed []string, do func(*faults)) (func(*faults), error) {
	return choice(func(f *faults, _ string) { do(f) }, allowed...)(arg)
}

// cutAt cuts the session's connection if that is ordered of this moment.
func (s *session) cutAt(step changeStep, when string) bool {
	c := s.dev.ordered.Load().change.cuts[step]
	if c == nil || c.when != when || !takeOne(&c.left) {
		return false
	}
	s.conn.cut()
	return true
}

// takeOne counts down to 0 and says whether there was one left.
func takeOne(left *atomic.Int64) bool {
	for {
		n := left.Load()
		if n <= 0 {
			return false
		}
		if left.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// uploadCut is an order to cut connections that carry an upload.
type uploadCut struct {
	after int64 // bytes over one connection
	left  atomic.Int64
}

func cuttingUploads(arg string) (func(*faults), error) {
	size, times, repeated := strings.Cut(arg, "x")
	c := &uploadCut{after: 64e3}
	c.left.Store(1)
	if size != "" {
		var err error
		if c.after, err = parseSize(size); err != nil {
			return nil, err
		}
	}
	if repeated {
		n, err := strconv.ParseInt(times, 10, 32)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%w: %q is not a number of times", ErrInvalid, times)
		}
		c.left.Store(n)
	}
	return func(f *faults) { f.change.uploadCut = c }, nil
}

// filling limits what can still be written; the figure belongs to the order.
func filling(arg string) (func(*faults), error) {
	left := new(atomic.Int64)
	if arg != "" && arg != "0" {
		n, err := parseSize(arg)
		if err != nil {
			return nil, err
		}
		left.Store(n)
	}
	return func(f *faults) { f.change.space = left }, nil
}

// pace is how long n bytes of an upload take.
func (c *changeFaults) pace(n int) time.Duration {
	if c.uploadRate == 0 {
		return 0
	}
	return time.Duration(math.Ceil(float64(n) / float64(c.uploadRate) * float64(time.Second)))
}
