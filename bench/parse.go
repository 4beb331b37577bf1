package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"capfleet/internal/parse"
	"capfleet/templates"
)

// parseCase is one template with text to repeat until the input is large.
type parseCase struct {
	name, template, sample string
	heading                int // lines that stand once, before what is repeated
}

func parseCases() []parseCase {
	return []parseCase{
		{"OSm file systems", "endace_osm/filesystem.textfsm", "endace_osm/samples/filesystem", 0},
		{"OSm rotation files", "endace_osm/rotation_file.textfsm", "endace_osm/samples/rotation_file", 0},
		{"df -P", "linux/filesystem.textfsm", "linux/samples/filesystem", 1},
	}
}

// benchParse runs our own templates over 20 MB, in turn with Python TextFSM, and
// over 40 MB to show that time grows with size and not faster.
func benchParse(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	const size = 20 << 20
	dir, err := os.MkdirTemp("", "fleet-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	script, err := scripts.ReadFile("textfsm_parse.py")
	if err != nil {
		return nil, err
	}
	for _, c := range parseCases() {
		src, err := templates.FS.ReadFile(c.template)
		if err != nil {
			return nil, err
		}
		t, err := parse.Compile(c.template, src)
		if err != nil {
			return nil, err
		}
		sample, err := firstSample(c.sample)
		if err != nil {
			return nil, err
		}
		text := enlarge(sample, c.heading, size)
		tf, df := filepath.Join(dir, "t"), filepath.Join(dir, "d")
		if err := os.WriteFile(tf, src, 0o600); err != nil {
			return nil, err
		}
		if err := os.WriteFile(df, text, 0o600); err != nil {
			return nil, err
		}
		rows := 0
		ours := func(text []byte) func(context.Context) (time.Duration, error) {
			return func(ctx context.Context) (time.Duration, error) {
				begin := time.Now()
				got, err := t.Parse(ctx, bytes.NewReader(text))
				rows = len(got)
				return time.Since(begin), err
			}
		}
		python := func(ctx context.Context) (time.Duration, error) {
			cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", string(script), tf, df)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return 0, err
			}
			var seconds float64
			var n int
			if _, err := fmt.Fscan(bytes.NewReader(out), &seconds, &n); err != nil {
				return 0, err
			}
			if n != rows {
				return 0, fmt.Errorf("rows differ: Python has %d, we have %d", n, rows)
			}
			return time.Duration(seconds * float64(time.Second)), nil
		}
		r, err := paired(ctx, log, "parse "+c.name+", 20 MB / Python TextFSM", min(o.rounds, 5), 1, ours(text), python)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
		double := enlarge(sample, c.heading, 2*size)
		r, err = paired(ctx, log, "parse "+c.name+", 40 MB / 20 MB", o.rounds, 2.2, ours(double), ours(text))
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// enlarge repeats what follows the heading until there are size bytes. A blank
// line ends the last block of each repetition; a table has none.
func enlarge(sample []byte, heading, size int) []byte {
	lines := bytes.SplitAfter(sample, []byte("\n"))
	head, body := bytes.Join(lines[:heading], nil), bytes.Join(lines[heading:], nil)
	body = append(bytes.TrimRight(body, "\n"), '\n')
	if heading == 0 {
		body = append(body, '\n')
	}
	return append(bytes.Clone(head), bytes.Repeat(body, size/len(body)+1)...)
}

// firstSample is the first recorded output below a folder of templates.
func firstSample(dir string) ([]byte, error) {
	entries, err := templates.FS.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			return templates.FS.ReadFile(dir + "/" + e.Name() + "/raw.txt")
		}
	}
	return nil, fmt.Errorf("no sample below %s", dir)
}
