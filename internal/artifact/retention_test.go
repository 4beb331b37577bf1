package artifact

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"capfleet/internal/fault"
)

// Files of jobs that are gone go by age and by what all files take; those of kept
// jobs and of operators stay. Exactly the files that an entry names are on the disk.
func TestPruneModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := epoch()
		f := open(t, Options{})
		f.now = func() time.Time { return now }
		type held struct {
			job, name, content string
			at                 time.Time
		}
		var all []held
		gone := map[string]bool{}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(rt, "minutes")) * time.Minute)
			switch rapid.SampledFrom([]string{"put", "put", "put", "job goes", "prune"}).Draw(rt, "step") {
			case "put":
				job := rapid.SampledFrom([]string{"", "1", "2", "3"}).Draw(rt, "job")
				if gone[job] {
					continue
				}
				h := held{job, rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name"), fmt.Sprintf("%0*d", rapid.IntRange(1, 6).Draw(rt, "size")*10, 0), now}
				f.put(t, Meta{Job: h.job, Name: h.name}, h.content)
				if !slices.ContainsFunc(all, func(o held) bool { return o.job == h.job && o.name == h.name && o.content == h.content }) {
					all = append(all, h)
				}
			case "job goes":
				gone[rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "job")] = true
			case "prune":
				keep := Retention{Age: time.Duration(rapid.IntRange(0, 5).Draw(rt, "hours")) * time.Hour, Bytes: int64(rapid.IntRange(0, 150).Draw(rt, "bytes"))}
				total := func() (n int64) {
					seen := map[string]bool{}
					for _, h := range all {
						if !seen[h.content] {
							n += int64(len(h.content))
						}
						seen[h.content] = true
					}
					return n
				}
				before := len(all)
				for i := 0; i < len(all); i++ { // in the order in which they came
					if h := all[i]; gone[h.job] && (now.Sub(h.at) >= keep.Age || keep.Bytes > 0 && total() > keep.Bytes) {
						all = slices.Delete(all, i, i+1)
						i--
					}
				}
				done, err := f.Prune(t.Context(), keep, func(job string) (bool, error) { return !gone[job], nil })
				if err != nil || done.Entries != before-len(all) || done.Left != total() {
					rt.Fatalf("%+v, %v; want %d removed and %d bytes left", done, err, before-len(all), total())
				}
			}
			list, err := f.List(t.Context(), "")
			if err != nil || len(list) != len(all) {
				rt.Fatalf("%d entries, %v; want %d", len(list), err, len(all))
			}
			files := map[string]bool{}
			for i, h := range all {
				if list[i].Job != h.job || list[i].Name != h.name || list[i].SHA256 != digest(h.content) {
					rt.Fatalf("entry %d is %+v, want %+v", i, list[i], h)
				}
				if got, err := f.read(t, list[i].SHA256); err != nil || got != h.content {
					rt.Fatalf("entry %d reads %q, %v", i, got, err)
				}
				files[h.content] = true
			}
			if onDisk := f.files(t); len(onDisk) != len(files) {
				rt.Fatalf("%d files on the disk, want %d: %v", len(onDisk), len(files), onDisk)
			}
		}
	})
}

func TestPruneStopsWhereTheAnswerIsNotKnown(t *testing.T) {
	f := open(t, Options{})
	f.put(t, Meta{Job: "1", Name: "a"}, "x")
	unknown := fault.New(fault.Storage, "cannot tell")
	if _, err := f.Prune(t.Context(), Retention{}, func(string) (bool, error) { return false, unknown }); !errors.Is(err, unknown) {
		t.Errorf("%v", err)
	}
	if list, err := f.List(t.Context(), "1"); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}
