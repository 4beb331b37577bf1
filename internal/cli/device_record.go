package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// recording is a row of the operations "command" and "report" when they record.
type recording struct {
	Device      string    `json:"device"`
	Platform    string    `json:"platform"`
	Report      string    `json:"report"`
	Command     string    `json:"command"`
	Mode        string    `json:"mode"`
	Template    string    `json:"template"`
	Refused     bool      `json:"refused"`
	Transcript  string    `json:"transcript"`
	Blanked     []blanked `json:"blanked"`
	CollectedAt time.Time `json:"collected_at"`
}

type blanked struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
	As    string `json:"as"`
}

type recordOptions struct {
	outputFlags
	report   string
	mode     string
	timeout  time.Duration
	blank    []string
	samples  string
	caseName string
	fix      bool
	template string
}

func (a *app) deviceRecordCommand() *cobra.Command {
	var opts recordOptions
	cmd := &cobra.Command{
		Use:   "record DEVICE {-- COMMAND | --report REPORT [--fix]}",
		Short: "record what a device prints, cleaned; mend a template",
		Long: `Runs a read-only command, or the commands of a report, on a device and prints
what it answered, with the prompt: what a template is written for. Names of
hosts and users, addresses, serial numbers and secrets are blanked in a way
that keeps the layout, and what was blanked is told by kind. No program knows
what is private in your house: name more with --blank, and read the text before
you pass it on.

With --samples DIR the text is saved as a sample, in the layout of the built-in
ones: DIR/<platform>/samples/<template>/<case>/raw.txt and origin.txt.

With --fix and a report that a template does not match, you are led to a
working override: you are shown the first line that is not known and the rule
that stopped there, correct a copy of the template in your editor ($VISUAL,
$EDITOR), see the next such line or the rows each time you save, and put the
copy into force on fleetd with the text as its sample. Then the report is run
to prove it. Where no terminal is at hand, --template FILE takes your corrected
copy instead.

` + jsonHelp("job, rows, failures and warnings", "row", "device, platform, report, command, mode, template, refused, transcript,\nblanked (kind, count, as), collected_at; report, template and refused only\nwith --report") + `

` + workExits(),
		Example: `  fleetctl device record lon-probe-01 -- show files system
  fleetctl device record lon-probe-01 --report filesystem --samples .
  fleetctl device record lon-probe-01 --report filesystem --fix
  fleetctl device record lon-probe-01 --report filesystem --fix --template copy.textfsm`,
		ValidArgsFunction: a.completeDevices,
	}
	opts.outputFlags.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&opts.report, "report", "", "run the commands of this `report`: "+strings.Join(reportNames(), ", "))
	fl.StringVar(&opts.mode, "mode", "", "run the command in this `mode` of the platform's command line (default: its working mode)")
	fl.DurationVar(&opts.timeout, "timeout", 0, "`time` that the command may take (default: the device's own command timeout)")
	fl.StringArrayVar(&opts.blank, "blank", nil, "blank this `word` too; may be given several times")
	fl.StringVar(&opts.samples, "samples", "", "save the text as a sample under this `directory`")
	fl.StringVar(&opts.caseName, "case", "", "`name` of the sample (default: recorded_ and the date)")
	fl.BoolVar(&opts.fix, "fix", false, "with --report, lead to a template that matches")
	fl.StringVarP(&opts.template, "template", "t", "", "with --fix, take this `file` as the corrected template and ask nothing")
	_ = cmd.RegisterFlagCompletionFunc("report", cobra.FixedCompletions(reportNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		var line []string
		if dash := cmd.ArgsLenAtDash(); dash >= 0 {
			args, line = args[:dash], args[dash:]
		}
		if err := opts.check(args, line); err != nil {
			return err
		}
		if opts.fix {
			return a.fixReport(ctx, f, &opts, args[0])
		}
		return a.record(ctx, f, &opts, args[0], strings.Join(line, " "))
	})
	return cmd
}

func reportNames() []string { return []string{"filesystem", "rotation-file", "software"} }

var validCase = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

func (o *recordOptions) check(names, line []string) error {
	if _, err := o.format(); err != nil {
		return err
	}
	wrong := func(what, next string) error { return &fault.Error{Kind: fault.Invalid, Act: what, Next: next} }
	switch {
	case len(names) != 1:
		return wrong("one device is recorded at a time", "name it: fleetctl device record DEVICE -- COMMAND")
	case strings.ContainsAny(names[0], "*?["):
		return wrong("one device is recorded at a time, and "+names[0]+" may stand for several", "see fleetctl device list")
	case o.report == "" && len(line) == 0:
		return wrong("nothing to record was named", "write a command after --, or use --report")
	case o.report != "" && len(line) > 0:
		return wrong("a report has commands of its own", "leave out one of --report and the command")
	case o.report != "" && (o.mode != "" || o.timeout != 0):
		return wrong("a report says itself in which mode its commands are run, and for how long", "leave out --mode and --timeout")
	case o.timeout < 0:
		return wrong("--timeout must not be negative", "")
	case o.fix && o.report == "":
		return wrong("--fix mends the template of a report", "add --report")
	case o.fix && o.samples != "":
		return wrong("--fix saves the sample with the override", "leave out --samples")
	case o.template != "" && !o.fix:
		return wrong("--template is for --fix", "to parse a command's output, use fleetctl command run --template")
	case o.caseName != "" && !validCase.MatchString(o.caseName):
		return wrong(fmt.Sprintf("%q is no name of a sample", o.caseName), "use letters, digits, _ and -")
	}
	return nil
}

