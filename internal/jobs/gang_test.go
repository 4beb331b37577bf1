package jobs

import (
	"slices"
	"testing"
)

func gangIndex(id int, access string, tasks ...Task) *activeJob {
	j := index(id, access, tasks...)
	j.together = true
	return j
}

// TestGangIsNotStarved: a gang that needs every place begins when what ran before
// it has ended, however much other work there is.
func TestGangIsNotStarved(t *testing.T) {
	s := newSchedule(Limits{Global: 4, PerSite: 4, PerDevice: 1})
	s.addJob(index(1, accessRead, many("large", "lon", 1000)...))
	running, _ := picks(s)
	s.addJob(gangIndex(2, accessRead, many("gang", "lon", 4)...))
	for i, u := range running {
		if _, list := picks(s); len(list) != 0 {
			t.Fatalf("%q came before the gang, %d still run", list, len(running)-i)
		}
		s.ended(u, outcome{})
	}
	running, list := picks(s)
	if !slices.Equal(list, []string{"all"}) || s.running != 4 {
		t.Fatalf("handed out %q, %d places taken", list, s.running)
	}
	s.addJob(gangIndex(3, accessRead, many("next", "lon", 4)...))
	s.ended(running[0], outcome{})
	if _, list := picks(s); len(list) == 0 || list[0] != "large00004" {
		t.Errorf("between two gangs %q: other work has its turn", list)
	}
}

// TestGangHoldsOnlyWhatItNeeds: others go on beside a gang that waits.
func TestGangHoldsOnlyWhatItNeeds(t *testing.T) {
	s := newSchedule(Limits{Global: 100, PerSite: 4, PerDevice: 2})
	s.addJob(index(1, accessChange, Task{Device: "a", Site: "lon"}))
	running, _ := picks(s)
	s.addJob(gangIndex(2, accessChange, Task{Device: "a", Site: "lon"}, Task{Device: "b", Site: "nyc"}))
	s.addJob(index(3, accessRead, Task{Device: "b", Site: "nyc"}, Task{Device: "c", Site: "nyc"}))
	s.addJob(index(4, accessChange, Task{Device: "b", Site: "nyc"}))
	readers, list := picks(s)
	if !slices.Equal(list, []string{"b", "c"}) || readers[0].job.id != 3 {
		t.Fatalf("handed out %q: readers share b, and the change of job 4 comes after the gang's", list)
	}
	s.turnGate(2, gate{shut: true, since: 1}) // paused: it holds nothing
	if units, list := picks(s); !slices.Equal(list, []string{"b"}) || units[0].job.id != 4 {
		t.Errorf("beside a paused gang %q", list)
	} else {
		s.ended(units[0], outcome{})
	}
	s.turnGate(2, gate{since: 2})
	s.ended(running[0], outcome{})
	if _, list := picks(s); !slices.Equal(list, []string{"all"}) {
		t.Errorf("at last %q", list)
	}
}
