package output

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Format is one of the forms a result can be printed in.
type Format string

// The formats.
const (
	Table Format = "table" // people; shortened to fit a terminal
	Wide  Format = "wide"  // people; every column, nothing shortened
	JSON  Format = "json"  // one object
	JSONL Format = "jsonl" // a row a line
	CSV   Format = "csv"
	YAML  Format = "yaml" // the object of JSON
)

// Formats lists every format, in the order in which help names them.
func Formats() []Format { return []Format{Table, Wide, JSON, JSONL, CSV, YAML} }

// ParseFormat gives the format of that name.
func ParseFormat(name string) (Format, error) {
	if slices.Contains(Formats(), Format(name)) {
		return Format(name), nil
	}
	return "", fmt.Errorf("unknown output format %q: use %s", name, FormatNames())
}

// FormatNames lists the names for help and errors.
func FormatNames() string {
	formats := Formats()
	names := make([]string, 0, len(formats))
	for _, f := range formats {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// ForPeople reports whether the format is a table.
func (f Format) ForPeople() bool { return f == Table || f == Wide }

// Columns reports whether the format shows a view's columns and not whole rows.
func (f Format) Columns() bool { return f.ForPeople() || f == CSV }

// Rows turns values into rows.
func Rows[T any](values []T) ([]json.RawMessage, error) {
	rows := make([]json.RawMessage, len(values))
	for i, v := range values {
		raw, err := marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode result row: %w", err)
		}
		rows[i] = raw
	}
	return rows, nil
}

// Write prints rows in the given format: the view for tables and CSV, the rows
// alone for JSONL, and doc, the whole answer, for JSON and YAML.
func Write(w io.Writer, f Format, view View, rows []json.RawMessage, doc any, screen Screen) error {
	switch f {
	case Table, Wide:
		return writeTable(w, view.tableColumns(f == Wide), rows, f == Wide, screen)
	case JSON:
		return writeJSON(w, doc)
	case JSONL:
		return writeJSONL(w, rows)
	case CSV:
		return writeCSV(w, view.csvColumns(), rows)
	case YAML:
		return writeYAML(w, doc)
	default:
		return fmt.Errorf("unknown output format %q", string(f))
	}
}
