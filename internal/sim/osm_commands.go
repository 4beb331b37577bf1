package sim

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// osmCommand is one command. What follows its words are its arguments.
type osmCommand struct {
	path string // words; each can be shortened as far as it stays unique
	mode osmMode
	args int // how many it takes; negative: at least one, as one text
	help string
	run  func(ctx context.Context, c *osmCLI, args []string)
}

var (
	errUnrecognized = errors.New("unrecognized command")
	errIncomplete   = errors.New("incomplete command")
	errAmbiguous    = errors.New("ambiguous command")
)

// osmNode is one word of the command tree.
type osmNode struct {
	word     string
	children []*osmNode
	cmd      *osmCommand
}

func osmCommands() *osmNode {
	root := &osmNode{}
	for _, cmd := range osmCommandList() {
		n := root
		for w := range strings.FieldsSeq(cmd.path) {
			i := slices.IndexFunc(n.children, func(k *osmNode) bool { return k.word == w })
			if i < 0 {
				i = len(n.children)
				n.children = append(n.children, &osmNode{word: w})
			}
			n = n.children[i]
		}
		n.cmd = &cmd
	}
	return root
}

// allowed tells whether the node leads to a command of the mode.
func (n *osmNode) allowed(mode osmMode) bool {
	return n.cmd != nil && n.cmd.mode <= mode || slices.ContainsFunc(n.children, func(k *osmNode) bool { return k.allowed(mode) })
}

func (n *osmNode) visible(mode osmMode) []*osmNode {
	var out []*osmNode
	for _, k := range n.children {
		if k.allowed(mode) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b *osmNode) int { return strings.Compare(a.word, b.word) })
	return out
}

func (n *osmNode) help() string {
	if n.cmd != nil {
		return n.cmd.help
	}
	return "..."
}

// child finds the word that a user meant.
func (n *osmNode) child(word string, mode osmMode) (*osmNode, error) {
	var found *osmNode
	for _, k := range n.children {
		switch {
		case !k.allowed(mode) || !strings.HasPrefix(k.word, word):
		case k.word == word:
			return k, nil
		case found != nil:
			return nil, errAmbiguous
		default:
			found = k
		}
	}
	if found == nil {
		return nil, errUnrecognized
	}
	return found, nil
}

// find goes down the tree as far as words lead.
func (n *osmNode) find(words []string, mode osmMode) (*osmCommand, []string, error) {
	i := 0
	for ; i < len(words) && len(n.children) > 0; i++ {
		next, err := n.child(words[i], mode)
		if errors.Is(err, errUnrecognized) && n.cmd != nil {
			break // an argument
		}
		if err != nil {
			return nil, nil, err
		}
		n = next
	}
	args := words[i:]
	switch {
	case n.cmd == nil || n.cmd.mode > mode:
		return nil, nil, errIncomplete
	case len(args) < n.cmd.args || n.cmd.args < 0 && len(args) == 0:
		return nil, nil, errIncomplete
	case n.cmd.args >= 0 && len(args) > n.cmd.args:
		return nil, nil, errUnrecognized
	}
	return n.cmd, args, nil
}

// simple is a command without arguments.
func simple(path string, mode osmMode, help string, run func(ctx context.Context, c *osmCLI)) osmCommand {
	return osmCommand{path: path, mode: mode, help: help, run: func(ctx context.Context, c *osmCLI, _ []string) { run(ctx, c) }}
}

// report is a command that prints something about the device.
func report(path string, mode osmMode, help string, text func(c *osmCLI) string) osmCommand {
	return simple(path, mode, help, func(ctx context.Context, c *osmCLI) { c.show(ctx, text(c)) })
}

