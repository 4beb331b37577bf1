package schedule

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/fault"
)

// Schedule is a request that is started by the clock. All of it is what somebody
// asked for; what became of it is in its State and Runs.
type Schedule struct {
	Name string `json:"name"`
	// UID tells a schedule from an earlier one of the same name; given by Add.
	UID  string `json:"uid"`
	Cron string `json:"cron"`
	// TimeZone is an IANA name.
	TimeZone string `json:"time_zone"`
	// Request is what is started, unread here.
	Request json.RawMessage `json:"request"`
	// Change says that the request changes devices: it runs only once another user
	// than its creator has approved it.
	Change  bool          `json:"change,omitempty"`
	Overlap Overlap       `json:"overlap"`
	Missed  Missed        `json:"missed"`
	Jitter  time.Duration `json:"jitter,omitempty"`
	// Deliver names who gets the result of each run.
	Deliver    []string   `json:"deliver,omitempty"`
	CreatedBy  string     `json:"created_by"`
	CreatedAt  time.Time  `json:"created_at"`
	ApprovedBy string     `json:"approved_by,omitempty"`
	ApprovedAt *time.Time `json:"approved_at,omitempty"`
}

// Overlap says what becomes of an occurrence while the job of the one before has
// not finished.
type Overlap string

// The overlap policies.
const (
	Skip  Overlap = "skip"  // it is left out
	Queue Overlap = "queue" // it waits, one at most; others that come meanwhile are left out
	Allow Overlap = "allow" // it runs beside it
)

// Missed says what becomes of occurrences whose time passed while fleetd did not
// run, or could not start them.
type Missed string

// The missed-run policies.
const (
	RunOnce Missed = "run"    // the last of them runs, for all
	Report  Missed = "report" // none runs; it is said that they were missed
)

// Outcome says what became of an occurrence.
type Outcome string

// The outcomes.
const (
	Started Outcome = "started"
	Skipped Outcome = "skipped" // by the overlap policy, or not approved
	Missing Outcome = "missed"  // nothing ran for it
	Merged  Outcome = "merged"  // a later one runs for it
	Failed  Outcome = "failed"  // the job could not be made
)

// Run is what became of an occurrence, or of several that were missed together.
type Run struct {
	Schedule   string    `json:"schedule"`
	Occurrence time.Time `json:"occurrence"` // the time that the expression names; of several the last
	At         time.Time `json:"at"`         // when it was decided
	Outcome    Outcome   `json:"outcome"`
	Job        string    `json:"job,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	// Count is how many occurrences this stands for, 0 for one; beyond a thousand they
	// are not counted any more.
	Count int `json:"count,omitempty"`
	// By is who ran it by hand; "" is the clock.
	By string `json:"by,omitempty"`
}

// State is how far a schedule has been decided.
type State struct {
	// Decided is the time up to which every occurrence is decided.
	Decided time.Time `json:"decided"`
	// Starting is an occurrence whose job is being made.
	Starting *time.Time `json:"starting,omitempty"`
	// Queued is an occurrence that waits for the job before it.
	Queued *time.Time `json:"queued,omitempty"`
	// Job is the last that was started.
	Job string `json:"job,omitempty"`
	// Last is what became of the last occurrence.
	Last *Run `json:"last,omitempty"`
}

// The bounds of a schedule.
const (
	maxRequest = 1 << 20
	maxJitter  = 24 * time.Hour
	maxDeliver = 16
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Validate checks a schedule as it is given to Add, and fills in defaults: UTC,
// skip, run once. Errors are fault.Invalid.
func (s *Schedule) Validate() error {
	if !nameForm.MatchString(s.Name) {
		return fault.New(fault.Invalid, "schedule name %q: 1 to 63 lower-case letters, digits, dots, - and _ are expected, beginning with a letter or a digit", fault.Clip(s.Name, 64))
	}
	if s.TimeZone == "" {
		s.TimeZone = "UTC"
	}
	if s.Overlap == "" {
		s.Overlap = Skip
	}
	if s.Missed == "" {
		s.Missed = RunOnce
	}
	if _, err := Parse(s.Cron, s.TimeZone); err != nil {
		return err
	}
	switch {
	case s.Overlap != Skip && s.Overlap != Queue && s.Overlap != Allow:
		return fault.New(fault.Invalid, "overlap %q: skip, queue or allow is expected", fault.Clip(string(s.Overlap), 64))
	case s.Missed != RunOnce && s.Missed != Report:
		return fault.New(fault.Invalid, "missed %q: run or report is expected", fault.Clip(string(s.Missed), 64))
	case s.Jitter < 0 || s.Jitter > maxJitter:
		return fault.New(fault.Invalid, "jitter %v: 0 to 24 hours are expected", s.Jitter)
	case len(s.Deliver) > maxDeliver:
		return fault.New(fault.Invalid, "the result is delivered to %d receivers; at most %d are possible", len(s.Deliver), maxDeliver)
	case !json.Valid(s.Request) || len(s.Request) > maxRequest:
		return fault.New(fault.Invalid, "the request is not JSON of at most %d bytes", maxRequest)
	}
	return nil
}

// Expression gives the times of a schedule that was validated.
func (s *Schedule) Expression() (Expression, error) { return Parse(s.Cron, s.TimeZone) }

// Delay is the part of the jitter that an occurrence is put off by: the same each
// time that it is asked, and spread evenly over schedules and occurrences.
func (s *Schedule) Delay(occurrence time.Time) time.Duration {
	if s.Jitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.UID + "/" + strconv.FormatInt(occurrence.Unix(), 10)))
	// FNV's high bits hardly differ for texts that end differently; multiply them in.
	spread := h.Sum64() * 0x9E3779B97F4A7C15
	return time.Duration(spread % uint64(s.Jitter/time.Second+1) * uint64(time.Second)) //nolint:gosec // at most a day
}

// Requests of schedules have ids of their own: "schedule:NAME:UID:TIME" for the
// clock, with something else in place of the time for a run by hand. Clients are
// refused ids that begin so.
const requestPrefix = "schedule:"

// requestID makes one occurrence one job.
func (s *Schedule) requestID(occurrence time.Time) string {
	return requestPrefix + s.Name + ":" + s.UID + ":" + strconv.FormatInt(occurrence.Unix(), 10)
}

func (s *Schedule) manualID(token string) string {
	return requestPrefix + s.Name + ":" + s.UID + ":by-hand-" + token
}

// Origin tells which schedule a job's request id belongs to; ok is false for one
// that no schedule made.
func Origin(requestID string) (name, uid string, ok bool) {
	rest, ok := strings.CutPrefix(requestID, requestPrefix)
	if !ok {
		return "", "", false
	}
	parts := strings.Split(rest, ":")
	if len(parts) != 3 {
		return "", "", false
	}
	return parts[0], parts[1], true
}

// Reserved reports whether only schedules may use a request id.
func Reserved(requestID string) bool { return strings.HasPrefix(requestID, requestPrefix) }

func (r Run) String() string {
	s := fmt.Sprintf("%s of %s: %s", r.Schedule, r.Occurrence.Format(time.RFC3339), r.Outcome)
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	return s
}
