package sim

import (
	"bufio"
	"bytes"
	"crypto/md5" //nolint:gosec // the program of that name
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// programs are what Linux hosts and BIG-IPs have in common.
func programs() map[string]command {
	return map[string]command{
		"cat": runCat, "date": runDate, "df": runDF, "find": runFind, "grep": runGrep, "head": runHead,
		"hostname": func(c *call) int { c.printf("%s\n", c.dev().hostname()); return 0 },
		"id":       runID, "kill": runKill, "tcpdump": runTcpdump, "which": runWhich,
		"ls": runLS, "md5sum": digest(md5.New), "mkdir": runMkdir, "mv": runMV, "reboot": runReboot,
		"rm": runRM, "sha256sum": digest(sha256.New), "sleep": runSleep, "stty": runStty,
		"sudo": runSudo, "sh": runShell, "bash": runShell, "tail": runTail, "uname": runUname, "uptime": runUptime,
		"wc": runWC, "whoami": func(c *call) int { c.printf("%s\n", c.s.user); return 0 },
	}
}

func uid(c *call) int {
	if c.s.user == "root" {
		return 0
	}
	return 1000
}

// answer writes a report's output, disturbed as ordered.
func (c *call) answer(out string) int {
	if c.s.answer(c.ctx, c.out, []byte(out), c.sh.prompt(c.sh)) != nil {
		return 1
	}
	return 0
}

func runCat(c *call) int {
	names := c.args[1:]
	if len(names) == 0 {
		names = []string{"-"}
	}
	status := 0
	for _, name := range names {
		in, err := c.open(name)
		if err != nil {
			status = c.fail("%s: %s", name, reason(err))
			continue
		}
		if isBashReport(c.args) {
			text, err := io.ReadAll(in)
			if err == nil {
				status = c.answer(string(text))
			}
		} else if _, err = io.Copy(c.out, in); err != nil {
			status = 1 // whoever read the output is gone
		}
		_ = in.Close() // read-only
	}
	return status
}

func runDF(c *call) int {
	posix, human, types, kilo := false, false, false, false
	var paths []string
	for _, a := range c.args[1:] {
		if !strings.HasPrefix(a, "-") || a == "-" {
			paths = append(paths, a)
			continue
		}
		for _, o := range strings.TrimLeft(a, "-") {
			switch o {
			case 'P':
				posix = true
			case 'h':
				human = true
			case 'T':
				types = true
			case 'k', 'l', 'a':
				kilo = kilo || o == 'k'
			default:
				_, _ = fmt.Fprintf(c.err, "df: invalid option -- '%c'\nTry 'df --help' for more information.\n", o)
				return 1
			}
		}
	}
	list := c.dev().mounts()
	if len(paths) > 0 {
		var chosen []mount
		for _, p := range paths {
			m, ok := holding(list, c.path(p))
			if _, err := c.dev().files.stat(c.path(p), true); err != nil && m.on != c.path(p) || !ok {
				return c.fail("%s: No such file or directory", p)
			}
			chosen = append(chosen, m)
		}
		list = chosen
	}
	return c.answer(formatDF(list, dfOptions{posix: posix, human: human, types: types, oldWrap: c.dev().platform == platformBigIP}))
}

func runUname(c *call) int {
	u := c.dev().persona.(mounted).kernel(c.dev())
	if len(c.args) == 1 {
		return c.answer("Linux\n")
	}
	var parts []string
	for _, a := range c.args[1:] {
		for _, o := range strings.TrimLeft(a, "-") {
			switch o {
			case 'a':
				parts = append(parts, "Linux", c.dev().hostname(), u.release, u.version, u.machine, "GNU/Linux")
			case 's':
				parts = append(parts, "Linux")
			case 'n':
				parts = append(parts, c.dev().hostname())
			case 'r':
				parts = append(parts, u.release)
			case 'v':
				parts = append(parts, u.version)
			case 'm', 'p', 'i':
				parts = append(parts, u.machine)
			case 'o':
				parts = append(parts, "GNU/Linux")
			default:
				return c.fail("invalid option -- '%c'", o)
			}
		}
	}
	return c.answer(strings.Join(parts, " ") + "\n")
}

func runUptime(c *call) int {
	up := c.dev().uptime()
	if len(c.args) > 1 && c.args[1] == "-s" {
		return c.answer(c.dev().state().BootTime.UTC().Format("2006-01-02 15:04:05") + "\n")
	}
	days, hours, minutes := int(up.Hours())/24, int(up.Hours())%24, int(up.Minutes())%60
	since := fmt.Sprintf("%2d:%02d", hours, minutes)
	if days > 0 {
		since = fmt.Sprintf("%d days, %s", days, since)
	}
	return c.answer(fmt.Sprintf(" %s up %s,  1 user,  load average: 0.42, 0.37, 0.31\n", time.Now().UTC().Format("15:04:05"), since))
}

func runDate(c *call) int {
	now, format := time.Now().UTC(), "%a %b %e %H:%M:%S UTC %Y"
	for _, a := range c.args[1:] {
		switch {
		case strings.HasPrefix(a, "+"):
			format = a[1:]
		case a == "-u", a == "--utc", a == "--universal":
		case a == "-Is", a == "-Iseconds", a == "--iso-8601=seconds":
			format = "%Y-%m-%dT%H:%M:%S+00:00"
		case a == "-R":
			format = "%a, %d %b %Y %H:%M:%S +0000"
		default:
			return c.fail("invalid date '%s'", a)
		}
	}
	c.printf("%s\n", strftime(now, format))
	return 0
}

// strftime formats a time in UTC the way date(1) does.
func strftime(t time.Time, format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		layouts := map[byte]string{'Y': "2006", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'M': "04", 'S': "05",
			'y': "06", 'F': "2006-01-02", 'T': "15:04:05", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January",
			'j': "002", 'z': "-0700", 'Z': "UTC", 'R': "15:04", 'D': "01/02/06", 'I': "03", 'p': "PM"}
		switch layout, ok := layouts[format[i]]; {
		case ok:
			b.WriteString(t.Format(layout))
		case format[i] == 's':
			b.WriteString(strconv.FormatInt(t.Unix(), 10))
		case format[i] == 'N':
			fmt.Fprintf(&b, "%09d", t.Nanosecond())
		case format[i] == 'n':
			b.WriteByte('\n')
		case format[i] == '%':
			b.WriteByte('%')
		default:
			b.WriteByte('%')
			b.WriteByte(format[i])
		}
	}
	return b.String()
}

