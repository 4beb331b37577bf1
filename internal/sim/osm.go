package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// osmPersonality is an Endace probe. Its command line belongs to a family of
// appliances; where OSm itself is undocumented it does as its siblings do.
type osmPersonality struct{ root *osmNode }

func newOSm() *osmPersonality { return &osmPersonality{root: osmCommands()} }

func (p *osmPersonality) version() string { return "OpenSSH_7.4" }

func (p *osmPersonality) home(string) string { return "/" }

const packageDir = "/endace/packages"

func (p *osmPersonality) furnish(*device) map[string]string {
	return map[string]string{packageDir + "/": "", "/var/log/": "", "/config/": ""}
}

func (p *osmPersonality) settings(d *device) map[string]string {
	return map[string]string{"ntp server": "192.0.2.123", "logging": "192.0.2.5", "snmp-server location": d.site}
}

func (p *osmPersonality) live(*device, string) []byte { return nil }

// statfs answers from the same figures as show files system.
func (p *osmPersonality) statfs(d *device, name string) (total, free int64) {
	parts := figuresOf(d).partitions
	best := parts[len(parts)-1]
	for _, f := range parts {
		if name == f.name || strings.HasPrefix(name, f.name+"/") {
			best = f
		}
	}
	return int64(best.total) * 1e8, int64(best.total-best.used) * 1e8
}

// exec refuses: this family runs nothing but its command line, and that needs a
// shell session.
func (p *osmPersonality) exec(_ context.Context, s *session, _ string) int {
	_, _ = fmt.Fprint(s.stderr(), "UNIX shell commands cannot be executed using this account.\n")
	return 1
}

func (p *osmPersonality) shell(s *session) int {
	c := &osmCLI{p: p, s: s, t: s.term, paging: true, length: int(s.rows.Load())}
	s.greet("")
	defer c.leaveConfig()
	return c.interact()
}

// osmMode is a privilege level; each can do what those below can.
type osmMode int

const (
	osmStandard osmMode = iota
	osmEnable
	osmConfig
)

// osmCLI is one session of the command line.
type osmCLI struct {
	p      *osmPersonality
	s      *session
	t      *terminal
	mode   osmMode
	paging bool
	length int // lines of the terminal
	left   bool
}

// prompt shows mode and maintenance as they are now: another session may have
// changed either.
func (c *osmCLI) prompt() string {
	d := c.s.dev
	f := d.ordered.Load()
	text := d.hostname()
	if d.state().Maintenance {
		text = "(maintenance) " + text
	}
	switch c.mode {
	case osmStandard:
		text += " > "
	case osmEnable:
		text += " # "
	case osmConfig:
		text += " (" + f.configPrompt + ") # "
	}
	if f.ansi {
		return "\x1b[?7h\x1b[1m" + text + "\x1b[0m\x1b[K"
	}
	return text
}

