package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/parse"
)

func (a *app) commandCommand() *cobra.Command {
	cmd := a.group("command", "commands on devices")
	cmd.AddCommand(a.commandRunCommand())
	return cmd
}

// commandSpec is the spec of the operation "command".
type commandSpec struct {
	Command        string  `json:"command"`
	Mode           string  `json:"mode,omitempty"`
	Template       string  `json:"template,omitempty"` // text of the template
	TemplateName   string  `json:"template_name,omitempty"`
	Unsafe         bool    `json:"unsafe,omitempty"`
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty"`

	Record bool     `json:"record,omitempty"`
	Blank  []string `json:"blank,omitempty"`
}

// commandRow is a row of the operation "command" without a template.
type commandRow struct {
	Device string `json:"device"`
	Output string `json:"output"`
}

type commandOptions struct {
	selectionFlags
	jobFlags
	template string
	mode     string
	timeout  time.Duration
	unsafe   bool
	yes      bool
	rollout  *rolloutFlags
}

func (a *app) commandRunCommand() *cobra.Command {
	var opts commandOptions
	cmd := &cobra.Command{
		Use:   "run [DEVICE...] -- COMMAND",
		Short: "run a command on devices",
		Long: `Runs a command on the selected devices and prints what each answered, or, with
--template, the rows that a TextFSM template makes of it. The template is a file
here, or the name of a built-in one.

Commands from the platform's read-only list just run. Anything else, and
anything on linux, needs --unsafe, is asked about on a terminal (--yes
elsewhere), and is audited. It goes to all devices at once, within fleetd's
limits, unless a flag such as --canary, --wave or --window asks for a rollout.

` + rolloutHelp + `

` + selectionHelp + defaultNoneHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", "device, command, output, elapsed_seconds; with --template device and the\ntemplate's Value names in lower case, a Value called Device as device_value") + `
` + failureKeysHelp + `

` + csvHelp + `

` + waitHelp + `

` + workExits(),
		Example: `  fleetctl command run lon-probe-01 -- show version
  fleetctl command run -l platform=endace_osm --template endace_osm/filesystem -o json -- show files system
  fleetctl command run lon-ltm-01 --unsafe -- tmsh save sys config`,
		ValidArgsFunction: a.completeDevices,
	}
	opts.selectionFlags.register(a, cmd)
	opts.jobFlags.register(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&opts.template, "template", "t", "", "parse the output with this TextFSM template `file`, or built-in template")
	fl.StringVar(&opts.mode, "mode", "", "run it in this `mode` of the platform's command line (default: its working mode)")
	fl.DurationVar(&opts.timeout, "timeout", 0, "`time` that the command may take (default: the device's own command timeout)")
	fl.BoolVar(&opts.unsafe, "unsafe", false, "allow a command that is not on the platform's read-only list")
	fl.BoolVarP(&opts.yes, "yes", "y", false, "with --unsafe, do not ask")
	opts.rollout = addRolloutFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("template", completeTemplates)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		dash := cmd.ArgsLenAtDash()
		if dash < 0 || dash == len(args) {
			return &fault.Error{Kind: fault.Invalid, Act: "no command was given", Next: "write it after --, as in: fleetctl command run lon-probe-01 -- show version"}
		}
		return a.runCommand(ctx, f, &opts, args[:dash], strings.Join(args[dash:], " "))
	})
	return cmd
}

func (a *app) runCommand(ctx context.Context, f fleet, opts *commandOptions, devices []string, line string) error {
	sel, err := opts.selection(devices, noneIsError)
	if err != nil {
		return err
	}
	if _, err := opts.format(); err != nil {
		return err
	}
	if opts.timeout < 0 {
		return fault.New(fault.Invalid, "--timeout must not be negative")
	}
	rollout, err := opts.rollout.optional()
	if err != nil {
		return err
	}
	if rollout != nil && !opts.unsafe {
		return fault.New(fault.Invalid, "a command that only reads goes to all devices at once: flags of a rollout need --unsafe")
	}
	spec := commandSpec{Command: line, Mode: opts.mode, Unsafe: opts.unsafe, TimeoutSeconds: opts.timeout.Seconds()}
	if opts.template != "" {
		src, err := readTemplate(opts.template)
		if err != nil {
			return err
		}
		spec.Template, spec.TemplateName = string(src), filepath.Base(opts.template)
		if _, err := parse.Compile(spec.TemplateName, src); err != nil {
			return err
		}
	}
	if opts.unsafe && !opts.yes {
		// What the answer is about is what runs: the names, not the selection.
		if sel, err = a.confirmCommand(ctx, f, sel, line); err != nil {
			return err
		}
	}
	return a.submitRollout(ctx, f, &opts.jobFlags, "command", spec, sel, rollout)
}

// confirmCommand asks whether a command may run on what a selection stands for
// now, and gives exactly those devices.
func (a *app) confirmCommand(ctx context.Context, f fleet, sel api.Selection, line string) (api.Selection, error) {
	devices, err := f.Devices(ctx, sel)
	if err != nil {
		return sel, err
	}
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = d.Name
	}
	question := fmt.Sprintf("Run %q on %s (%s)?", line, count(len(names), "device"), strings.Join(names, ", "))
	return api.Selection{Names: names}, a.confirm(ctx, false, question)
}

// commandAnswer fills in how the result of a command is shown: its text for
// people, or with a template the template's columns.
func commandAnswer(ans *answer, res api.Results) error {
	var spec commandSpec
	if err := json.Unmarshal(res.Job.Spec, &spec); err != nil {
		return fault.Wrap(fault.Internal, "read job "+res.Job.ID, err)
	}
	switch {
	case spec.Record:
		return recordingAnswer(ans, res)
	case spec.Template != "":
		return nil
	}
	ans.view = output.View{Table: []output.Column{
		{Key: "device", Head: "Device"},
		{Key: "command", Head: "Command"},
		{Key: "output", Head: "Output"},
		{Key: "elapsed_seconds", Head: "Elapsed (s)", Kind: output.Number},
	}}
	ans.people = func(w io.Writer, _ bool, screen output.Screen) error {
		return printTexts(w, res, screen)
	}
	return nil
}

// printTexts prints what devices answered: as it is for a job on one device, and
// under a line with the device's name for more.
func printTexts(w io.Writer, res api.Results, screen output.Screen) error {
	var b strings.Builder
	for i, raw := range res.Rows {
		var row commandRow
		if err := json.Unmarshal(raw, &row); err != nil {
			return fault.Wrap(fault.Internal, "read the result", err)
		}
		if res.Job.Devices > 1 {
			if i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(screen.Emphasis("==> "+output.Clean(row.Device)+" <==") + "\n")
		}
		b.WriteString(output.CleanBlock(row.Output))
		if !strings.HasSuffix(row.Output, "\n") {
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
