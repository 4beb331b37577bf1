package sim

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// inputs runs fn on every named file, or on standard input.
func (c *call) inputs(names []string, fn func(name string, r io.Reader) error) int {
	if len(names) == 0 {
		names = []string{"-"}
	}
	status := 0
	for _, name := range names {
		r, err := c.open(name)
		if err == nil {
			err = fn(name, r)
			_ = r.Close() // read-only
		}
		if err != nil {
			status = c.fail("%s: %s", name, reason(err))
		}
	}
	return status
}

func digest(newHash func() hash.Hash) command {
	return func(c *call) int {
		if len(c.args) > 1 && (c.args[1] == "-c" || c.args[1] == "--check") {
			return c.checkDigests(newHash)
		}
		return c.inputs(c.args[1:], func(name string, r io.Reader) error {
			h := newHash()
			if _, err := io.Copy(h, r); err != nil {
				return err
			}
			c.printf("%s  %s\n", hex.EncodeToString(h.Sum(nil)), name)
			return nil
		})
	}
}

// checkDigests is md5sum -c and the like: lists of digests and names.
func (c *call) checkDigests(newHash func() hash.Hash) int {
	bad := 0
	status := c.inputs(c.args[2:], func(_ string, list io.Reader) error {
		lines := bufio.NewScanner(list)
		for lines.Scan() {
			want, name, ok := strings.Cut(lines.Text(), " ")
			if !ok {
				continue
			}
			name = strings.TrimLeft(name, " *")
			f, err := c.open(name)
			if err != nil {
				c.printf("%s: FAILED open or read\n", name)
				bad++
				continue
			}
			h := newHash()
			_, err = io.Copy(h, f)
			_ = f.Close() // read-only
			if err != nil || !strings.EqualFold(want, hex.EncodeToString(h.Sum(nil))) {
				c.printf("%s: FAILED\n", name)
				bad++
				continue
			}
			c.printf("%s: OK\n", name)
		}
		return lines.Err()
	})
	if bad > 0 {
		_, _ = fmt.Fprintf(c.err, "%s: WARNING: %d computed checksum did NOT match\n", c.args[0], bad)
		return 1
	}
	return status
}

func runWC(c *call) int {
	mode := ""
	args := c.args[1:]
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		mode, args = args[0], args[1:]
	}
	return c.inputs(args, func(name string, r io.Reader) error {
		text, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		lines, words := bytes.Count(text, []byte("\n")), len(bytes.Fields(text))
		counts := map[string]string{"-l": strconv.Itoa(lines), "-w": strconv.Itoa(words), "-c": strconv.Itoa(len(text))}
		out, ok := counts[mode]
		if !ok {
			out = fmt.Sprintf("%d %d %d", lines, words, len(text))
		}
		if name != "-" {
			out += " " + name
		}
		c.printf("%s\n", out)
		return nil
	})
}

func runGrep(c *call) int {
	invert, fold := false, ""
	args := c.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		invert = invert || strings.ContainsRune(args[0], 'v')
		if strings.ContainsRune(args[0], 'i') {
			fold = "(?i)"
		}
		args = args[1:]
	}
	if len(args) == 0 {
		_, _ = fmt.Fprint(c.err, "Usage: grep [OPTION]... PATTERN [FILE]...\n")
		return 2
	}
	expr, err := regexp.Compile(fold + args[0])
	if err != nil {
		c.fail("invalid pattern")
		return 2
	}
	found := 1
	status := c.inputs(args[1:], func(_ string, r io.Reader) error {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if expr.Match(lines.Bytes()) != invert {
				found = 0
				c.printf("%s\n", lines.Bytes())
			}
		}
		return lines.Err()
	})
	if status != 0 {
		return 2
	}
	return found
}

func runHead(c *call) int {
	return c.some(func(lines [][]byte, n int) [][]byte { return lines[:min(n, len(lines))] })
}

func runTail(c *call) int {
	if len(c.args) > 2 && c.args[1] == "-c" {
		return c.tailBytes(c.args[2], c.args[3:])
	}
	return c.some(func(lines [][]byte, n int) [][]byte { return lines[max(0, len(lines)-n):] })
}

// tailBytes prints the last bytes of each input, or with a plus all from that one on.
func (c *call) tailBytes(count string, names []string) int {
	n, err := strconv.ParseInt(strings.TrimPrefix(count, "+"), 10, 64)
	if err != nil || n < 0 {
		return c.fail("invalid number of bytes: '%s'", count)
	}
	return c.inputs(names, func(_ string, r io.Reader) error {
		if strings.HasPrefix(count, "+") {
			if _, err := io.CopyN(io.Discard, r, max(0, n-1)); err != nil {
				return ignoreEOF(err) // it has no such byte
			}
			_, err := io.Copy(c.out, r)
			return err
		}
		text, err := io.ReadAll(r)
		if err == nil {
			_, err = c.out.Write(text[max(0, int64(len(text))-n):])
		}
		return err
	})
}

// some prints the lines of each input that pick chooses.
func (c *call) some(pick func(lines [][]byte, n int) [][]byte) int {
	n, args := 10, c.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		text := strings.TrimPrefix(args[0][1:], "n")
		args = args[1:]
		if text == "" && len(args) > 0 {
			text, args = args[0], args[1:]
		}
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return c.fail("invalid number of lines: '%s'", text)
		}
	}
	return c.inputs(args, func(_ string, r io.Reader) error {
		text, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		lines := bytes.SplitAfter(text, []byte("\n"))
		if last := len(lines) - 1; len(lines[last]) == 0 {
			lines = lines[:last]
		}
		for _, l := range pick(lines, n) {
			if _, err := c.out.Write(l); err != nil {
				return err
			}
		}
		return nil
	})
}
