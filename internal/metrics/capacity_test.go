package metrics

import (
	"context"
	"testing"
)

func TestForesight(t *testing.T) {
	t.Parallel()
	shortest := 86400.0
	opts := options()
	opts.Capacity = func() []Capacity {
		return []Capacity{
			{Kind: "rotation-file", States: map[string]int{"full": 3, "filling": 2}, FullWithin: map[int]int{7: 0, 30: 1}, Shortest: &shortest, Outlives: 2},
			{Kind: "filesystem", States: map[string]int{"filling": 9}, FullWithin: map[int]int{7: 4}},
		}
	}
	opts.Outbox = func(context.Context) (map[string]int, error) { return map[string]int{"syslog": 0, "webhook": 12}, nil }
	expect(t, series(t, New(opts)), map[string]string{
		`fleetd_capacity_series{kind="rotation-file",state="full"}`:   "3",
		`fleetd_capacity_series{kind="filesystem",state="filling"}`:   "9",
		`fleetd_capacity_full_within{days="30",kind="rotation-file"}`: "1",
		`fleetd_capacity_full_within{days="7",kind="filesystem"}`:     "4",
		`fleetd_capacity_shortest_retention_seconds`:                  "86400",
		`fleetd_capacity_vision_outlives_packets`:                     "2",
		`fleetd_notify_waiting{kind="webhook"}`:                       "12",
		`fleetd_notify_waiting{kind="syslog"}`:                        "0",
	})
}
