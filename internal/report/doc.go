// Package report is the operation that reads figures from devices: file systems,
// rotation files, software.
//
// It knows the rows it gives (rows.go) and nothing about any platform. Which
// command gives which column, in which mode, by which template and in which unit,
// is the platform's layout: templates/<platform>/reports.yaml, which an operator
// can replace together with the templates (layout.go). A device is authoritative
// about its figures: a unit that it prints wins over the layout's, and what it does
// not print is null, never 0.
//
// Output that a template does not match, or a figure that is none, fails the
// device's task with the line and keeps the raw text as an artifact: a wrong row is
// worse than none.
package report
