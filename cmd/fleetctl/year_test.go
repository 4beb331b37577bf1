package main

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"capfleet/internal/demo"
	"capfleet/internal/history"
	"capfleet/internal/ledger"
)

// yearOfReports writes what a year of daily reports leaves in fleetd's ledger: a ring
// that fills for 200 days and then reaches back less and less, one that still fills, and
// a file system. Nobody asked in the fifth month.
func yearOfReports(t *testing.T, dir string, until time.Time) {
	t.Helper()
	state := filepath.Join(dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := ledger.Open(filepath.Join(state, "ledger.db"), ledger.Options{Namespaces: history.Namespaces()})
	if err != nil {
		t.Fatal(err)
	}
	store := history.New(db, 2*366*24*time.Hour)
	const gb, days = int64(1e9), 365
	if err := db.Update(t.Context(), func(tx *ledger.Tx) error {
		for day := range int64(days) {
			if day > 120 && day < 150 {
				continue
			}
			at := until.AddDate(0, 0, int(day)-days+1)
			busy := 1.2
			if wd := at.Weekday(); wd == time.Saturday || wd == time.Sunday {
				busy = 0.5
			}
			main := history.Point{Time: at, Limit: 20_000 * gb, Used: min(day*100*gb, 20_000*gb), Retention: day * 86400 * 3 / 2, Vision: 500 * gb}
			if day > 200 {
				main.Retention = 300*86400 - (day-200)*43200
			}
			for of, p := range map[history.Series]history.Point{
				{Kind: history.Ring, Device: "lon-probe-01", Name: "Main"}:       main,
				{Kind: history.Ring, Device: "lon-probe-01", Name: "Overflow"}:   {Time: at, Limit: 844 * gb, Used: day*2*gb + int64(busy*float64(gb)), Retention: history.None, Vision: history.None},
				{Kind: history.Filesystem, Device: "lon-probe-01", Name: "/var"}: {Time: at, Limit: 20 * gb, Used: int64((10 + 3*math.Sin(float64(day)/58)) * float64(gb)), Retention: history.None, Vision: history.None},
			} {
				if err := store.Add(tx, of, p); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestYearOfReports: fleetd and fleetctl chart and forecast a year of daily reports.
func TestYearOfReports(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	yearOfReports(t, dir, time.Now().UTC().Add(-time.Hour))
	env, err := demo.Start(context.Background(), demo.Options{Dir: dir, Devices: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Close(); err != nil {
			t.Error(err)
		}
	})
	run := func(locale string, args ...string) (stdout, stderr string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "fleetctl", args...)
		cmd.Env = append(os.Environ(), "FLEET_SERVER="+env.Socket(), "LC_ALL="+locale)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, errs.String())
		}
		return out.String(), errs.String()
	}

	for locale, cells := range map[string]string{"C.UTF-8": " ▁▂▃▄▅▆▇█", "C": " .:#"} {
		text, _ := run(locale, "report", "capacity", "lon-probe-01", "--chart")
		charts := strings.Split(text, "\n\n")
		if len(charts) != 3 {
			t.Fatalf("%d charts:\n%s", len(charts), text)
		}
		for l := range strings.Lines(text) {
			if n := utf8.RuneCountInString(l) - 1; n > 80 {
				t.Errorf("%d columns: %s", n, l)
			}
		}
		if locale == "C" && strings.ContainsFunc(text, func(r rune) bool { return r > '~' }) {
			t.Errorf("not every locale has these:\n%s", text)
		}
		for i, title := range []string{"lon-probe-01 Main: days that Vision reaches back", "lon-probe-01 Overflow: used", "lon-probe-01 /var: used"} {
			if !strings.HasPrefix(charts[i], title+"\n") {
				t.Errorf("no %q:\n%s", title, charts[i])
			}
		}
		// The retention rises, has a gap, and falls again to where it was in between.
		lines := strings.Split(charts[0], "\n")
		if !strings.HasPrefix(lines[1], "   300d ") {
			t.Errorf("%q", lines[1])
		}
		plot := func(line string) []rune { return []rune(line)[strings.IndexAny(line, "┤|")+1:] }
		bottom := plot(strings.ReplaceAll(lines[8], "┤", "|"))
		gap := slices.Index(bottom[10:], ' ') + 10
		if gap < 22 || gap > 26 || !strings.ContainsRune(cells, bottom[gap+8]) || bottom[gap+8] == ' ' {
			t.Errorf("the gap is at %d:\n%s", gap, charts[0])
		}
		top := plot(strings.ReplaceAll(lines[1], "┤", "|"))
		if at := strings.IndexFunc(string(top), func(r rune) bool { return r != ' ' }); at < 30 || at > 38 {
			t.Errorf("the top is at %d:\n%s", at, charts[0])
		}
		if !strings.Contains(lines[10], time.Now().UTC().Add(-time.Hour).Format(time.DateOnly)) {
			t.Errorf("%q", lines[10])
		}
	}

	out, notes := run("C", "report", "capacity", "lon-probe-01", "--forecast", "30d", "--limit", "200d", "-o", "json")
	var doc struct{ Rows []history.Row }
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Rows) != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, r := range doc.Rows {
		switch r.Name {
		case "Main": // 218 days, half a day less each day; the packets of 200 were in it when it was full
			if r.State != history.Full || r.Points != 336 || *r.RetentionSeconds != 218*86400 || *r.TrendPerDay > -40000 || *r.TrendPerDay < -46000 ||
				r.VisionOutlives == nil || !*r.VisionOutlives ||
				r.CrossedAt == nil || r.CrossedAt.Before(time.Now().AddDate(0, 0, 25)) || r.CrossedAt.After(time.Now().AddDate(0, 0, 50)) || *r.ForecastLow > *r.ForecastRetention {
				t.Errorf("%s", out)
			}
		case "Overflow": // 115 GB are left of 2 a day
			if at := time.Now().AddDate(0, 0, 57); r.State != history.Filling || r.FullAt == nil || r.FullAt.Sub(at).Abs() > 5*24*time.Hour {
				t.Errorf("%s", out)
			}
		}
	}
	if !strings.Contains(notes, "lon-probe-01") || !strings.Contains(notes, "reaches back 218.0 days, its packets about 200") {
		t.Errorf("nothing is said of the packets: %s", notes)
	}
}
