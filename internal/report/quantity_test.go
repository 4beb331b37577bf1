package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{
		"0 B": 0, "1 byte": 1, "12 bytes": 12, "1819.6 GB": 1819600000000, "2.00 TB": 2000000000000, "0.1 GB": 100000000, "0.3 kB": 300, "1 KB": 1000,
		"1 KiB": 1024, "1.5 MiB": 1572864, "2.2 TiB": 2418925581107, "7 EB": 7000000000000000000, "253871 1024-blocks": 259963904, "5 1K-blocks": 5120,
		"3 512-blocks": 1536, "3 512": 1536, "2 1M-blocks": 2097152, "-12288 1024-blocks": -12582912, "0.0000000005 GB": 1, "0.0000000004 GB": 0, "-0.5 B": -1,
		"9223372036854775807 B": math.MaxInt64,
	} {
		figure, unit, _ := strings.Cut(in, " ")
		if got, err := parseBytes(figure, unit); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"x GB", "1,5 GB", "1e9 B", " 1 B", "1. B", ".5 B", "0x10 B", "1 Gb", "1 gb", "1 GIB", "1 iB", "1 XB", "1 G", "1 0-blocks", "1 kib", "9223372036854775808 B",
		"10 EB", strings.Repeat("9", 40) + " B", "Inf B", "NaN B", "1/3 B"} {
		figure, unit, _ := strings.Cut(in, " ")
		if got, err := parseBytes(figure, unit); err == nil {
			t.Errorf("%q: %d", in, got)
		}
	}
}

// A figure in GB is its digits, moved: no rounding ever shows.
func TestGigabytesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Int64Range(0, math.MaxInt64).Draw(t, "bytes")
		figure := fmt.Sprintf("%d.%09d", want/1e9, want%1e9)
		if got, err := parseBytes(figure, "GB"); err != nil || got != want {
			t.Fatalf("%s GB: %d, %v", figure, got, err)
		}
	})
}

func TestParseSeconds(t *testing.T) {
	const retention = 12*86400 + 4*3600 + 11*60
	for in, want := range map[string]int64{
		"12d 04:11:00": retention, "12d 4h 11m 3s": retention + 3, "04:11:00": 4*3600 + 11*60, "292 hours": 292 * 3600, "1051860 seconds": 1051860,
		"12 days 04:11:00": retention, "12 days, 04:11:00": retention, "12d4h11m": retention, "12d 4h 11m 32.480s": retention + 32, "1.5 hours": 5400,
		"0s": 0, "1 week": 604800, "100:00:01": 360001, " 3 min ": 180, "1 Day": 86400,
	} {
		if got, err := parseSeconds(in); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "12", "-1s", "04:61:00", "4:11", "12d 12d", "3s 12d", "1h 04:11:00", "12 parsecs", "forever", "12d x", "d", strings.Repeat("9", 18) + " weeks", "12d 04:11:00 04:11:00"} {
		if got, err := parseSeconds(in); err == nil {
			t.Errorf("%q: %d", in, got)
		}
	}
}

func TestSecondsOfAnyDuration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Int64Range(0, 1<<40).Draw(t, "seconds")
		d, h, m, s := want/86400, want/3600%24, want/60%60, want%60
		for _, text := range []string{
			fmt.Sprintf("%dd %02d:%02d:%02d", d, h, m, s), fmt.Sprintf("%d days %02d:%02d:%02d", d, h, m, s), fmt.Sprintf("%dd %dh %dm %ds", d, h, m, s), strconv.FormatInt(want, 10) + " seconds",
		} {
			if got, err := parseSeconds(text); err != nil || got != want {
				t.Fatalf("%q: %d, %v", text, got, err)
			}
		}
	})
}

func TestPercent(t *testing.T) {
	total, part := int64(43980500000000), int64(41781400000000)
	if got := percentOf(&part, &total); got == nil || *got != 95 {
		t.Errorf("got %v", got)
	}
	zero := int64(0)
	if percentOf(&part, &zero) != nil || percentOf(nil, &total) != nil || percentOf(&part, nil) != nil {
		t.Error("a percentage of nothing")
	}
	if got, err := parsePercent("54.5 %"); err != nil || got != 54.5 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parsePercent("%"); err == nil {
		t.Error("% is no percentage")
	}
}

// Text of a device goes through these; nothing may panic or run away.
func FuzzFigures(f *testing.F) {
	for _, seed := range []string{"12d 04:11:00", "1819.6", "1K-blocks", "99999999999999999999 weeks", "-", "1.1.1"} {
		f.Add(seed, "GB")
	}
	f.Fuzz(func(t *testing.T, figure, unit string) {
		if n, err := parseSeconds(figure); err == nil && n < 0 {
			t.Errorf("%q is %d seconds", figure, n)
		}
		if _, err := parseBytes(figure, unit); err != nil && strings.ContainsAny(err.Error(), "\x00\x1b\n") {
			t.Errorf("control characters in %q", err)
		}
		_, _ = parsePercent(figure)
	})
}
