//go:build !windows

package cli

import "os"

// ansi reports whether a terminal understands the escape sequences that progress
// and colours use.
func ansi(*os.File) bool { return true }
