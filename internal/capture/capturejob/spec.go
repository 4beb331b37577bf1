package capturejob

import "strings"

// Operation is the operation's name.
const Operation = "capture"

// Spec is what a request says: one kind of capture.
type Spec struct {
	Live    *Live    `json:"live,omitempty"`
	Ring    *Ring    `json:"ring,omitempty"`
	Analyze *Analyze `json:"analyze,omitempty"`
}

// Live asks for a capture on one device that one client reads as it comes.
type Live struct {
	// Interface as the device's tcpdump names it; on a BIG-IP with its own additions
	// (0.0:nnnp).
	Interface string `json:"interface"`
	// Filter is a libpcap expression; empty is everything but our own SSH sessions.
	Filter string `json:"filter,omitempty"`
	// SnapLen is how many bytes of a packet are kept; 0 is all.
	SnapLen int `json:"snap_len,omitempty"`
	// Packets and Bytes end the capture; absent is no limit, and 0 is refused.
	Packets *int64 `json:"packets,omitempty"`
	Bytes   *int64 `json:"bytes,omitempty"`
	// DurationSeconds ends it in any case; absent is an hour.
	DurationSeconds *float64 `json:"duration_seconds,omitempty"`
	// F5 are the details that a BIG-IP adds to each packet, such as "n,ssl:v". With ssl
	// the capture holds keys, the device is changed for its time, and that is a change.
	F5 string `json:"f5,omitempty"`
	// NoPromiscuous leaves the interface out of promiscuous mode.
	NoPromiscuous bool `json:"no_promiscuous,omitempty"`
	// Sudo runs tcpdump as root through sudo -n.
	Sudo bool `json:"sudo,omitempty"`
	// Stream is the name by which reader and capture find each other; fleetd gives it.
	Stream string `json:"stream,omitempty"`
}

// HoldsKeys reports whether the capture will hold keys of TLS sessions.
func (s *Live) HoldsKeys() bool {
	for part := range strings.SplitSeq(s.F5, ",") {
		if name, _, _ := strings.Cut(part, ":"); name == "ssl" {
			return true
		}
	}
	return false
}

// Ring asks for rings of capture files that run on devices until something happens,
// and are collected then. What happens on one device stops all.
type Ring struct {
	Points []Point `json:"points"`
	// Files and Megabytes are the ring of each point: so many files of so many
	// million bytes.
	Files     int `json:"files"`
	Megabytes int `json:"megabytes"`
	SnapLen   int `json:"snap_len"` // bytes of a packet; 0 is all of it
	// Directory on the devices; the rings get a folder of their own there.
	Directory string `json:"directory"`
	// MinFreePercent of the file system is left free.
	MinFreePercent float64 `json:"min_free_percent"`

	// What stops the rings; the first that happens does. LimitSeconds always does, on
	// the devices themselves even when fleetd is gone.
	DurationSeconds float64 `json:"duration_seconds,omitempty"`
	UntilLog        string  `json:"until_log,omitempty"` // regular expression (RE2)
	Log             string  `json:"log,omitempty"`       // the file, with UntilLog
	UntilSEL        string  `json:"until_sel,omitempty"` // regular expression over new records of the BMC's log
	UntilJob        string  `json:"until_job,omitempty"` // a job: its first failure, or its end
	LimitSeconds    float64 `json:"limit_seconds"`
	// AfterSeconds are captured after a trigger; absent is a default.
	AfterSeconds *float64 `json:"after_seconds"`

	// AllOrNone starts nothing when one device cannot.
	AllOrNone bool `json:"all_or_none,omitempty"`
	// Sudo runs tcpdump as root through sudo -n.
	Sudo bool `json:"sudo,omitempty"`
	// Evidence also gathers neighbours, routes, listeners and counters of each device.
	Evidence bool `json:"evidence,omitempty"`
}

// Point is an interface with its filter, on one device or on each. In a request the
// device may stand before the interface, with a colon.
type Point struct {
	Device    string `json:"device,omitempty"`
	Interface string `json:"interface"`
	Filter    string `json:"filter"`
}

// Analyze asks for captures on devices that are analysed as they come, and of which
// nothing but the findings is kept.
type Analyze struct {
	// Analysis is TLSAudit, XFF or Info.
	Analysis string  `json:"analysis"`
	Points   []Point `json:"points"`
	SnapLen  int     `json:"snap_len"` // bytes of a packet; 0 is all of it
	// IP is the client's address that XFF looks for, Headers are names beside those
	// that are known.
	IP      string   `json:"ip,omitempty"`
	Headers []string `json:"headers,omitempty"`
	// Weak is the newest version that TLSAudit calls weak.
	Weak string `json:"weak,omitempty"`
	// MaxRows of a device are kept; the others are counted.
	MaxRows int `json:"max_rows,omitempty"`
	// DurationSeconds ends it, LimitSeconds in any case.
	DurationSeconds float64 `json:"duration_seconds,omitempty"`
	LimitSeconds    float64 `json:"limit_seconds"`
	// Sudo runs tcpdump as root through sudo -n.
	Sudo bool `json:"sudo,omitempty"`
}

// The analyses.
const (
	TLSAudit = "tls-audit"
	XFF      = "xff"
	Info     = "info"
)

// Analyses lists them.
func Analyses() []string { return []string{TLSAudit, XFF, Info} }
