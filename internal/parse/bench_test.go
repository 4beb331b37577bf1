package parse

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Inputs as devices print them, repeated to a size. The two expressions of a
// table, many rules a line, long tables with few rules: where parsers differ.
var benchmarks = []struct {
	name, template string
	text           func(i int) string
}{
	{"blocks", "endace_osm/filesystem", func(i int) string {
		return fmt.Sprintf("Statistics for /data%d filesystem:\n  Bytes Total %d.5 GB\n  Bytes Used %d.1\n  Bytes Usable %d\n  Bytes Free %d.25\n"+
			"  Bytes Percent Free 5%%\n  Inodes Total 50400\n  Inodes Used 23\n  Inodes Free 50377\n  Inodes Percent Free 99%%\n  Device Name /dev/md%d\n\n", i, i, i, i, i, i%9)
	}},
	{"table", "linux/filesystem", func(i int) string {
		if i == 0 {
			return "Filesystem     1024-blocks      Used Available Capacity Mounted on\n"
		}
		return fmt.Sprintf("/dev/mapper/vg-lv%-20d %11d %9d %9d      30%% /srv/pcap/%d\n", i, 28756812+i, 8121520+i, 19149148+i, i)
	}},
	{"retention", "endace_osm/rotation_file", func(i int) string {
		return fmt.Sprintf("Rotation file: Main %d\n  User Size Limit       2000\n  Actual Size Limit     2000\n  Disk Usage            1820.4\n"+
			"  Vision Retention Time %dd 04:11:00\n  Vision Size           18.2\n  Current Size          1819.6\n  Source                erfstream%d\n\n", i, i, i%4)
	}},
}

func benchText(size int, text func(int) string) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		b.WriteString(text(i))
	}
	return b.Bytes()
}

// BenchmarkParse shows the speed at three sizes: linear in size means that MB/s
// stays as it is.
func BenchmarkParse(b *testing.B) {
	lib := NewLibrary("")
	for _, c := range benchmarks {
		for _, mb := range []int{1, 5, 20} {
			b.Run(fmt.Sprintf("%s/%dMB", c.name, mb), func(b *testing.B) {
				t, err := lib.Template(c.template)
				if err != nil {
					b.Fatal(err)
				}
				text := benchText(mb<<20, c.text)
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := t.Parse(context.Background(), bytes.NewReader(text)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkParseAgainstPython parses 20 MB here and in Python's TextFSM in turn and
// reports the median of the ratios of speed (more than 1 is faster than Python).
// Python's time is that of ParseText alone. Run it with -benchtime=Nx for N rounds.
func BenchmarkParseAgainstPython(b *testing.B) {
	lib := NewLibrary("")
	for _, c := range benchmarks {
		b.Run(c.name, func(b *testing.B) {
			p := startPeer(b)
			t, err := lib.Template(c.template)
			if err != nil {
				b.Fatal(err)
			}
			src, err := lib.ReadFile(c.template + Extension)
			if err != nil {
				b.Fatal(err)
			}
			text := benchText(20<<20, c.text)
			file := filepath.Join(b.TempDir(), "text")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				b.Fatal(err)
			}
			var ratios, ours, theirs []float64
			for range b.N {
				begin := time.Now()
				rows, err := t.Parse(context.Background(), bytes.NewReader(text))
				if err != nil {
					b.Fatal(err)
				}
				took := time.Since(begin).Seconds()
				answer := p.ask(b, peerRequest{Template: string(src), File: file})
				if answer.Rows != len(rows) {
					b.Fatalf("we read %d rows, Python %d %s", len(rows), answer.Rows, answer.Error)
				}
				ratios, ours, theirs = append(ratios, answer.Seconds/took), append(ours, took), append(theirs, answer.Seconds)
			}
			mb := float64(len(text)) / 1e6
			b.ReportMetric(median(ratios), "x-python")
			b.ReportMetric(mb/median(ours), "MB/s")
			b.ReportMetric(mb/median(theirs), "python-MB/s")
		})
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
