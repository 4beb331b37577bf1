package output

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"strings"
)

// writeCSV writes RFC 4180 with LF line ends. A missing value is an empty cell.
func writeCSV(w io.Writer, cols []Column, rows []json.RawMessage) error {
	out := csv.NewWriter(w)
	line := make([]string, len(cols))
	for i, c := range cols {
		line[i] = noFormula(CleanBlock(c.Head)) // of a row that no view is known for, its keys
	}
	if err := out.Write(line); err != nil {
		return err
	}
	for _, raw := range rows {
		rec, err := decodeRecord(raw)
		if err != nil {
			return err
		}
		for i, c := range cols {
			text, _ := c.cell(rec, place{style: inCSV})
			if c.Kind == Text || c.Kind == List || c.Kind == State {
				text = noFormula(CleanBlock(text))
			}
			line[i] = text
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// Cell gives text of strangers as a cell of a CSV file, for the few results that are
// too long to go through rows.
func Cell(text string) string { return noFormula(CleanBlock(text)) }

// noFormula puts a single quote before text that a spreadsheet would run: a
// device that names a file system =HYPERLINK(...) must not act on the desk of
// whoever opens the file. Numbers never come here.
func noFormula(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r\n", rune(text[0])) {
		return "'" + text
	}
	return text
}
