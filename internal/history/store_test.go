package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
	"capfleet/internal/ledger"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

type fataler interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

func open(t fataler) *Store {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "history")
	if err != nil {
		if dir, err = os.MkdirTemp("", "history"); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "l")
	db, err := ledger.Open(path, ledger.Options{Namespaces: Namespaces()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(); _ = os.RemoveAll(dir) })
	return New(db, 0)
}

func (s *Store) add(t fataler, of Series, points ...Point) {
	t.Helper()
	if err := s.ledger.Update(context.Background(), func(tx *ledger.Tx) error {
		for _, p := range points {
			if err := s.Add(tx, of, p); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestOnePointADay: whatever comes in whatever order and however often, each day has
// its last point.
func TestOnePointADay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := open(t)
		a, b := Series{Ring, "lon", "Main"}, Series{Ring, "lon", "Main2"}
		want := map[int64]Point{}
		figure := rapid.SampledFrom([]int64{None, 0, 1, 4 << 30, 1<<63 - 1})
		for range rapid.IntRange(1, 60).Draw(t, "points") {
			p := Point{Time: time.Unix(rapid.Int64Range(1.7e9, 1.71e9).Draw(t, "at"), 0).UTC(), Used: figure.Draw(t, "used"), Limit: figure.Draw(t, "limit"),
				Retention: figure.Draw(t, "retention"), Vision: figure.Draw(t, "vision")}
			for range rapid.IntRange(1, 2).Draw(t, "times") {
				s.add(t, a, p)
			}
			if have, ok := want[dayOf(p.Time)]; !ok || have.Time.Before(p.Time) {
				want[dayOf(p.Time)] = p
			}
		}
		s.add(t, b, Point{Time: time.Unix(1.7e9, 0)})
		got, err := s.Points(context.Background(), a, time.Time{})
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d points, want %d (%v)", len(got), len(want), err)
		}
		for i, p := range got {
			if p != want[dayOf(p.Time)] || i > 0 && !p.Time.After(got[i-1].Time) {
				t.Fatalf("%+v, want %+v", p, want[dayOf(p.Time)])
			}
		}
	})
}

func TestHistoryForgets(t *testing.T) {
	s := open(t)
	s.keep = 100 * 24 * time.Hour
	ctx := t.Context()
	live, gone := Series{Ring, "a", "x"}, Series{Filesystem, "a", "/var"}
	for d := range 400 {
		s.add(t, live, Point{Time: firstDay.AddDate(0, 0, d), Used: int64(d)})
		if d < 50 {
			s.add(t, gone, Point{Time: firstDay.AddDate(0, 0, d)})
		}
	}
	points, err := s.Points(ctx, live, time.Time{})
	if err != nil || len(points) < 100 || len(points) > 100+2*blockDays || points[len(points)-1].Used != 399 {
		t.Errorf("%d points (%v)", len(points), err)
	}
	if n, err := s.Prune(ctx, firstDay.AddDate(0, 0, 120)); n != 0 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if n, err := s.Prune(ctx, firstDay.AddDate(0, 0, 400)); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if rest, err := s.All(ctx, Filesystem, ""); err != nil || len(rest) != 0 {
		t.Errorf("%v %v", rest, err)
	}
	if rest, err := s.All(ctx, Ring, "a"); err != nil || !slices.Equal(rest, []Series{live}) {
		t.Errorf("%v %v", rest, err)
	}
	if points, err := s.Points(ctx, gone, time.Time{}); err != nil || points != nil {
		t.Errorf("%v %v", points, err)
	}
}

func TestPointsThatCannotBe(t *testing.T) {
	s := open(t)
	for _, of := range []Series{{Ring, "", "x"}, {Ring, "a\x00b", "x"}, {Ring, "a", string(make([]byte, 600))}} {
		err := s.ledger.Update(t.Context(), func(tx *ledger.Tx) error { return s.Add(tx, of, Point{Time: firstDay}) })
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", of, err)
		}
	}
}

func FuzzBlock(f *testing.F) {
	f.Add(encode([]Point{{Time: firstDay, Used: 5, Limit: None, Retention: 1 << 40, Vision: None}}))
	f.Add([]byte{16, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		points, err := decode(data)
		if err != nil {
			return
		}
		again, err := decode(encode(points))
		if err != nil || cmp.Diff(points, again) != "" {
			t.Errorf("%v %v", again, err)
		}
	})
}

// TestTwoYearsFit writes two years of daily reports of some rings, as they come, and
// works out from what is in use in the file what 20,000 would take: no more than 1 GB.
// HISTORY_RINGS=20000 writes them all.
func TestTwoYearsFit(t *testing.T) {
	rings := 40
	if v := os.Getenv("HISTORY_RINGS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		rings = n
	}
	const days, all, bound = 730, 20_000, 1 << 30
	s := open(t)
	r := rand.New(rand.NewPCG(4, 0))
	used := make([]int64, rings)
	begin := time.Now()
	for d := range days {
		at := firstDay.AddDate(0, 0, d)
		for from := 0; from < rings; from += 200 { // a commit for each device at worst, many at best
			if err := s.ledger.Update(t.Context(), func(tx *ledger.Tx) error {
				for i := from; i < min(from+200, rings); i++ {
					used[i] += r.Int64N(100 * gb)
					p := Point{Time: at.Add(time.Duration(r.Int64N(int64(24 * time.Hour)))), Limit: 20_000 * gb, Used: min(used[i], 19_998*gb),
						Retention: 86400*200 + r.Int64N(86400*30), Vision: 500*gb + r.Int64N(50*gb)}
					if err := s.Add(tx, Series{Ring, fmt.Sprintf("site-%03d-probe-%02d", i/40, i%40/2), fmt.Sprintf("Main%d", i%2)}, p); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	took := time.Since(begin)
	stats, err := s.ledger.Stats()
	if err != nil {
		t.Fatal(err)
	}
	n := stats.Bytes - stats.FreeBytes
	t.Logf("%d rings: %d bytes, %.1f a point, in %v; %d would take %d MB", rings, n, float64(n)/float64(rings*days), took, all, n/int64(rings)*all>>20)
	if n/int64(rings)*all > bound {
		t.Errorf("two years of %d rings take %d bytes, more than %d", all, n/int64(rings)*all, bound)
	}
}
