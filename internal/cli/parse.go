package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
	"capfleet/internal/parse"
)

// maxTemplate bounds a template file; real ones have a few KiB.
const maxTemplate = 1 << 20

type parseOptions struct {
	outputFlags
	template string
	lint     bool
}

func (a *app) parseCommand() *cobra.Command {
	var opts parseOptions
	cmd := &cobra.Command{
		Use:   "parse --template TEMPLATE [FILE]",
		Short: "run a TextFSM template on a file or stdin",
		Long: `Runs a TextFSM template on a file, or on stdin, and prints the rows. It needs no
fleetd. TEMPLATE is a file, or the name of a built-in template such as
endace_osm/filesystem.

With --lint templates are checked instead: the one of --template and those named
as arguments; with neither, every built-in one. An error keeps a template from
being used; a warning does not.

JSON: one object with rows. Keys of a row: the template's Value names in lower
case; a List value is an array. Keys of a finding of --lint: template, line,
severity, message, fix.

` + csvHelp + `

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl parse --template my.textfsm show-files-system.txt
  ssh probe 'show files system' | fleetctl parse --template my.textfsm -o json
  fleetctl parse --lint my.textfsm`,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	opts.register(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&opts.template, "template", "t", "", "template `file`, or name of a built-in template")
	fl.BoolVar(&opts.lint, "lint", false, "check templates instead of running one")
	_ = cmd.RegisterFlagCompletionFunc("template", completeTemplates)
	cmd.RunE = a.local(func(ctx context.Context, args []string) error {
		if _, err := opts.format(); err != nil {
			return err
		}
		if opts.lint {
			return a.lintTemplates(&opts, args)
		}
		return a.parseText(ctx, &opts, args)
	})
	return cmd
}

func (a *app) parseText(ctx context.Context, opts *parseOptions, args []string) error {
	switch {
	case opts.template == "":
		return &fault.Error{Kind: fault.Invalid, Act: "no template was named", Next: "use --template FILE"}
	case len(args) > 1:
		return fault.New(fault.Invalid, "parse reads one file, %d were named", len(args))
	}
	src, err := readTemplate(opts.template)
	if err != nil {
		return err
	}
	t, err := parse.Compile(opts.template, src)
	if err != nil {
		return err
	}
	in := a.streams.In
	if len(args) == 1 && args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return fault.Wrap(fault.Invalid, "read the text", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	} else if a.streams.InTerminal {
		a.remark("reading the text from the terminal; end it with Ctrl-D")
	}
	records, err := t.Parse(ctx, in)
	if err != nil {
		return err
	}
	values := t.Values()
	keys := make([]string, len(values))
	for i, v := range values {
		keys[i] = v.Key
	}
	rows := make([]json.RawMessage, len(records))
	for i, rec := range records {
		if rows[i], err = orderedRow(keys, rec); err != nil {
			return err
		}
	}
	return a.print(&opts.outputFlags, answer{view: viewOfNames(keys), rows: rows, doc: rowsDocument{rows}, empty: "the template makes no row of this text"})
}

// orderedRow gives a row as JSON with its keys in the template's order.
func orderedRow(keys []string, row parse.Row) (json.RawMessage, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, key := range keys {
		name, err := json.Marshal(key)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "print the rows", err)
		}
		value, err := json.Marshal(row[key])
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "print the rows", err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// lintTemplates checks templates; one with an error fails the command.
func (a *app) lintTemplates(opts *parseOptions, names []string) error {
	if opts.template != "" {
		names = append([]string{opts.template}, names...)
	}
	if len(names) == 0 {
		builtIn, err := parse.NewLibrary("").Names()
		if err != nil {
			return err
		}
		names = builtIn
	}
	findings := []parse.Finding{}
	bad := false
	for _, name := range names {
		src, err := readTemplate(name)
		if err != nil {
			return err
		}
		for _, f := range parse.Lint(name, src) {
			findings = append(findings, f)
			bad = bad || f.Severity == parse.Error
		}
	}
	if err := list(a, &opts.outputFlags, findingView(), findings); err != nil {
		return err
	}
	if bad {
		return status(fault.ExitFailed)
	}
	a.remark("%s checked, no errors", count(len(names), "template"))
	return nil
}

func findingView() output.View {
	return output.View{Table: []output.Column{
		{Key: "template", Head: "TEMPLATE"},
		{Key: "line", Head: "LINE", Kind: output.Number},
		{Key: "severity", Head: "SEVERITY", Kind: output.State},
		{Key: "message", Head: "MESSAGE"},
		{Key: "fix", Head: "FIX"},
	}}
}

// readTemplate reads a template file; where there is none of that name it takes
// the built-in template.
func readTemplate(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err == nil {
		defer func() { _ = file.Close() }()
		src, err := io.ReadAll(io.LimitReader(file, maxTemplate+1))
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "read template", err)
		}
		if len(src) > maxTemplate {
			return nil, fault.New(fault.Invalid, "template %s is larger than %d bytes", name, maxTemplate)
		}
		return src, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Invalid, "read template", err)
	}
	library := parse.NewLibrary("")
	if src, err := library.ReadFile(strings.TrimSuffix(name, parse.Extension) + parse.Extension); err == nil {
		return src, nil
	}
	return nil, &fault.Error{Kind: fault.NotFound, Act: "no file and no built-in template is called " + name,
		Next: "the built-in ones are " + builtInTemplates()}
}

// builtInTemplates names the built-in templates for a message.
func builtInTemplates() string {
	names, err := parse.NewLibrary("").Names()
	if err != nil {
		return "not readable: " + err.Error()
	}
	return strings.Join(names, ", ")
}

// completeTemplates completes names of built-in templates; files are the shell's.
func completeTemplates(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, err := parse.NewLibrary("").Names()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return names, cobra.ShellCompDirectiveDefault
}