func (c *osmCLI) interact() int {
	for !c.left {
		c.dropConfig()
		line, err := c.t.readLine(c.s.ctx, c.prompt(), lineOptions{help: c.help})
		switch {
		case errors.Is(err, errInterrupted):
			continue
		case errors.Is(err, io.EOF):
			return 0
		case err != nil:
			return statusKilled
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if c.s.turn(c.s.ctx) != nil {
			return statusKilled
		}
		c.dropConfig()
		ctx, done := c.s.command(c.s.ctx)
		c.run(ctx, words)
		interrupted := ctx.Err() != nil
		done(true)
		if c.s.ctx.Err() != nil {
			return statusKilled
		}
		if interrupted && c.s.hasPTY {
			c.t.raw("^C\r\n")
		}
	}
	return 0
}

// run finds the command and runs it.
func (c *osmCLI) run(ctx context.Context, words []string) {
	line := strings.Join(words, " ")
	if c.s.dev.ordered.Load().refuses(line, strings.HasPrefix("show", words[0])) {
		c.unrecognized(line)
		return
	}
	cmd, args, err := c.p.root.find(words, c.mode)
	if cmd != nil && cmd.path == captureCommand && c.s.dev.ordered.Load().change.capture == captureNone {
		err = errUnrecognized
	}
	switch {
	case errors.Is(err, errUnrecognized):
		c.unrecognized(line)
	case errors.Is(err, errIncomplete):
		c.t.printf("%% Incomplete command.\nType \"%s ?\" for help.\n", line)
	case errors.Is(err, errAmbiguous):
		c.t.printf("%% Ambiguous command \"%s\".\nType \"?\" for help.\n", line)
	default:
		cmd.run(ctx, c, args)
	}
}

func (c *osmCLI) unrecognized(line string) {
	c.t.printf("%% Unrecognized command \"%s\".\nType \"?\" for help.\n", line)
}

// show prints a report, a screen at a time where paging is on.
func (c *osmCLI) show(ctx context.Context, text string) {
	if c.s.hasPTY && c.paging && c.length > 1 && strings.Count(text, "\n") >= c.length && !c.s.dev.ordered.Load().disturbsOutput {
		// An error here is the session's end, which the next prompt meets.
		_ = c.t.page(ctx, []byte(text), c.length, func(from, to, _ int) string { return fmt.Sprintf("lines %d-%d ", from, to) })
		return
	}
	_ = c.s.answer(ctx, c.t, []byte(text), c.prompt()) // as above
}

// help lists what can follow, when '?' is typed.
func (c *osmCLI) help(line string) {
	words := strings.Fields(line)
	partial := ""
	if len(words) > 0 && !strings.HasSuffix(line, " ") {
		partial, words = words[len(words)-1], words[:len(words)-1]
	}
	node := c.p.root
	for _, w := range words {
		next, err := node.child(w, c.mode)
		if err != nil {
			c.t.printf("%% No help for \"%s\".\n", line)
			return
		}
		node = next
	}
	if node.cmd != nil && partial == "" {
		c.t.printf("  %-20s %s\n", "<cr>", node.cmd.help)
	}
	for _, n := range node.visible(c.mode) {
		if strings.HasPrefix(n.word, partial) {
			c.t.printf("  %-20s %s\n", n.word, n.help())
		}
	}
}

// enterConfig takes configuration mode, which one session has at a time.
func (c *osmCLI) enterConfig(ctx context.Context) {
	d := c.s.dev
	who := ""
	d.mu.Lock()
	switch {
	case d.ordered.Load().takeover:
		who = "admin (192.0.2.250)"
	case d.holder != nil && d.holder != c:
		who = fmt.Sprintf("%s (%s)", d.holder.s.user, hostOf(d.holder.s.conn.raw.RemoteAddr().String()))
	}
	d.mu.Unlock()
	if who != "" {
		c.t.printf("Another user is in configuration mode: %s\n", who)
		answer, err := c.t.ask(ctx, "Enter 'YES' to enter configuration mode anyway: ", false)
		if err != nil || answer != "YES" {
			c.t.printf("%% Configuration mode was not entered.\n")
			return
		}
	}
	d.mu.Lock()
	d.holder = c
	d.mu.Unlock()
	c.mode = osmConfig
}

// dropConfig notices that another session has taken configuration mode.
func (c *osmCLI) dropConfig() {
	if c.mode != osmConfig {
		return
	}
	c.s.dev.mu.Lock()
	mine := c.s.dev.holder == c
	c.s.dev.mu.Unlock()
	if !mine {
		c.mode = osmEnable
		c.t.printf("Another user has taken configuration mode.\n")
	}
}

func (c *osmCLI) leaveConfig() {
	c.s.dev.mu.Lock()
	defer c.s.dev.mu.Unlock()
	if c.s.dev.holder == c {
		c.s.dev.holder = nil
	}
}

// enable may ask for a password, three times.
func (c *osmCLI) enable(ctx context.Context) {
	if !c.s.dev.ordered.Load().enablePassword {
		c.mode = max(c.mode, osmEnable)
		return
	}
	for range 3 {
		given, err := c.t.ask(ctx, "Password: ", true)
		if err != nil {
			return
		}
		if given == c.s.dev.fleet.keys.password(credential(c.s.dev.login).enable) {
			c.mode = max(c.mode, osmEnable)
			return
		}
	}
	c.t.printf("%% Access denied.\n")
}