func osmCommandList() []osmCommand {
	configure := func(ctx context.Context, c *osmCLI) { c.enterConfig(ctx) }
	save := func(_ context.Context, c *osmCLI) { c.save() }
	return []osmCommand{
		simple("enable", osmStandard, "Enter enable mode", func(ctx context.Context, c *osmCLI) { c.enable(ctx) }),
		simple("disable", osmEnable, "Leave enable mode", func(_ context.Context, c *osmCLI) { c.leaveConfig(); c.mode = osmStandard }),
		simple("configure terminal", osmEnable, "Enter configuration mode", configure),
		simple("exit", osmStandard, "Leave this mode, or log out", func(_ context.Context, c *osmCLI) {
			if c.mode != osmConfig {
				c.left = true
				return
			}
			c.leaveConfig()
			c.mode = osmEnable
		}),
		simple("quit", osmStandard, "Log out", func(_ context.Context, c *osmCLI) { c.left = true }),
		simple("help", osmStandard, "List commands", func(_ context.Context, c *osmCLI) { c.help("") }),
		simple("cli session paging enable", osmStandard, "Show output a screen at a time", func(_ context.Context, c *osmCLI) { c.paging = true }),
		simple("no cli session paging enable", osmStandard, "Show output at once", func(_ context.Context, c *osmCLI) { c.paging = false }),
		{path: "terminal length", mode: osmStandard, args: 1, help: "Set the number of lines", run: terminalLength},
		{path: "terminal width", mode: osmStandard, args: 1, help: "Set the number of columns", run: terminalWidth},

		report("show version", osmStandard, "Software version", osmVersion),
		report("show clock", osmStandard, "Date and time", osmClock),
		report("show hosts", osmStandard, "Host name", osmHosts),
		report("show cli", osmStandard, "Settings of this session", osmSession),
		report("show files system", osmEnable, "File systems", func(c *osmCLI) string { return osmFileSystems(c.s.dev) }),
		report("show erfstream rotation-file", osmEnable, "Rotation files", func(c *osmCLI) string { return osmRotationFiles(c.s.dev) }),
		report("show packages", osmEnable, "Installed packages", func(c *osmCLI) string { return osmPackages(c.s.dev) }),
		report(captureCommand, osmEnable, "Capture", osmCapture),
		report("show raid status", osmEnable, "RAID arrays", func(c *osmCLI) string { return osmRAID(c.s.dev) }),
		report("show raid disk health", osmEnable, "Health of disks", func(c *osmCLI) string { return osmDisks(c.s.dev) }),
		report("show running-config", osmEnable, "Configuration in force", func(c *osmCLI) string { return osmRunningConfig(c.s.dev) }),

		{path: "hostname", mode: osmConfig, args: 1, help: "Set the host name", run: func(_ context.Context, c *osmCLI, args []string) {
			if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(args[0]) {
				c.t.printf("%% Invalid host name.\n")
				return
			}
			c.s.dev.configure("hostname", args[0])
		}},
		{path: "banner motd", mode: osmConfig, args: -1, help: "Set the message of the day", run: func(_ context.Context, c *osmCLI, args []string) {
			c.s.dev.configure("banner motd", strings.Join(args, " "))
		}},
		{path: "ntp server", mode: osmConfig, args: 1, help: "Set the time server", run: func(_ context.Context, c *osmCLI, args []string) {
			c.s.dev.configure("ntp server", args[0])
		}},
		simple("no ntp server", osmConfig, "Remove the time server", func(_ context.Context, c *osmCLI) { c.s.dev.configure("ntp server", "") }),
		simple("configuration write", osmConfig, "Save the configuration", save),
		simple("write memory", osmConfig, "Save the configuration", save),
		simple("maintenance-mode noconfirm", osmConfig, "Enter maintenance mode", func(_ context.Context, c *osmCLI) { c.maintenance() }),
		simple("maintenance-mode", osmConfig, "Enter maintenance mode after a question", func(ctx context.Context, c *osmCLI) {
			answer, err := c.t.ask(ctx, "This stops all capture. Enter maintenance mode? (yes/no) ", false)
			if err == nil && strings.EqualFold(answer, "yes") {
				c.maintenance()
			}
		}),
		{path: "package install", mode: osmConfig, args: 1, help: "Install an uploaded package", run: func(_ context.Context, c *osmCLI, args []string) {
			c.install(args[0])
		}},
		simple("reload", osmEnable, "Reboot", func(ctx context.Context, c *osmCLI) { c.reload(ctx, true) }),
		simple("reload noconfirm", osmEnable, "Reboot without a question", func(ctx context.Context, c *osmCLI) { c.reload(ctx, false) }),
	}
}

// terminalLength takes 5 to 999: 0, which other systems take for "no paging", is
// an error in this family.
func terminalLength(_ context.Context, c *osmCLI, args []string) {
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 5 || n > 999 {
		c.t.printf("%% Please enter an integer between 5 and 999.\n")
		return
	}
	c.length = n
}

func terminalWidth(_ context.Context, c *osmCLI, args []string) {
	n, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil || n < 34 || n > 999 {
		c.t.printf("%% Please enter an integer between 34 and 999.\n")
		return
	}
	c.s.cols.Store(int32(n))
}
