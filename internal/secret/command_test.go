package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"capfleet/internal/childtest"
	"capfleet/internal/secret"
)

// script is a command of sh. What it does is in an argument, which no error may
// repeat.
func script(t testing.TB, text string, args ...string) secret.Ref {
	t.Helper()
	return command(t, append([]string{"/bin/sh", "-c", text, "argument-zero"}, args...)...)
}

func TestCommandThatFails(t *testing.T) {
	t.Parallel()
	const hidden = "hunter2-very-secret"
	dir := t.TempDir()
	long := strings.Repeat("word ", 100)
	for name, c := range map[string]struct {
		ref   secret.Ref
		says  string
		never string
	}{
		"status":          {script(t, "exit 3"), "command /bin/sh failed: exit status 3", ""},
		"message":         {script(t, "echo first >&2; echo 'permission denied' >&2; exit 1"), "exit status 1: permission denied", "first"},
		"signal":          {script(t, "kill -9 $$"), "failed: signal: killed", ""},
		"nothing":         {script(t, "echo 'no such entry' >&2"), "command /bin/sh prints nothing: no such entry", ""},
		"blank":           {script(t, "echo"), "the secret in command /bin/sh is empty", ""},
		"too much":        {script(t, "exec cat /dev/zero"), "prints more than 1048576 bytes", ""},
		"not there":       {command(t, filepath.Join(dir, "none"), hidden), "none cannot be started: no such file or directory", hidden},
		"not in PATH":     {command(t, "no-such-program-anywhere"), "cannot be started: executable file not found in $PATH", ""},
		"no interpreter":  {command(t, executable(t, dir, "lost", "#!/no/such/interpreter\n")), "lost cannot be started: no such file or directory", ""},
		"printed before":  {script(t, "echo "+hidden+"; echo 'bad: "+hidden+"' >&2; exit 1"), "command /bin/sh failed: exit status 1", hidden},
		"printed in part": {script(t, "printf hunt; echo "+hidden+" >&2; exit 1"), "exit status 1", "hunter2"},
		"traced":          {script(t, "set -x; P="+hidden+"; exit 4"), "exit status 4", "hunter2"},
		"named":           {script(t, "echo 'bad password="+hidden+" given' >&2; exit 1"), "exit status 1: bad password=<secret> given", "hunter2"},
		"in a URL":        {script(t, "echo 'GET https://fleet:"+hidden+"@vault/v1: 403' >&2; exit 1"), "GET https://<secret>@vault/v1: 403", "hunter2"},
		"token":           {script(t, "echo 'refused hvs.CAESIJ4n1x0zQ8vWq7rT' >&2; exit 1"), "refused <secret>", "CAES"},
		"escapes":         {script(t, `printf '\033[31mred\033[0m\007\n' >&2; exit 1`), "exit status 1: [31mred[0m", "\x1b"},
		"long message":    {script(t, "echo '"+long+"' >&2; exit 1"), "...", long},
		"flood":           {script(t, "head -c 100000 /dev/zero | tr '\\0' 'p' >&2; exit 1"), "exit status 1", "ppp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := c.ref.Resolve(t.Context())
			never := []string{"argument-zero"}
			if c.never != "" {
				never = append(never, c.never)
			}
			says(t, err, c.says, never...)
		})
	}
}

// executable writes a program and gives its path.
func executable(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	childtest.Executable(t, path, strings.NewReader(content))
	return path
}

// A command gets no terminal, no input, no shell and none of our other secrets.
func TestCommandSurroundings(t *testing.T) {
	t.Setenv("FLEET_OTHER_SECRET", "not for you")
	t.Setenv("HOME", "/home/fleet")
	got, err := script(t, `env; pwd; cat; (exec </dev/tty) 2>/dev/null && echo terminal; printf '%s|' "$@"`, "", "a b", "$(id)", ";x").Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := got.Reveal()
	for _, want := range []string{"PATH=" + os.Getenv("PATH") + "\n", "HOME=/home/fleet\n", "\n/\n", "|a b|$(id)|;x|"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, bad := range []string{"FLEET_", "terminal"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is there", bad)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Ending the context ends the command and what it started, at once.
func TestCommandEndsWithItsContext(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	if err := syscall.Mkfifo(pids, 0o600); err != nil {
		t.Fatal(err)
	}
	// The child holds the output: ending the shell alone would not do.
	ref := script(t, `sleep 600 & echo $! $$ > "$1"; wait`, pids)
	cause := errors.New("the job was cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	started := make(chan []int, 1)
	go func() {
		defer close(started)
		raw, err := os.ReadFile(pids) // waits for the script
		if err != nil {
			return
		}
		var all []int
		for _, word := range bytes.Fields(raw) {
			if pid, err := strconv.Atoi(string(word)); err == nil {
				all = append(all, pid)
			}
		}
		started <- all
		cancel(cause)
	}()
	_, err := ref.Resolve(ctx)
	ended := time.Now()
	<-ctx.Done()
	all := <-started
	if !errors.Is(err, cause) || len(all) != 2 {
		t.Fatalf("%v, processes %v", err, all)
	}
	says(t, err, "command /bin/sh was cut short: the job was cancelled")
	for _, pid := range all {
		// Killed is killed; that a parent has not asked yet does not matter.
		for !gone(pid) {
			if time.Since(ended) > 5*time.Second {
				t.Fatalf("process %d still runs", pid)
			}
		}
	}
}

func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

// A command that leaves something behind that holds its output did not give all
// of it; what it left is ended.
func TestCommandThatLeavesSomethingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := script(t, `sleep 600 & echo $! > "$1"; echo half`, filepath.Join(dir, "pid")).Resolve(t.Context())
	says(t, err, "ended, but what it started still holds its output", "half")
	raw, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); !gone(pid); {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("process %d still runs", pid)
		}
	}
	if _, err := script(t, `sleep 600 >/dev/null 2>&1 & echo $! > "$1"; echo whole`, filepath.Join(dir, "pid")).Resolve(t.Context()); err != nil {
		t.Errorf("a child that holds nothing: %v", err)
	}
	if raw, err = os.ReadFile(filepath.Join(dir, "pid")); err == nil {
		_ = exec.Command("kill", strings.TrimSpace(string(raw))).Run()
	}
}
