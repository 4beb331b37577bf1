package rollout

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/fault"
)

func unitsOf(n int, change ...func(i int, u *Unit)) (units []Unit) {
	for i := range n {
		u := Unit{Name: fmt.Sprintf("d%02d", i), Zone: "Europe/London", Worst: 30 * time.Minute}
		for _, f := range change {
			f(i, &u)
		}
		units = append(units, u)
	}
	return units
}

func window(t *testing.T, s string) Window {
	t.Helper()
	w, err := ParseWindow(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func number(n int) *int { return &n }

func waves(p *Plan) (list []string) {
	for _, u := range p.Units {
		for len(list) <= u.Wave {
			list = append(list, "")
		}
		list[u.Wave] = strings.TrimSpace(list[u.Wave] + " " + u.Name)
	}
	return list
}

func TestWaves(t *testing.T) {
	paired := func(i int, u *Unit) { u.Links = []string{fmt.Sprint("core-", i/2)} }
	for name, tc := range map[string]struct {
		units    []Unit
		covering map[string]int
		policy   Policy
		want     []string
		budget   int
	}{
		"defaults":                 {unitsOf(21), nil, Policy{}, []string{"d00", "d01 d02", "d03 d04", "d05 d06", "d07 d08", "d09 d10", "d11 d12", "d13 d14", "d15 d16", "d17 d18", "d19 d20"}, 2},
		"no canary":                {unitsOf(5), nil, Policy{Canary: number(0), Wave: Units(3)}, []string{"d00 d01 d02", "d03 d04"}, 3},
		"in percent":               {unitsOf(6), nil, Policy{Canary: number(2), Wave: Percent(50), MaxFailures: Percent(20)}, []string{"d00 d01", "d02 d03 d04", "d05"}, 1},
		"more canaries than units": {unitsOf(2), nil, Policy{Canary: number(5)}, []string{"d00 d01"}, 1},
		"one":                      {unitsOf(1), nil, Policy{}, []string{"d00"}, 1},
		"a wave blinds no link":    {unitsOf(6, paired), nil, Policy{Canary: number(1), Wave: Units(3)}, []string{"d00", "d01 d02 d04", "d03 d05"}, 3},
		"another covers it, too":   {unitsOf(4, paired), map[string]int{"core-0": 3, "core-1": 2}, Policy{Canary: number(0), Wave: Units(4)}, []string{"d00 d01 d02", "d03"}, 4},
	} {
		p, err := NewPlan(tc.units, tc.covering, tc.policy, at(t, "2026-06-10T00:00:00Z"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := waves(p); !slices.Equal(got, tc.want) || p.Waves != len(tc.want) || p.Budget != tc.budget {
			t.Errorf("%s: %q, budget %d; want %q, %d", name, got, p.Budget, tc.want, tc.budget)
		}
		again, err := Restore(p.Units, tc.covering, tc.policy)
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%s: restored %+v, %v", name, again, err)
		}
	}
}

func TestPolicyIsRefused(t *testing.T) {
	now := at(t, "2026-06-13T22:00:00Z")
	for name, tc := range map[string]struct {
		policy Policy
		want   string
	}{
		"budget of 0":       {Policy{MaxFailures: Units(0)}, "--max-failures"},
		"budget of 0 %":     {Policy{MaxFailures: Percent(0)}, "--max-failures"},
		"wave of 0":         {Policy{Wave: Units(0)}, "--wave"},
		"more than all":     {Policy{Wave: Percent(101)}, "--wave"},
		"negative canary":   {Policy{Canary: number(-1)}, "--canary"},
		"negative soak":     {Policy{Soak: -1}, "--soak"},
		"no canary":         {Policy{Canary: number(0), PauseAfterCanary: true}, "--pause-after"},
		"end before start":  {Policy{Start: now.Add(2), End: now.Add(1)}, "--end"},
		"nothing to resume": {Policy{ResumeWindow: true}, "--resume-window"},
	} {
		if _, err := NewPlan(unitsOf(3), nil, tc.policy, now); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	zoned := unitsOf(1, func(_ int, u *Unit) { u.Zone = "Europe/Londno" })
	if _, err := NewPlan(zoned, nil, Policy{Windows: []Window{window(t, "Sat 22:00+4h")}}, now); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "Europe/Londno") {
		t.Errorf("unknown zone: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	now := at(t, "2026-06-13T21:30:00Z") // Saturday, 22:30 in London
	alone := func(i int, u *Unit) { u.Links = []string{fmt.Sprint("link-", i)} }
	for name, tc := range map[string]struct {
		units  []Unit
		policy Policy
		want   string
	}{
		"fine":           {unitsOf(3), Policy{Windows: []Window{window(t, "Sat 22:00+4h")}}, ""},
		"over":           {unitsOf(3), Policy{End: now}, "--end"},
		"too long":       {unitsOf(3), Policy{Windows: []Window{window(t, "Sat 22:00+20m")}}, "no window is as long as the worst case of d00 (30m), d01 (30m), d02 (30m)"},
		"too late today": {unitsOf(3), Policy{Windows: []Window{window(t, "Sat 22:00+45m")}}, "--resume-window"},
		"next week":      {unitsOf(3), Policy{Windows: []Window{window(t, "Sat 22:00+45m")}, ResumeWindow: true}, ""},
		"one cover":      {unitsOf(2, alone), Policy{RequireCoverage: true}, "link link-0 has no other cover than d00 (--require-coverage)"},
		"one cover, and": {unitsOf(2, alone), Policy{}, ""},
	} {
		p, err := NewPlan(tc.units, nil, tc.policy, now)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(p.Refusals(now), "; ")
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		if strings.HasPrefix(name, "one cover") && len(p.Warnings()) != 2 {
			t.Errorf("%s: %q", name, p.Warnings())
		}
	}
}

// TestForecast is a night in two zones: who does not fit is said beforehand.
func TestForecast(t *testing.T) {
	zones := func(i int, u *Unit) {
		if i == 3 {
			u.Zone = "America/New_York"
		}
		if i == 2 {
			u.Worst = 3 * time.Hour
		}
	}
	p, err := NewPlan(unitsOf(4, zones), nil, Policy{Wave: Units(1), Soak: 15 * time.Minute, Windows: []Window{window(t, "Sat 22:00+4h")}}, at(t, "2026-06-10T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, f := range p.Forecast(at(t, "2026-06-10T00:00:00Z")) {
		got = append(got, fmt.Sprint(p.Units[i].Name, " ", f.Begin.UTC().Format("02T15:04"), " ", f.End.UTC().Format("15:04"), " ", f.Skipped))
	}
	want := []string{"d00 13T21:00 21:30 ", "d01 13T21:45 22:15 ",
		"d02 01T00:00 00:00 it did not fit into its window (Sat 22:00+4h); it may take 3h", "d03 14T02:00 02:30 "}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestForecastOfMany: a plan over a large fleet does not make an operator wait.
func TestForecastOfMany(t *testing.T) {
	p, err := NewPlan(unitsOf(5000), nil, Policy{Wave: Percent(1), Windows: []Window{window(t, "Sat 22:00+4h")}, ResumeWindow: true}, at(t, "2026-06-10T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range p.Forecast(at(t, "2026-06-10T00:00:00Z")) {
		if f.Begin.IsZero() || f.Skipped != "" {
			t.Fatalf("%s: %+v", p.Units[i].Name, f)
		}
	}
}

func TestPolicyAsJSON(t *testing.T) {
	policy := Policy{Canary: number(0), Wave: Percent(10), MaxFailures: Units(3), Soak: time.Minute, Windows: []Window{window(t, "Sat 22:00+4h")}, ResumeWindow: true,
		Start: at(t, "2026-06-13T22:00:00Z")}
	data, err := json.Marshal(policy)
	if err != nil {
		t.Fatal(err)
	}
	var got Policy
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, policy) {
		t.Errorf("%s is %+v, %v", data, got, err)
	}
	for _, s := range []string{"x", "5.5", "+5", "5%%", "%", "-"} {
		if a, err := ParseAmount(s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is %v, %v", s, a, err)
		}
	}
}

// TestWindowsThatOpenFirst: a site further east does not miss its window for one that
// is further west.
func TestWindowsThatOpenFirst(t *testing.T) {
	zones := []string{"America/New_York", "Asia/Singapore", "Europe/London"}
	units := unitsOf(6, func(i int, u *Unit) { u.Zone = zones[i%3] })
	p, err := NewPlan(units, nil, Policy{Canary: number(0), Wave: Units(2), Windows: []Window{window(t, "Sat 22:00+2h")}}, at(t, "2026-06-10T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	if got := waves(p); !slices.Equal(got, []string{"d01 d04", "d02 d05", "d00 d03"}) {
		t.Errorf("%q", got)
	}
	for i, f := range p.Forecast(at(t, "2026-06-10T00:00:00Z")) {
		if f.Skipped != "" {
			t.Errorf("%s: %s", p.Units[i].Name, f.Skipped)
		}
	}
}
