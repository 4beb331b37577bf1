package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// tmsh is one run of the Traffic Management Shell.
type tmsh struct {
	p           *bigipPersonality
	s           *session
	module      []string // where the user has moved to: (tmos.sys)
	interactive bool
	pager       bool
	threshold   int // lists longer than this are asked about; 0 never
	left        bool
}

func (p *bigipPersonality) newTmsh(s *session) *tmsh {
	return &tmsh{p: p, s: s, pager: true, threshold: 100}
}

func (t *tmsh) prompt() string {
	d := t.s.dev
	text := fmt.Sprintf("%s@(%s)(cfg-sync %s)(%s)(/Common)(%s)# ", t.s.user, d.hostname(), d.syncState(), d.failoverState(),
		strings.Join(append([]string{"tmos"}, t.module...), "."))
	if d.ordered.Load().ansi {
		return "\x1b[1m" + text + "\x1b[0m"
	}
	return text
}

// interact runs the shell on the session's terminal until quit. Its commands
// have contexts of their own, which Ctrl-C ends.
func (t *tmsh) interact() int {
	t.interactive = true
	t.s.interrupt.Store(nil) // a shell inside a command reads Ctrl-C itself
	term := t.s.term
	for !t.left {
		t.s.flap()
		line, err := term.readLine(t.s.ctx, t.prompt(), lineOptions{})
		switch {
		case errors.Is(err, errInterrupted):
			continue
		case errors.Is(err, io.EOF):
			return 0
		case err != nil:
			return statusKilled
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if t.s.turn(t.s.ctx) != nil {
			return statusKilled
		}
		ctx, done := t.s.command(t.s.ctx)
		t.run(ctx, line, term, term)
		interrupted := ctx.Err() != nil
		done(true)
		if t.s.ctx.Err() != nil {
			return statusKilled
		}
		if interrupted && t.s.hasPTY {
			term.raw("^C\r\n")
		}
	}
	return 0
}

// modules that can be moved into or named before a component.
func isModule(word string) bool {
	return slices.Contains([]string{"auth", "cli", "cm", "ltm", "net", "sys", "util"}, word)
}

// run runs one line and gives its status.
func (t *tmsh) run(ctx context.Context, line string, out, errw io.Writer) int {
	words, err := splitWords(line)
	if err != nil {
		_, _ = fmt.Fprintf(errw, "Syntax Error: %v\n", err)
		return 1
	}
	if len(words) == 0 {
		return 0
	}
	words[0] = strings.TrimPrefix(words[0], "/")
	if t.move(words) {
		return 0
	}
	verb, args := words[0], words[1:]
	for i, w := range args {
		// "/sys/version" and "/sys version" are the same; a path is not a module.
		if m, rest, _ := strings.Cut(strings.TrimPrefix(w, "/"), "/"); i == 0 && isModule(m) {
			args = slices.Concat([]string{m}, strings.Fields(strings.ReplaceAll(rest, "/", " ")), args[1:])
			break
		}
	}
	if len(args) > 0 && !isModule(args[0]) && verb != "reboot" && verb != "bash" {
		args = slices.Concat(t.module, args)
	}
	f := t.s.dev.ordered.Load()
	report := verb == "show" || verb == "list"
	if f.refuses(strings.Join(slices.Concat([]string{verb}, args), " "), report) {
		return unexpected(errw, args, verb)
	}
	switch verb {
	case "show", "list":
		text, items, ok := t.report(verb, args)
		if !ok {
			return t.notFound(errw, verb, args)
		}
		return t.print(ctx, out, text, items)
	case "modify":
		return t.modify(args, errw)
	case "save":
		return t.save(ctx, args, out, errw)
	case "install":
		return t.install(args, errw)
	case "delete":
		return t.remove(args, errw)
	case "load":
		return t.load(ctx, args, out, errw)
	case "run":
		return t.runComponent(ctx, args, out, errw)
	case "bash":
		return t.bash(ctx, args, out, errw)
	case "reboot":
		return t.reboot(args, errw)
	case "help":
		_, _ = fmt.Fprint(out, "Commands: bash, delete, exit, help, install, list, load, modify, quit, reboot, run, save, show\n")
		return 0
	case "quit":
		t.left = true
		return 0
	default:
		return unexpected(errw, nil, verb)
	}
}

// move handles going into a module and out again.
func (t *tmsh) move(words []string) bool {
	if len(words) != 1 {
		return false
	}
	switch w := words[0]; {
	case w == "exit" && len(t.module) > 0:
		t.module = t.module[:len(t.module)-1]
	case w == "exit":
		t.left = true
	case w == "":
		t.module = nil // a lone slash
	case isModule(w):
		t.module = []string{w}
	default:
		return false
	}
	return true
}

func unexpected(errw io.Writer, args []string, word string) int {
	if len(args) > 0 {
		word = args[len(args)-1]
	}
	_, _ = fmt.Fprintf(errw, "Syntax Error: %q unexpected argument\n", word)
	return 1
}

func (t *tmsh) notFound(errw io.Writer, verb string, args []string) int {
	if len(args) >= 3 && args[0] == "sys" && args[1] == "db" {
		_, _ = fmt.Fprintf(errw, "01020036:3: The requested database variable (%s) was not found.\n", args[2])
		return 1
	}
	return unexpected(errw, args, verb)
}

// print shows a report: asked about where it is long, then paged.
func (t *tmsh) print(ctx context.Context, out io.Writer, text string, items int) int {
	term := t.s.term
	tty := t.interactive && t.s.hasPTY
	if tty && t.threshold > 0 && items > t.threshold {
		answer, err := term.ask(ctx, fmt.Sprintf("Display all %d items? (y/n) ", items), false)
		if err != nil || !strings.HasPrefix(strings.ToLower(answer), "y") {
			return 0
		}
	}
	rows := int(t.s.rows.Load())
	if tty && t.pager && rows > 1 && strings.Count(text, "\n") >= rows && !t.s.dev.ordered.Load().disturbsOutput {
		err := term.page(ctx, []byte(text), rows, func(_, to, total int) string {
			return fmt.Sprintf("---(less %d%%)---", to*100/total)
		})
		return boolInt(err != nil)
	}
	return boolInt(t.s.answer(ctx, out, []byte(text), t.prompt()) != nil)
}

// report gives the text of a show or list, and how many items it lists.
func (t *tmsh) report(verb string, args []string) (text string, items int, ok bool) {
	d := t.s.dev
	switch what := strings.Join(args, " "); {
	case verb == "show" && what == "sys version":
		return showVersion(d), 1, true
	case verb == "show" && (what == "sys software" || what == "sys software status"):
		return showSoftware(d), 3, true
	case verb == "show" && (what == "sys software image" || what == "sys software hotfix"):
		return showImages(d, args[2]), 1, true
	case verb == "list" && len(args) >= 3 && args[1] == "software" && (args[2] == "image" || args[2] == "hotfix"):
		return listImages(d, args[2], args[3:])
	case verb == "show" && what == "sys license":
		return showLicense(d), 1, true
	case verb == "list" && strings.HasPrefix(what, "ltm virtual"):
		return listVirtuals(d), 3, true
	case verb == "list" && strings.HasPrefix(what, "cm traffic-group"):
		return d.trafficGroup(), 1, true
	case verb == "show" && what == "sys failover":
		return showFailover(d), 1, true
	case verb == "show" && what == "sys clock":
		return table("Sys::Clock", 25) + time.Now().UTC().Format("Mon Jan _2 15:04:05 MST 2006") + "\n\n", 1, true
	case verb == "show" && what == "cm failover-status":
		return showFailoverStatus(d), 1, true
	case verb == "show" && what == "cm sync-status":
		return showSyncStatus(d), 1, true
	case verb == "list" && what == "cli preference":
		pager := map[bool]string{true: "enabled", false: "disabled"}[t.pager]
		return fmt.Sprintf("cli preference {\n    display-threshold %d\n    pager %s\n}\n", t.threshold, pager), 1, true
	case verb == "list" && strings.HasPrefix(what, "sys db"):
		return listDB(d, args[2:])
	default:
		return "", 0, false
	}
}

func (t *tmsh) modify(args []string, errw io.Writer) int {
	switch {
	case len(args) >= 2 && args[0] == "cli" && args[1] == "preference":
		return t.prefer(args[2:], errw)
	case len(args) == 5 && args[0] == "sys" && args[1] == "db" && args[3] == "value":
		if !slices.Contains(dbNames(), args[2]) {
			return t.notFound(errw, "modify", args)
		}
		t.s.dev.configure("db "+args[2], args[4])
		return 0
	default:
		return unexpected(errw, args, "modify")
	}
}

// prefer sets preferences of this shell: pager and display-threshold.
func (t *tmsh) prefer(args []string, errw io.Writer) int {
	for len(args) > 0 {
		if len(args) == 1 {
			return unexpected(errw, args, "")
		}
		switch value := args[1]; args[0] {
		case "pager":
			if value != "enabled" && value != "disabled" {
				return unexpected(errw, args[:2], "")
			}
			t.pager = value == "enabled"
		case "display-threshold":
			var n int
			if _, err := fmt.Sscanf(value, "%d", &n); err != nil || n < 0 {
				return unexpected(errw, args[:2], "")
			}
			t.threshold = n
		default:
			return unexpected(errw, args[:1], "")
		}
		args = args[2:]
	}
	return 0
}

func (t *tmsh) save(ctx context.Context, args []string, out, errw io.Writer) int {
	if len(args) == 3 && args[0] == "sys" && args[1] == "ucs" {
		return t.saveUCS(ctx, args[2], out, errw)
	}
	if strings.Join(args, " ") != "sys config" {
		return unexpected(errw, args, "save")
	}
	if t.s.cutAt(stepSave, cutBefore) {
		return 1
	}
	t.s.dev.saveConfig(t.s.user)
	if t.s.cutAt(stepSave, cutAfter) {
		return 1
	}
	_, _ = fmt.Fprint(out, `Saving running configuration...
  /config/bigip.conf
  /config/bigip_base.conf
  /config/bigip_script.conf
  /config/bigip_user.conf
Saving Ethernet map ...done
Saving PCI map ...
 - verifying checksum .../var/run/f5pcimap: OK
done
 - saving ...done
`)
	return 0
}

func (t *tmsh) runComponent(ctx context.Context, args []string, out, errw io.Writer) int {
	switch {
	case len(args) >= 2 && args[0] == "util" && args[1] == "bash":
		return t.bash(ctx, args[2:], out, errw)
	case strings.Join(args, " ") == "sys failover standby":
		return t.failover(errw)
	default:
		return unexpected(errw, args, "run")
	}
}

// bash leaves tmsh for the other shell, for one command or until it exits.
func (t *tmsh) bash(ctx context.Context, args []string, out, errw io.Writer) int {
	b, err := newBash(ctx, t.s, shellSetup{commands: t.p.commands, prompt: t.p.bashPrompt, stdin: t.s.stdin(), stdout: out, stderr: errw})
	if err != nil {
		return t.s.broken(err)
	}
	defer b.close()
	switch {
	case len(args) == 2 && args[0] == "-c":
		return b.script(args[1])
	case len(args) > 0:
		return unexpected(errw, args, "bash")
	case t.s.term == nil:
		text, err := io.ReadAll(t.s.stdin())
		if err != nil {
			return 1
		}
		return b.script(string(text))
	default:
		return b.interact()
	}
}

// reboot optionally chooses the volume to boot.
func (t *tmsh) reboot(args []string, errw io.Writer) int {
	d := t.s.dev
	if len(args) > 0 {
		if len(args) != 2 || args[0] != "volume" {
			return unexpected(errw, args, "reboot")
		}
		if !slices.ContainsFunc(volumesOf(d), func(v volume) bool { return v.Name == args[1] && v.Version != "none" && v.Status == "complete" }) {
			_, _ = fmt.Fprintf(errw, "01071002:3: Volume %s cannot be booted.\n", args[1])
			return 1
		}
	}
	if t.s.cutAt(stepReload, cutBefore) {
		return 1
	}
	if len(args) > 0 {
		d.fleet.store.change(func() { d.st.NextVolume = args[1] })
	}
	if err := d.reboot("user=" + t.s.user); err != nil {
		_, _ = fmt.Fprintf(errw, "01071002:3: %v.\n", err)
		return 1
	}
	return 0
}

// splitWords takes a line apart at blanks; quotes of both kinds keep text together.
func splitWords(line string) ([]string, error) {
	var words []string
	var word bytes.Buffer
	in, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line) && strings.IndexByte(`\"'`, line[i+1]) >= 0:
			i++
			word.WriteByte(line[i])
			in = true
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("unmatched %c", quote)
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
