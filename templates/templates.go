// Package templates holds the TextFSM templates and report layouts of the
// platforms, built into the program. README.md says how they are written, tested
// and overridden.
//
// A device is authoritative about what it prints: a template follows a sample, and
// a sample says in origin.txt whether a device was seen to print it.
package templates

import "embed"

// FS is the tree: <platform>/<template>.textfsm, <platform>/reports.yaml, and
// <platform>/samples/<template>/<case>/{raw.txt,want.json,origin.txt}.
//
//go:embed */*.textfsm */reports.yaml */samples
var FS embed.FS
