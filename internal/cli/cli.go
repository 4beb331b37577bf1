// Package cli is fleetctl: its commands, its output formats and its progress,
// thin over the API client. fleetd is authoritative for everything about devices
// and jobs; nothing is kept here between two calls.
//
// The rules of the package:
//
//   - Results go to Streams.Out, everything else to Streams.Err, so that a pipe
//     carries results alone. Every read command has JSON.
//   - Streams are injected and only main ends the process: a command gives an
//     error, and its kind is the exit code (exit.go).
//   - One file holds one command: constructor, options, flags, run. What several
//     share (selection, waiting, views) is embedded by them.
//   - Text that came from a device is printed through package output only, which
//     lets no control character through.
package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api/client"
	"capfleet/internal/cli/output"
	"capfleet/internal/config"
	"capfleet/internal/fault"
)

// Streams is what the commands see of the process around them.
type Streams struct {
	In  io.Reader
	Out io.Writer // results
	Err io.Writer // everything else

	// InTerminal, OutTerminal and ErrTerminal say which of them a person sits at.
	InTerminal, OutTerminal, ErrTerminal bool
	// Width gives the terminal's columns; 0 when there is none. It may change
	// between calls.
	Width func() int
	// Getenv reads the environment.
	Getenv func(string) string
	Now    func() time.Time
	// Edit lets the person at the terminal edit a file, with the command of an
	// editor; nil where that cannot be.
	Edit func(ctx context.Context, editor, file string) error
}

// Build says which fleetctl this is.
type Build struct {
	Version string
	Commit  string
}

// Run runs one command line, without the program's name, and gives the exit
// code. When ctx ends the command stops: work that was started goes on in
// fleetd, and the code is 130.
func Run(ctx context.Context, args []string, streams Streams, build Build) int {
	return run(ctx, args, streams, build, func(server string) (fleet, error) { return client.New(server) })
}

func run(ctx context.Context, args []string, streams Streams, build Build, connect connector) int {
	a := &app{streams: streams, build: build, connect: connect, noted: map[string]bool{}}
	root := a.root() //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.running && !fault.Is(err, fault.Invalid) {
		// Cobra refused the command line before any command of ours ran.
		err = &fault.Error{Kind: fault.Invalid, Err: err, Next: "see " + cmd.CommandPath() + " --help"}
	}
	code := exitCode(ctx, err)
	if text := errorText(ctx, err); text != "" {
		for line := range strings.Lines("fleetctl: " + text) {
			a.say("%s", output.Wrap(output.Clean(strings.TrimSuffix(line, "\n")), a.screenErr().Width, "  "))
		}
	}
	return code
}

// connector gives the client of a server. It does not connect yet.
type connector func(server string) (fleet, error)

// app is one run of fleetctl.
type app struct {
	streams Streams
	build   Build
	connect connector
	global  struct {
		server  string
		context string
		noColor bool
		quiet   bool
	}
	// running is set once a command of ours has the command line; an error before
	// that is wrong usage.
	running bool
	// terse is set by a command that tells its own story: no line for each event.
	terse bool
	// typed reads what is answered to questions; nil before the first one.
	typed *bufio.Reader
	// noted is what fleetd warned of and was passed on already.
	noted map[string]bool
}

// helpWidth is what every help text fits in: the terminal that is always there.
const helpWidth = 80

func (a *app) root() *cobra.Command {
	root := a.group("fleetctl", "work with a fleet of packet-capture appliances")
	root.Long = `fleetctl talks to fleetd, which works with a fleet of packet-capture appliances:
Endace probes, F5 BIG-IPs and Linux capture hosts.

Nothing at hand yet? "fleetctl demo" shows everything on a simulated fleet.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitSomeFailed, fault.ExitUsage, fault.ExitUnavailable, fault.ExitFound, fault.ExitInterrupted) + `
When several apply: 130, 4, 5, 1, 6, 3.`
	root.PersistentPreRunE = a.chooseOutput
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(a.streams.In)
	root.SetOut(a.streams.Out)
	root.SetErr(a.streams.Err)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", helpWidth)))

	fl := root.PersistentFlags()
	fl.StringVar(&a.global.server, "server", "", "fleetd's Unix `socket`, or ssh://user@host[:port][/socket] for one elsewhere (environment FLEET_SERVER; default "+a.defaultServerForHelp()+")")
	fl.StringVar(&a.global.context, "context", "", "`name` of a fleetd (environment FLEET_CONTEXT; see \"fleetctl context\")")
	fl.BoolVar(&a.global.noColor, "no-color", false, "no colours (environment NO_COLOR)")
	fl.BoolVarP(&a.global.quiet, "quiet", "q", false, "no progress and no remarks, only results and errors")
	_ = root.RegisterFlagCompletionFunc("context", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completeContexts(cmd, nil, typed)
	})
	_ = root.RegisterFlagCompletionFunc("server", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))

	root.AddCommand(
		a.reportCommand(),
		a.hotfixCommand(),
		a.selCommand(),
		a.commandCommand(),
		a.captureCommand(),
		a.traceCommand(),
		a.extcapCommand(),
		a.jobCommand(),
		a.scheduleCommand(),
		a.notifyCommand(),
		a.auditCommand(),
		a.deviceCommand(),
		a.artifactCommand(),
		a.doctorCommand(),
		a.parseCommand(),
		a.pcapCommand(),
		a.simCommand(),
		a.demoCommand(),
		a.contextCommand(),
		a.versionCommand(),
		a.completionCommand(root),
		a.proxyCommand(),
	)
	return root
}

// fleet connects to the fleetd that is meant.
func (a *app) fleet() (fleet, error) {
	server, err := a.server()
	if err != nil {
		return nil, err
	}
	return a.connect(server)
}

func (a *app) defaultServerForHelp() string {
	socket, err := config.DefaultSocket()
	if err != nil {
		return "none on this machine"
	}
	return socket
}

// say prints a line for people. Arguments may hold device text.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintln(a.streams.Err, output.CleanBlock(fmt.Sprintf(format, args...)))
}

// remark is say, silent with --quiet.
func (a *app) remark(format string, args ...any) {
	if !a.global.quiet {
		a.say(format, args...)
	}
}

// note passes on what fleetd warns of about a job, once.
func (a *app) note(job, text string) {
	if key := job + "\x00" + text; !a.noted[key] {
		a.noted[key] = true
		a.remark("%s", output.Wrap("note: "+text, a.screenErr().Width, "      "))
	}
}

// color reports whether colours may go to a stream that is a terminal or not.
func (a *app) color(terminal bool) bool {
	return terminal && !a.global.noColor && a.streams.Getenv("NO_COLOR") == "" && a.streams.Getenv("TERM") != "dumb"
}

// screen describes the terminal at Out for tables.
func (a *app) screen() output.Screen {
	s := output.Screen{Terminal: a.streams.OutTerminal, Color: a.color(a.streams.OutTerminal), ASCII: a.ascii(), Now: a.streams.Now()}
	if s.Terminal {
		s.Width = a.width()
	}
	return s
}

// ascii reports whether the locale has other characters than UTF-8 has, as POSIX names
// it. None at all is how containers and Windows are, whose terminals take UTF-8.
func (a *app) ascii() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(a.streams.Getenv(name)); v != "" {
			return !strings.Contains(v, "utf-8") && !strings.Contains(v, "utf8")
		}
	}
	return false
}

// width is the terminal's width, 80 where it is not known.
func (a *app) width() int {
	if w := a.streams.Width(); w > 0 {
		return w
	}
	return 80
}
