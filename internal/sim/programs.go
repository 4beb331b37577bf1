package sim

import (
	"crypto/md5" //nolint:gosec // the program of that name
	"crypto/sha256"
	"fmt"
	"io"
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