func runSleep(c *call) int {
	if len(c.args) < 2 {
		return c.fail("missing operand")
	}
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(c.args[1], "s"), 64)
	if err != nil || seconds < 0 {
		return c.fail("invalid time interval '%s'", c.args[1])
	}
	return c.sleep(time.Duration(seconds * float64(time.Second)))
}

func runReboot(c *call) int {
	if uid(c) != 0 && !c.sudo {
		return c.fail("Operation not permitted")
	}
	if err := c.dev().reboot("user=" + c.s.user); err != nil {
		return c.fail("%v", err)
	}
	return 0
}

// runSudo runs the rest as root: every account of the simulator may.
func runSudo(c *call) int {
	args := c.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		args = args[1:]
	}
	if len(args) == 0 {
		return c.fail("a command is needed")
	}
	run := c.sh.commands[args[0]]
	if run == nil {
		return c.fail("%s: command not found", args[0])
	}
	inner := *c
	inner.args, inner.sudo = args, true
	return run(&inner)
}

// runShell is bash -c, or a script from standard input.
func runShell(c *call) int {
	var script string
	switch args := c.args[1:]; {
	case len(args) > 2 && args[0] == "-c" && c.s.term == nil:
		return runScript(c)
	case len(args) >= 2 && (args[0] == "-c" || args[0] == "-lc"):
		script = args[1]
	case len(args) == 0 && c.s.hasPTY && c.s.term != nil:
		inner, err := c.nested()
		if err != nil {
			return c.fail("%v", err)
		}
		defer inner.close()
		return inner.interact()
	case len(args) == 0 || args[0] == "-s" || args[0] == "-":
		text, err := io.ReadAll(c.in)
		if err != nil {
			return 1
		}
		script = string(text)
	default:
		f, err := c.open(args[0])
		if err != nil {
			c.fail("%s: %s", args[0], reason(err))
			return 127
		}
		text, err := io.ReadAll(f)
		_ = f.Close() // read-only
		if err != nil {
			return 1
		}
		script = string(text)
	}
	inner, err := c.nested()
	if err != nil {
		return c.fail("%v", err)
	}
	defer inner.close()
	return inner.script(script)
}

