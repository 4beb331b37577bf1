package sshconn_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/device/sshconn"
)

func TestQuote(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{""}, "''"},
		{[]string{"df", "-P", "/shared"}, "df -P /shared"},
		{[]string{"FOO=1", "x"}, "'FOO=1' x"},
		{[]string{"if"}, "'if'"},
		{[]string{"it's"}, `'it'\''s'`},
		{[]string{"$(reboot)", "../../etc/x"}, "'$(reboot)' ../../etc/x"},
		{[]string{"~root", "%1", "a*"}, "'~root' '%1' 'a*'"},
	}
	for _, tt := range tests {
		if got := sshconn.Quote(tt.args); got != tt.want {
			t.Errorf("Quote(%q) = %s, want %s", tt.args, got, tt.want)
		}
	}
}

// FuzzQuote holds Quote against real shells: what a shell makes of the line are
// the arguments again. The first argument stands where a command's name does.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"a", "", "a\x01b\x01c", "'\x01\"\x01`id`\x01$(id)", "\n\x01\\\n\x01\\", "FOO=bar\x01x", "if\x01then", "-n\x01--", "é\xff\xfe", "!\x01{\x01}", "time\x01a"} {
		f.Add(seed)
	}
	shells := []string{"/bin/sh", "/bin/bash"}
	f.Fuzz(func(t *testing.T, joined string) {
		if strings.ContainsRune(joined, 0) {
			return
		}
		args := strings.Split(joined, "\x01")
		line := sshconn.Quote(args)
		for _, sh := range shells {
			out, err := exec.Command(sh, "-c", `printf '%s\0' `+line).Output()
			if err != nil {
				t.Fatalf("%s: %v: %s", sh, err, line)
			}
			if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, args) {
				t.Fatalf("%s made %q of %q (%s)", sh, got, args, line)
			}
		}
		// As a command's name: a function of that name cannot be made for every
		// string, but a name that is no command fails as one, and runs nothing else.
		if args[0] == "" || strings.Contains(args[0], "/") {
			return
		}
		cmd := exec.Command("/bin/sh", "-c", line)
		cmd.Env = []string{"PATH=/nonexistent"}
		cmd.Dir = t.TempDir()
		if out, err := cmd.Output(); err == nil && !builtin(args[0]) {
			t.Fatalf("%q ran as a command: %q", line, out)
		}
	})
}

// builtin commands of a shell do run.
func builtin(name string) bool {
	return exec.Command("/bin/sh", "-c", `type "$1" | grep -q builtin`, "sh", name).Run() == nil
}
