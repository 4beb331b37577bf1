package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// commandTimeout bounds a command. Nobody can answer it a question.
	commandTimeout = 30 * time.Second
	// outputGrace is how long what a command left running may hold its output.
	outputGrace = time.Second
	// maxArguments bounds a command's arguments together, in bytes.
	maxArguments = 64 << 10
)

// Command is a program and its arguments, each ended by a NUL, as
// /proc/PID/cmdline has them. It is one string so that a Ref can be compared and
// be a key, which a slice forbids. In JSON it is a list. The zero Command is none.
//
// It is never given to a shell. Arguments are in the inventory, in the ledger and
// in the list of processes: a secret is none of them.
type Command string

// NewCommand makes a Command of a program and its arguments.
func NewCommand(args ...string) (Command, error) {
	size := 0
	for _, a := range args {
		if strings.ContainsRune(a, 0) || !utf8.ValidString(a) {
			return "", errors.New("an argument of the command is not text")
		}
		size += len(a) + 1
	}
	switch {
	case len(args) == 0 || args[0] == "":
		return "", errors.New("the command has no program")
	case size > maxArguments:
		return "", fmt.Errorf("the command is longer than %d bytes", maxArguments)
	}
	return Command(strings.Join(args, "\x00") + "\x00"), nil
}

// Args gives the program and its arguments; nil for none.
func (c Command) Args() []string {
	if c == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(c), "\x00"), "\x00")
}

// Program is the first of Args: a path, or a name to be found in PATH.
func (c Command) Program() string {
	program, _, _ := strings.Cut(string(c), "\x00")
	return program
}

// MarshalJSON implements json.Marshaler.
func (c Command) MarshalJSON() ([]byte, error) { return json.Marshal(c.Args()) }

// UnmarshalJSON implements json.Unmarshaler.
func (c *Command) UnmarshalJSON(raw []byte) error {
	var args []string
	if err := json.Unmarshal(raw, &args); err != nil {
		return err
	}
	if args == nil {
		return nil // null
	}
	command, err := NewCommand(args...)
	if err != nil {
		return err
	}
	*c = command
	return nil
}

// timeoutError is a command that did not end. It is a context.DeadlineExceeded,
// so that it is taken for what may pass.
type timeoutError struct {
	program string
	limit   time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("command %s did not end within %v; it can ask nobody for anything", e.program, e.limit)
}

func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// run gives what the command prints within the limit. It runs in a session of its own, without a
// terminal and without input, in the root folder, with a few environment
// variables; what it started ends with it when it is cut short.
func (c Command) run(ctx context.Context, limit time.Duration) ([]byte, error) {
	args := c.Args()
	program := args[0]
	path, err := lookup(program)
	if err != nil {
		return nil, fmt.Errorf("command %s cannot be started: %w", program, err)
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stdout, stderr := &output{limit: maxValue, over: cancel}, &tail{}
	cmd := exec.CommandContext(bounded, path, args[1:]...)
	cmd.Env = environment()
	cmd.Dir = string(filepath.Separator)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = outputGrace
	kill := detach(cmd)
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		kill()
	}
	switch {
	case stdout.exceeded:
		return nil, fmt.Errorf("command %s prints more than %d bytes", program, maxValue)
	case err == nil && stdout.kept.Len() == 0:
		return nil, fmt.Errorf("command %s prints nothing%s", program, stderr.told())
	case err == nil:
		return stdout.kept.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("command %s was cut short: %w", program, context.Cause(ctx))
	case bounded.Err() != nil:
		return nil, &timeoutError{program, limit}
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, fmt.Errorf("command %s ended, but what it started still holds its output", program)
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	if !ended {
		return nil, fmt.Errorf("command %s cannot be started: %w", program, bare(err))
	}
	told := ""
	if stdout.kept.Len() == 0 {
		// Once something was printed, a message may repeat it, in whatever form.
		told = stderr.told()
	}
	return nil, fmt.Errorf("command %s failed: %s%s", program, exit.ProcessState, told)
}

// environment is what a command is given of ours: what programs need to find
// their files and each other. Other secrets may be in the rest.
func environment() []string {
	var out []string
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "XDG_RUNTIME_DIR", credentialsDirectory} {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// warning says what will keep the command from running, or lets others change
// it; "" for nothing.
func (c Command) warning() string {
	path, err := lookup(c.Program())
	if err != nil {
		return fmt.Sprintf("command %s cannot be started: %v", c.Program(), err)
	}
	if st, err := os.Stat(path); err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&0o002 != 0 {
		return fmt.Sprintf("command %s can be changed by everybody (mode %04o): chmod go-w it", path, st.Mode().Perm())
	}
	return ""
}

// output keeps what is printed up to a limit, and calls over beyond it. The buffer
// is not embedded: its ReadFrom would go past the limit.
type output struct {
	kept     bytes.Buffer
	limit    int
	over     func()
	exceeded bool
}

func (o *output) Write(p []byte) (int, error) {
	if o.exceeded || o.kept.Len()+len(p) > o.limit {
		o.exceeded = true
		o.over()
		return len(p), nil
	}
	return o.kept.Write(p)
}