func runStty(c *call) int {
	if !c.s.hasPTY {
		return c.fail("'standard input': Inappropriate ioctl for device")
	}
	args := c.args[1:]
	if len(args) == 0 || args[0] == "-a" {
		c.printf("speed 38400 baud; rows %d; columns %d; line = 0;\n", c.s.rows.Load(), c.s.cols.Load())
		return 0
	}
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "size":
			c.printf("%d %d\n", c.s.rows.Load(), c.s.cols.Load())
		case "cols", "columns", "rows":
			n := int64(0)
			if i+1 < len(args) {
				n, _ = strconv.ParseInt(args[i+1], 10, 32) // 0 is refused below
			}
			if n <= 0 {
				return c.fail("invalid integer argument: '%s'", strings.Join(args[i+1:], " "))
			}
			if args[i] == "rows" {
				c.s.rows.Store(int32(n))
			} else {
				c.s.cols.Store(int32(n))
			}
			i++
		default: // modes such as -echo have no effect on a line editor
		}
	}
	return 0
}

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

func runMkdir(c *call) int {
	root, err := c.dev().files.open()
	if err != nil {
		return c.fail("%s", reason(err))
	}
	parents, status, mode := false, 0, false
	for _, a := range c.args[1:] {
		if mode {
			mode = false // rights: the simulator's files all belong to one user
			continue
		}
		if strings.HasPrefix(a, "-") {
			parents = parents || strings.ContainsRune(a, 'p')
			mode = a == "-m"
			continue
		}
		if parents {
			err = root.MkdirAll(inside(c.path(a)), 0o755)
		} else {
			err = root.Mkdir(inside(c.path(a)), 0o755)
		}
		if err != nil {
			status = c.fail("cannot create directory '%s': %s", a, reason(err))
		}
	}
	return status
}

func runRM(c *call) int {
	root, err := c.dev().files.open()
	if err != nil {
		return c.fail("%s", reason(err))
	}
	recursive, force, status := false, false, 0
	for _, a := range c.args[1:] {
		if strings.HasPrefix(a, "-") {
			recursive = recursive || strings.ContainsAny(a, "rR")
			force = force || strings.ContainsRune(a, 'f')
			continue
		}
		name := inside(c.path(a))
		info, err := root.Lstat(name)
		switch {
		case err != nil && force && os.IsNotExist(err):
			continue
		case err == nil && info.IsDir() && !recursive:
			err = errIsDirectory
		case err == nil && recursive && name != ".":
			c.dev().removed(root, name)
			err = root.RemoveAll(name)
		case err == nil:
			if err = root.Remove(name); err == nil && info.Mode().IsRegular() {
				c.dev().takeSpace(c.path(a), -info.Size())
			}
		}
		if err != nil {
			status = c.fail("cannot remove '%s': %s", a, reason(err))
		}
	}
	return status
}

func runMV(c *call) int {
	if len(c.args) != 3 {
		return c.fail("two names are needed")
	}
	root, err := c.dev().files.open()
	if err != nil {
		return c.fail("%s", reason(err))
	}
	from, to := c.path(c.args[1]), c.path(c.args[2])
	if info, err := root.Stat(inside(to)); err == nil && info.IsDir() {
		to += "/" + from[strings.LastIndexByte(from, '/')+1:]
	}
	c.dev().arrivedFile(to)
	if err := root.Rename(inside(from), inside(to)); err != nil {
		return c.fail("cannot move '%s': %s", c.args[1], reason(err))
	}
	return 0
}
