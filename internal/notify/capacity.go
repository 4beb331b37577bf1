package notify

import (
	"fmt"
	"slices"
	"time"

	"capfleet/internal/ledger"
)

// CapacityRule is a rule on capacity_below with its limits.
type CapacityRule struct {
	// ID is the same as long as the rule's limits and receivers are, however far it
	// looks ahead.
	ID          string
	Retention   time.Duration
	FreePercent float64
	// Within is how far ahead a fall below them is told of; 0 is not.
	Within time.Duration
	to     []string
}

// CapacityRules gives the rules on capacity_below.
func (n *Notifier) CapacityRules() (rules []CapacityRule) {
	for _, r := range n.rules {
		if slices.Contains(r.On, string(CapacityBelow)) {
			rules = append(rules, CapacityRule{ID: fmt.Sprintf("%v/%g/%q", r.Retention, r.FreePercent, r.To), Retention: r.Retention, FreePercent: r.FreePercent, Within: r.Within, to: r.To})
		}
	}
	return rules
}

// TellRule puts a message into the outboxes of one rule's receivers.
func (n *Notifier) TellRule(tx *ledger.Tx, r CapacityRule, m Message) error {
	return n.tell(tx, m, r.to)
}
