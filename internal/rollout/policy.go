package rollout

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/fault"
)

// Policy says how a change goes over many units. The zero value of a field is its
// default.
type Policy struct {
	// Canary is how many units are changed first, as a wave of their own; any failure
	// among them stops the rollout. Nil is 1, and 0 is none.
	Canary *int `json:"canary,omitempty"`
	// Wave is how many units a wave has after that, and so how many are out at most
	// at once; default 10%.
	Wave Amount `json:"wave,omitzero"`
	// MaxFailures is the budget: with so many units failed or in need of attention
	// nothing more is begun, and units run only while their failing could not exceed
	// it. Default is the size of a wave.
	MaxFailures Amount `json:"max_failures,omitzero"`
	// Soak is how long a wave in which something changed is looked at before the next
	// is begun.
	Soak time.Duration `json:"soak,omitempty"`
	// PauseAfterCanary pauses the job when the canary is through.
	PauseAfterCanary bool `json:"pause_after_canary,omitempty"`
	// Approve wants another user than the requester to approve before anything is done.
	Approve bool `json:"approve,omitempty"`
	// Windows are when units may be begun, in the time zone of each unit's site; none
	// is any time.
	Windows []Window `json:"windows,omitempty"`
	// Start and End bound all of it: nothing is begun before Start, nor so late that it
	// might not be done by End. Zero is no bound.
	Start time.Time `json:"start,omitzero"`
	End   time.Time `json:"end,omitzero"`
	// ResumeWindow lets what did not fit into a window wait for the next one. Otherwise
	// each window comes once, and what did not fit is skipped.
	ResumeWindow bool `json:"resume_window,omitempty"`
	// RequireCoverage refuses a rollout that would leave a link without cover: one that
	// a single device covers.
	RequireCoverage bool `json:"require_coverage,omitempty"`
}

// Amount is a number of units, or a percentage of all of them. The zero Amount is
// one that was not given.
type Amount struct {
	n       int
	percent bool
	given   bool
}

// Units is an amount in units.
func Units(n int) Amount { return Amount{n: n, given: true} }

// Percent is an amount in percent of all units.
func Percent(n int) Amount { return Amount{n: n, percent: true, given: true} }

// ParseAmount reads "5" or "10%"; "" is one that is not given.
func ParseAmount(s string) (Amount, error) {
	if s == "" {
		return Amount{}, nil
	}
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || strings.HasPrefix(digits, "+") {
		return Amount{}, fault.New(fault.Invalid, "%q is neither a number of units, as 5, nor a share of them, as 10%%", fault.Clip(s, 40))
	}
	return Amount{n: n, percent: percent, given: true}, nil
}

// String gives what ParseAmount reads.
func (a Amount) String() string {
	switch {
	case !a.given:
		return ""
	case a.percent:
		return fmt.Sprintf("%d%%", a.n)
	default:
		return strconv.Itoa(a.n)
	}
}

// IsZero reports whether it was not given.
func (a Amount) IsZero() bool { return !a.given }

// Of is the amount of a number of units, rounded down and at least one.
func (a Amount) Of(units int) int {
	n := a.n
	if a.percent {
		n = units * a.n / 100
	}
	return max(1, min(n, units))
}

// MarshalJSON writes it as text.
func (a Amount) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (a *Amount) UnmarshalJSON(data []byte) (err error) {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*a, err = ParseAmount(s)
	return err
}
