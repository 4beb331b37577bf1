// Package parse runs TextFSM templates: text that a device printed goes in, rows
// come out.
//
// Python's TextFSM is authoritative about the language and about what a template
// yields; a differential test holds this package to it. gotextfsm reads values,
// rules and actions and compiles them. Three things are ours, because left alone
// they go wrong without an error:
//
//   - What goes in. The source is read line by line as Python reads it (source.go)
//     and each expression is rewritten from Python's dialect into RE2's
//     (pyregex.go): {,n}, Unicode classes, \Z, the anchor that Python puts before a
//     whole alternation. What RE2 cannot do is refused with the line and with what
//     to write instead, and so is what Python refuses and gotextfsm lets through.
//   - The machine that runs the compiled rules (machine.go). gotextfsm's own keeps
//     its state in the compiled template (two goroutines crash it, a second parse
//     inherits values), cannot tell a group that matched nothing from one that did
//     not match, drops rows whose values are all empty, and is quadratic in Fillup.
//   - Lines (lines.go): any length up to MaxLine, split where Python splits them,
//     under a context.
//
// A Template is immutable and safe for concurrent use. The text is hostile: time
// is linear in its size, whatever it holds, and nothing panics on it.
package parse