// record runs what is to be recorded and prints it.
func (a *app) record(ctx context.Context, f fleet, opts *recordOptions, device, line string) error {
	operation, spec := "command", any(commandSpec{Command: line, Mode: opts.mode, TimeoutSeconds: opts.timeout.Seconds(), Record: true, Blank: opts.blank})
	if opts.report != "" {
		operation, spec = "report", reportSpec{Report: opts.report, Record: true, Blank: opts.blank}
	}
	job, err := a.start(ctx, f, operation, spec, api.Selection{Names: []string{device}})
	if err != nil {
		return err
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		return a.detached(ctx, job, err)
	}
	recorded, err := recordings(res)
	if err != nil {
		return err
	}
	if opts.samples == "" || opts.file != "" {
		if err := a.printResults(&opts.outputFlags, res); err != nil {
			return err
		}
	}
	if opts.samples != "" {
		if err := a.saveSamples(opts, recorded); err != nil {
			return err
		}
	}
	a.tellBlanked(recorded)
	a.reportFailures(res)
	return statusOf(jobCode(res.Job))
}

func recordings(res api.Results) ([]recording, error) {
	out := make([]recording, len(res.Rows))
	for i, raw := range res.Rows {
		if err := json.Unmarshal(raw, &out[i]); err != nil {
			return nil, fault.Wrap(fault.Internal, "read the recording", err)
		}
	}
	return out, nil
}

// tellBlanked says what is not as the device printed it.
func (a *app) tellBlanked(recorded []recording) {
	if len(recorded) == 0 {
		return
	}
	var kinds []string
	total := map[string]*blanked{}
	for _, r := range recorded {
		for _, b := range r.Blanked {
			if total[b.Kind] == nil {
				kinds = append(kinds, b.Kind)
				total[b.Kind] = &blanked{As: b.As}
			}
			total[b.Kind].Count += b.Count
		}
	}
	parts := make([]string, len(kinds))
	for i, kind := range kinds {
		parts[i] = fmt.Sprintf("%s at %s (%s)", kind, count(total[kind].Count, "place"), total[kind].As)
	}
	what := "nothing was found to blank"
	if len(parts) > 0 {
		what = "blanked: " + strings.Join(parts, ", ")
	}
	a.remark("%s", output.Wrap(what+"; read the text before you pass it on", a.screenErr().Width, "  "))
}

// saveSamples writes recordings in the layout of the built-in samples.
func (a *app) saveSamples(opts *recordOptions, recorded []recording) error {
	for _, r := range recorded {
		platform, template, ok := strings.Cut(r.Template, "/")
		if !ok {
			platform, template = r.Platform, fileName(r.Command)
		}
		dir := filepath.Join(opts.samples, fileName(platform), "samples", fileName(template), opts.sampleName(r))
		if err := os.MkdirAll(dir, 0o777); err != nil { //nolint:gosec // the umask decides
			return fault.Wrap(fault.Storage, "save the sample", err)
		}
		raw := filepath.Join(dir, "raw.txt")
		if have, err := os.ReadFile(raw); err == nil && string(have) != r.Transcript {
			return &fault.Error{Kind: fault.Conflict, Act: raw + " is another sample", Next: "give this one another --case"}
		}
		for name, text := range map[string]string{"raw.txt": r.Transcript, "origin.txt": origin(r)} {
			if err := output.WriteFile(filepath.Join(dir, name), []byte(text)); err != nil {
				return fault.Wrap(fault.Storage, "save the sample", err)
			}
		}
		a.remark("saved %s", raw)
	}
	return nil
}

func (o *recordOptions) sampleName(r recording) string {
	if o.caseName != "" {
		return o.caseName
	}
	return "recorded_" + r.CollectedAt.UTC().Format("20060102")
}

// origin says where a sample is from, as the origin.txt of a sample does.
func origin(r recording) string {
	return fmt.Sprintf("verified: recorded from a device of platform %s on %s, cleaned\n", r.Platform, r.CollectedAt.UTC().Format(time.DateOnly))
}

// fileName makes a name of a file from a command.
func fileName(text string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, text), "_")
	if name == "" {
		return "command"
	}
	return name[:min(len(name), 64)]
}

// printTranscripts prints recordings as they are; where there are several, each
// under a line with its command.
func printTranscripts(w io.Writer, recorded []recording, screen output.Screen) error {
	var b strings.Builder
	for i, r := range recorded {
		if len(recorded) > 1 {
			if i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(screen.Emphasis("==> "+output.Clean(r.Device+": "+r.Command)+" <==") + "\n")
		}
		b.WriteString(output.CleanBlock(r.Transcript))
		if !strings.HasSuffix(r.Transcript, "\n") {
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// recordingAnswer fills in how recordings are shown.
func recordingAnswer(ans *answer, res api.Results) error {
	recorded, err := recordings(res)
	if err != nil {
		return err
	}
	ans.view = output.View{Table: []output.Column{
		{Key: "device", Head: "Device"},
		{Key: "command", Head: "Command"},
		{Key: "template", Head: "Template"},
		{Key: "transcript", Head: "Transcript"},
	}}
	ans.people = func(w io.Writer, _ bool, screen output.Screen) error { return printTranscripts(w, recorded, screen) }
	return nil
}
