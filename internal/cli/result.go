package cli

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// outputFlags are the flags of every command that prints a result.
type outputFlags struct {
	name string // of the format
	file string
}

func (o *outputFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&o.name, "output", "o", string(output.Table), "output `format`: "+output.FormatNames())
	fl.StringVar(&o.file, "write", "", "write the result to `file` instead of stdout; it is complete or not there")
	formats := output.Formats()
	names := make([]string, 0, len(formats))
	for _, f := range formats {
		names = append(names, string(f))
	}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

// format gives the chosen format. Commands ask before they start anything.
func (o *outputFlags) format() (output.Format, error) {
	f, err := output.ParseFormat(o.name)
	return f, fault.Wrap(fault.Invalid, "read --output", err)
}

// answer is a result to print.
type answer struct {
	view output.View
	rows []json.RawMessage
	// lines, when set, takes the place of the rows in tables and CSV: what people
	// want to see is not always a key of the row.
	lines []json.RawMessage
	// makeLines makes lines where they are needed.
	makeLines func() ([]json.RawMessage, error)
	// doc is the whole answer for json and yaml.
	doc any
	// people, when set, takes the place of the table.
	people peopleFunc
	// csv, when set, writes the CSV file: of results with very many rows.
	csv func(w io.Writer) error
	// empty is said to people in place of a table without rows.
	empty string
}

// peopleFunc prints an answer for people where a table would not do.
type peopleFunc func(w io.Writer, wide bool, screen output.Screen) error

// print prints an answer in the format that the flags say, to where they say.
func (a *app) print(o *outputFlags, ans answer) error {
	format, err := o.format()
	if err != nil {
		return err
	}
	write := func(w io.Writer, screen output.Screen) error {
		if ans.people != nil && format.ForPeople() {
			return ans.people(w, format == output.Wide, screen)
		}
		if ans.csv != nil && format == output.CSV {
			return ans.csv(w)
		}
		if len(ans.rows) == 0 && format.ForPeople() {
			if ans.empty != "" {
				a.remark("%s", ans.empty)
			}
			return nil // headings over nothing tell nobody anything
		}
		rows := ans.rows
		if ans.makeLines != nil && format.Columns() {
			if ans.lines, err = ans.makeLines(); err != nil {
				return err
			}
		}
		if ans.lines != nil && format.Columns() {
			rows = ans.lines
		}
		return output.Write(w, format, ans.view, rows, ans.doc, screen)
	}
	if o.file == "" {
		return fault.Wrap(fault.Internal, "print the result", write(a.streams.Out, a.screen()))
	}
	var b bytes.Buffer
	if err := write(&b, output.Screen{}); err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	if err := output.WriteFile(o.file, b.Bytes()); err != nil {
		return &fault.Error{Kind: fault.Storage, Act: "write the result", Err: err, Next: "the job keeps it: fleetctl job list"}
	}
	a.remark("wrote %s", o.file)
	return nil
}

// rowsDocument is the JSON of a read command without devices to fail.
type rowsDocument struct {
	Rows []json.RawMessage `json:"rows"`
}

// list prints values as rows.
func list[T any](a *app, o *outputFlags, view output.View, values []T) error {
	rows, err := output.Rows(values)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	return a.print(o, answer{view: view, rows: rows, doc: rowsDocument{rows}})
}
