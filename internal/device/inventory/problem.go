package inventory

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"capfleet/internal/hint"
)

// maxProblems bounds how many errors of one file are told. A file with more is
// usually one mistake repeated.
const maxProblems = 50

// Problem is one thing that is wrong with an inventory, and where.
type Problem struct {
	Line   int    // from 1
	Column int    // from 1; 0 where only the line is known
	Text   string // one line, holding no secret
}

// FileError is everything that is wrong with one inventory file. It is the
// cause of the fault.Invalid that Load returns.
type FileError struct {
	Path     string
	Problems []Problem // by line and column, at most 50
	More     int       // how many further ones were left out
}

// Error gives one line for each problem, in the form path:line:column: text.
func (e *FileError) Error() string {
	var b strings.Builder
	if total := len(e.Problems) + e.More; total > 1 {
		fmt.Fprintf(&b, "%d errors", total)
	}
	for _, p := range e.Problems {
		if b.Len() > 0 {
			b.WriteString("\n  ")
		}
		fmt.Fprintf(&b, "%s:%d:", e.Path, p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, "%d:", p.Column)
		}
		b.WriteString(" " + p.Text)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", e.More)
	}
	return b.String()
}

// place is where something stands in the file.
type place struct{ line, column int }

// problems collects what is wrong.
type problems struct{ all []found }

// found is a problem whose suggestion is worked out only if it is told: over
// 10,000 names that is the dear part.
type found struct {
	Problem
	suggest func() string
}

func (p *problems) add(at place, format string, args ...any) *found {
	p.all = append(p.all, found{Problem: Problem{Line: at.line, Column: at.column, Text: fmt.Sprintf(format, args...)}})
	return &p.all[len(p.all)-1]
}

// near has the problem end in the candidate nearest to what was written.
func (f *found) near(written string, candidates iter.Seq[string]) {
	f.suggest = func() string { return hint.DidYouMean(written, candidates) }
}

// err gives what was collected as an error, or nil.
func (p *problems) err(path string) error {
	if len(p.all) == 0 {
		return nil
	}
	slices.SortStableFunc(p.all, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	all := slices.CompactFunc(p.all, func(a, b found) bool { return a.Problem == b.Problem })
	out := &FileError{Path: path, More: max(0, len(all)-maxProblems)}
	for _, f := range all[:len(all)-out.More] {
		if f.suggest != nil {
			f.Text += f.suggest()
		}
		out.Problems = append(out.Problems, f.Problem)
	}
	return out
}
