package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// ansi makes a console understand the escape sequences that progress and colours
// use, and reports whether it does; consoles of old Windows releases do not.
func ansi(f *os.File) bool {
	var mode uint32
	handle := windows.Handle(f.Fd())
	if err := windows.GetConsoleMode(handle, &mode); err != nil {
		return false
	}
	return windows.SetConsoleMode(handle, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
