// Command fleetd is the service that keeps the jobs of a fleet of packet-capture
// appliances and does their work. fleetctl is how people talk to it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"
	_ "time/tzdata" // sites have time zones; a bare host has no zone database

	"capfleet/internal/config"
	"capfleet/internal/daemon"
	"capfleet/internal/fault"
)

// version is set by the linker for releases.
var version string

func main() {
	tuneCollector()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal stops in order; from then on a second one ends the process at
	// once.
	context.AfterFunc(ctx, stop)

	// Before anything else: a hangup ends a process that does not ask for it.
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	asked, err := parse(args, stdout)
	if asked.said {
		return fault.ExitDone
	}
	if err != nil {
		return failed(stderr, err)
	}
	opts := options(asked.settings, stderr)
	opts.Reload = reload
	opts.Notify = serviceManager()
	if asked.check {
		return check(ctx, opts, stdout, stderr)
	}
	if asked.restore != "" {
		return restore(ctx, opts, asked.restore, stdout, stderr)
	}
	d, err := daemon.New(ctx, opts)
	if err != nil {
		return failed(stderr, err)
	}
	if err := d.Run(ctx); err != nil {
		opts.Logger.Error("fleetd failed", "err", err)
		return fault.KindOf(err).ExitCode()
	}
	return fault.ExitDone
}

func failed(stderr io.Writer, err error) int {
	_, _ = fmt.Fprintf(stderr, "fleetd: %v\n", err)
	return fault.KindOf(err).ExitCode()
}

// serviceManager takes what systemd has left in the environment out of it, so that
// no program that fleetd starts speaks for fleetd.
func serviceManager() daemon.Notify {
	n := daemon.Notify{Socket: os.Getenv("NOTIFY_SOCKET")}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.Watchdog = time.Duration(usec) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // fails for names with = alone
	}
	return n
}

// check reads what a start would read and says what is wrong with it.
func check(ctx context.Context, opts daemon.Options, stdout, stderr io.Writer) int {
	checked, err := daemon.Check(ctx, opts)
	for _, w := range checked.Warnings {
		_, _ = fmt.Fprintf(stderr, "fleetd: warning: %s\n", w)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "fleetd: %v\n", err)
		return fault.ExitUsage // whatever it is, the start would be refused for its input
	}
	_, _ = fmt.Fprintf(stdout, "fleetd could start: %v\n", checked)
	return fault.ExitDone
}

// restore puts a backup in the ledger's place and says what became of the ledger.
func restore(ctx context.Context, opts daemon.Options, from string, stdout, stderr io.Writer) int {
	replaced, err := daemon.Restore(ctx, opts, from)
	if err != nil {
		return failed(stderr, err)
	}
	_, _ = fmt.Fprintf(stdout, "restored from %s\n", from)
	if replaced != "" {
		_, _ = fmt.Fprintf(stdout, "the ledger that was there is kept as %s\n", replaced)
	}
	return fault.ExitDone
}

// commandLine is what the arguments ask for.
type commandLine struct {
	settings config.Settings
	check    bool   // --check
	restore  string // --restore
	said     bool   // help or the version was asked for and has been printed
}

func parse(args []string, stdout io.Writer) (asked commandLine, err error) {
	fs := flag.NewFlagSet("fleetd", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors come back; help is ours
	req := config.Request{System: config.Here(), Flags: map[string]string{}}
	fs.StringVar(&req.File, "config", "", "")
	showVersion := fs.Bool("version", false, "")
	fs.BoolVar(&asked.check, "check", false, "")
	fs.Func("restore", "", func(v string) error {
		if v == "" {
			return errors.New("it is empty")
		}
		asked.restore = v
		return nil
	})
	for _, setting := range config.All() {
		fs.Func(setting.Flag, setting.Help, func(v string) error {
			req.Flags[setting.Flag] = v
			return nil
		})
	}
	err = fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		help(stdout)
		return commandLine{said: true}, nil
	case err != nil:
		return asked, &fault.Error{Kind: fault.Invalid, Act: "read the command line", Err: err, Next: "see fleetd --help"}
	case fs.NArg() > 0:
		return asked, &fault.Error{Kind: fault.Invalid, Act: fmt.Sprintf("argument %q is not understood", fs.Arg(0)), Next: "see fleetd --help"}
	case *showVersion:
		v, commit := daemon.Build(version)
		_, _ = fmt.Fprintf(stdout, "fleetd %s %s\n", v, commit)
		return commandLine{said: true}, nil
	}
	asked.settings, err = config.Load(req)
	return asked, err
}

func options(s config.Settings, stderr io.Writer) daemon.Options {
	handler := slog.Handler(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: s.LogLevel}))
	if s.LogFormat == "json" {
		handler = slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: s.LogLevel})
	}
	opts := daemon.Options{
		StateDir:       s.State,
		Inventory:      s.Inventory,
		Socket:         s.Socket,
		SocketGroup:    s.SocketGroup,
		MetricsAddress: s.MetricsAddress,
		Overrides:      s.Overrides,
		Logger:         slog.New(handler),
		Version:        version,
		Notifications:  s.Notifications,
	}
	opts.Upkeep = daemon.Upkeep{BackupDir: s.Backup.Dir, BackupEvery: s.Backup.Interval, BackupKeep: s.Backup.Keep,
		AuditAge: s.Retention.AuditAge, HistoryAge: s.Retention.HistoryAge, MinFree: s.MinFree}
	opts.Upkeep.Jobs.Age, opts.Upkeep.Jobs.Jobs, opts.Upkeep.Jobs.Bytes = s.Retention.Age, s.Retention.Jobs, s.Retention.Bytes
	opts.Upkeep.ArtifactQuota = s.Retention.ArtifactQuota
	opts.Upkeep.Artifacts.Age, opts.Upkeep.Artifacts.Bytes = s.Retention.ArtifactAge, s.Retention.ArtifactBytes
	opts.Limits.Global, opts.Limits.PerSite, opts.Limits.PerDevice = s.Limits.Global, s.Limits.PerSite, s.Limits.PerDevice
	return opts
}

func help(w io.Writer) {
	_, _ = fmt.Fprint(w, `fleetd keeps the jobs of a fleet of packet-capture appliances and does their work.

Usage: fleetd [flags]

`)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(flag, env, text string) { _, _ = fmt.Fprintf(t, "  --%s\t%s\t%s\n", flag, env, text) }
	row("config FILE", config.ConfigEnv, "configuration file; flags and environment win over it")
	defaults, err := config.Load(config.Request{System: config.Here()})
	for _, s := range config.All() {
		text := s.Help
		if value := s.Show(defaults); err == nil && value != "" {
			text += " (" + value + ")"
		}
		row(s.Flag, s.Env, text)
	}
	row("check", "", "read configuration, inventory, platforms and templates, say what is wrong, and end")
	row("restore FILE", "", "check a backup, put it in the place of the ledger, and end")
	row("version", "", "print the version")
	row("help", "", "print this")
	_ = t.Flush()
	_, _ = fmt.Fprintf(w, `
SIGTERM and Ctrl-C stop it in order: work that is cut short goes on at the next start.
SIGHUP reads the inventory again; one with a mistake is refused and the old one stays.

Exit codes: %d stopped as asked, %d failed, %d wrong usage or input.
`, fault.ExitDone, fault.ExitFailed, fault.ExitUsage)
}
