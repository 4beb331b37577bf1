package cli

import (
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/term"
)

// ProcessStreams gives the streams and the environment of this process.
func ProcessStreams() Streams {
	terminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) && ansi(f) }
	return Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		OutTerminal: terminal(os.Stdout),
		ErrTerminal: terminal(os.Stderr),
		Width:       terminalWidth,
		Getenv:      os.Getenv,
		Now:         time.Now,
		Edit:        runEditor,
	}
}

func terminalWidth() int {
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return 0
}

// ReadBuild says which build this is: the version that the linker was given, or
// else what the Go tool wrote into the program.
func ReadBuild(version string) Build {
	b := Build{Version: version}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value
		}
	}
	return b
}
