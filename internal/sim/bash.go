package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// bash is one shell of a Linux host or a BIG-IP: a real shell interpreter whose
// files are the device's and whose programs are ours.
type bash struct {
	s           *session
	ctx         context.Context //nolint:containedctx // of the shell's life: background jobs end with it
	cancel      context.CancelFunc
	commands    map[string]command
	prompt      func(*bash) string
	runner      *interp.Runner
	parser      *syntax.Parser
	stdin       io.Reader
	stderr      io.Writer
	last        int // status of the last command
	descriptors descriptors
	running     sync.WaitGroup // programs, background ones too
	ending      sync.Mutex     // of ended
	ended       bool           // no program begins any more
}

// command is a program that a device has. It returns its exit status.
type command func(c *call) int

// call is one run of a program.
type call struct {
	ctx      context.Context //nolint:containedctx // of this one call, as with an HTTP request
	s        *session
	sh       *bash
	args     []string // args[0] is the name
	dir      string
	env      expand.Environ
	sudo     bool
	in       io.Reader
	out, err io.Writer
}

func (c *call) dev() *device { return c.s.dev }

// printf writes output; whoever read it being gone is noticed by those who wait.
func (c *call) printf(format string, args ...any) { _, _ = fmt.Fprintf(c.out, format, args...) }

// fail prints an error the way programs do, and gives status 1.
func (c *call) fail(format string, args ...any) int {
	_, _ = fmt.Fprintf(c.err, c.args[0]+": "+format+"\n", args...)
	return 1
}

// path makes a name absolute.
func (c *call) path(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(c.dir, name)
}

// open opens a file for reading; "-" is standard input.
func (c *call) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.in), nil
	}
	return c.dev().files.content(c.path(name))
}

// reason says what is wrong with a file the way the C library does.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "No such file or directory"
	case errors.Is(err, fs.ErrExist):
		return "File exists"
	case errors.Is(err, errIsDirectory):
		return "Is a directory"
	default:
		return "Operation not permitted"
	}
}

// shellSetup is what a new shell starts with.
type shellSetup struct {
	commands map[string]command
	prompt   func(*bash) string
	stdin    io.Reader // what programs read that are not in a pipe
	stdout   io.Writer
	stderr   io.Writer
	dir      string    // "" is the user's home
	env      []string  // exported by the parent
	input    io.Reader // what the shell itself reads; nil is nothing
}

// newBash makes a shell that ends with ctx. Whoever asked for it closes it.
func newBash(ctx context.Context, s *session, setup shellSetup) (*bash, error) {
	b := &bash{s: s, commands: setup.commands, prompt: setup.prompt, parser: syntax.NewParser(),
		stdin: setup.stdin, stderr: setup.stderr}
	b.ctx, b.cancel = context.WithCancel(ctx)
	home := s.dev.persona.home(s.user)
	env := slices.Concat(setup.env, []string{
		"HOME=" + home, "USER=" + s.user, "LOGNAME=" + s.user, "SHELL=/bin/bash",
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOSTNAME=" + s.dev.hostname(),
		// The interpreter makes FIFOs for process substitution in the real file
		// system. This takes the place away from it.
		"TMPDIR=/dev/null/none",
	})
	for _, name := range slices.Sorted(maps.Keys(s.env)) {
		env = append(env, name+"="+s.env[name])
	}
	var err error
	b.runner, err = interp.New(
		interp.Env(expand.ListEnviron(env...)),
		interp.Dir("/"),
		interp.StdIO(setup.input, setup.stdout, setup.stderr),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return b.exec }),
		interp.CallHandler(external),
		interp.OpenHandler(b.open),
		interp.StatHandler(b.stat),
		interp.ReadDirHandler2(func(_ context.Context, name string) ([]fs.DirEntry, error) { return s.dev.files.readDir(name) }),
		interp.AccessHandler(func(ctx context.Context, name string, _ interp.AccessMode) error {
			_, err := b.stat(ctx, name, true)
			return err
		}),
	)
	if err == nil {
		_, err = s.dev.files.open()
	}
	if err == nil {
		start := "unset TMPDIR OLDPWD; cd"
		if setup.dir != "" {
			start = "unset TMPDIR OLDPWD; cd " + quote(setup.dir)
		}
		if b.script(start) != 0 {
			err = fmt.Errorf("no directory %q", home+setup.dir)
		}
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("start shell: %w", err)
	}
	return b, nil
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// nested is a shell started from this one.
func (c *call) nested() (*bash, error) { return c.nestedWith(nil) }

// nestedWith is nested, with something for the shell itself to read.
func (c *call) nestedWith(input io.Reader) (*bash, error) {
	var env []string
	c.env.Each(func(name string, v expand.Variable) bool {
		if v.Exported && v.Kind == expand.String {
			env = append(env, name+"="+v.Str)
		}
		return true
	})
	return newBash(c.ctx, c.s, shellSetup{commands: c.sh.commands, prompt: c.sh.prompt, stdin: c.in, stdout: c.out, stderr: c.err,
		dir: c.dir, env: env, input: input})
}

// close ends background jobs and waits for the programs that they are at.
func (b *bash) close() {
	b.cancel()
	b.ending.Lock()
	b.ended = true
	b.ending.Unlock()
	b.running.Wait()
	b.descriptors.close()
}

// begin counts a program as running, unless the shell has ended: a background job may
// be between two programs then.
func (b *bash) begin() bool {
	b.ending.Lock()
	defer b.ending.Unlock()
	if !b.ended {
		b.running.Add(1)
	}
	return !b.ended
}

// script runs a script for as long as the shell lives.
func (b *bash) script(text string) int { return b.run(b.ctx, text) }

// run interprets a script and gives its exit status.
func (b *bash) run(ctx context.Context, script string) int {
	file, err := b.parser.Parse(strings.NewReader(script), "bash")
	if err != nil {
		return b.complain(err)
	}
	return b.runParsed(ctx, file)
}

// complain prints a syntax error.
func (b *bash) complain(err error) int {
	var parse syntax.ParseError
	if errors.As(err, &parse) {
		_, _ = fmt.Fprintf(b.stderr, "-bash: syntax error: %s\n", parse.Text)
	} else {
		_, _ = fmt.Fprintf(b.stderr, "-bash: syntax error\n")
	}
	return 2
}

func (b *bash) runParsed(ctx context.Context, file *syntax.File) int {
	rewriteDescriptors(file)
	for _, stmt := range file.Stmts {
		err := b.runner.Run(ctx, stmt)
		if ctx.Err() != nil {
			return 130
		}
		var status interp.ExitStatus
		switch {
		case b.runner.Exited() && (err == nil || errors.As(err, &status)):
			return int(status)
		case err == nil, errors.As(err, &status):
		case errors.Is(err, errTooDeep):
			_, _ = fmt.Fprintf(b.stderr, "-bash: %v\n", errTooDeep)
			return 1
		default:
			// The interpreter itself gave up; bash has no such end.
			b.s.dev.fleet.log.Debug("simulated shell stopped", "device", b.s.dev.name, "err", err)
			return 1
		}
		b.last = int(status)
	}
	return b.last
}

// exec is called for every program.
func (b *bash) exec(ctx context.Context, args []string) error {
	h := interp.HandlerCtx(ctx)
	if !b.begin() {
		return interp.ExitStatus(130)
	}
	defer b.running.Done()
	c := &call{ctx: ctx, s: b.s, sh: b, args: args, dir: h.Dir, env: h.Env, in: h.Stdin, out: h.Stdout, err: h.Stderr}
	if h.Stdin == nil {
		c.in = b.stdin
	}
	run := b.commands[path.Base(args[0])]
	switch args[0] {
	case openWord:
		run = runOpen
	case closeWord:
		run = runClose
	}
	line := strings.Join(args, " ")
	f := b.s.dev.ordered.Load()
	if run == nil || f.refuses(line, isBashReport(args)) {
		_, _ = fmt.Fprintf(h.Stderr, "-bash: %s: command not found\n", args[0])
		return interp.ExitStatus(127)
	}
	if status := run(c); status != 0 {
		return interp.ExitStatus(uint8(status & 0xff))
	}
	return nil
}

// maxDepth is how many frames of ours a script may stack up. A function that
// calls itself for ever would end this process, not just its shell.
const maxDepth = 4000

func limitDepth(_ context.Context, args []string) ([]string, error) {
	var frame [1]uintptr
	if runtime.Callers(maxDepth, frame[:]) > 0 {
		return nil, errTooDeep
	}
	return args, nil
}

var errTooDeep = errors.New("maximum function nesting level exceeded")

// isBashReport tells which programs faults of reports apply to.
func isBashReport(args []string) bool {
	switch path.Base(args[0]) {
	case "df", "uname", "uptime":
		return true
	case "cat":
		return len(args) == 2 && args[1] == "/etc/os-release"
	case "tmsh":
		return len(args) > 1
	default:
		return false
	}
}

// open serves redirections and sourced files.
func (b *bash) open(ctx context.Context, name string, flag int, perm fs.FileMode) (io.ReadWriteCloser, error) {
	name = slashed(name)
	if !path.IsAbs(name) {
		name = path.Join(slashed(interp.HandlerCtx(ctx).Dir), name)
	}
	switch name {
	case "/dev/null":
		return devNull{}, nil
	case "/dev/stdin":
		return readOnly{io.NopCloser(b.stdin)}, nil
	}
	if r, ok := b.procStat(name); ok {
		return readOnly{r}, nil
	}
	if r, ok := b.descriptors.open(name); ok {
		return readOnly{r}, nil
	}
	if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		r, err := b.s.dev.files.content(name)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New(reason(err))}
		}
		return readOnly{r}, nil
	}
	f, err := b.s.dev.files.openFile(name, flag, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New(reason(err))}
	}
	return f, nil
}

func (b *bash) stat(_ context.Context, name string, follow bool) (fs.FileInfo, error) {
	return b.s.dev.files.stat(slashed(name), follow)
}

// slashed undoes what the interpreter does to paths on Windows.
func slashed(name string) string {
	if i := strings.IndexByte(name, ':'); i == 1 {
		name = name[2:]
	}
	return strings.ReplaceAll(name, `\`, "/")
}

type devNull struct{}

func (devNull) Read([]byte) (int, error)    { return 0, io.EOF }
func (devNull) Write(p []byte) (int, error) { return len(p), nil }
func (devNull) Close() error                { return nil }

type readOnly struct{ io.ReadCloser }

func (readOnly) Write([]byte) (int, error) { return 0, errors.New("bad file descriptor") }

// interact is an interactive shell on the session's terminal. Its commands have
// contexts of their own, which Ctrl-C ends.
func (b *bash) interact() int {
	t := b.s.term
	b.s.interrupt.Store(nil) // a shell inside a command reads Ctrl-C itself
	for {
		b.s.flap()
		script, file, err := b.readScript(t)
		switch {
		case errors.Is(err, errInterrupted):
			b.last = 130
			continue
		case errors.Is(err, io.EOF):
			if b.s.hasPTY {
				t.raw("logout\r\n")
			}
			return b.last
		case err != nil && script == "":
			return statusKilled
		}
		if b.s.turn(b.s.ctx) != nil {
			return statusKilled
		}
		if err != nil {
			b.last = b.complain(err)
			continue
		}
		if !isSimple(file) {
			_ = t.Flush() // what was typed shows while a loop runs
		}
		ctx, done := b.s.command(b.ctx)
		status := b.runParsed(ctx, file)
		interrupted := ctx.Err() != nil
		done(!hasBackground(file))
		if b.s.ctx.Err() != nil {
			return statusKilled
		}
		if interrupted && b.s.hasPTY {
			t.raw("^C\r\n")
		}
		// An interrupted interpreter calls itself exited as well; it can go on.
		if !interrupted && b.runner.Exited() {
			if b.s.hasPTY {
				t.raw("logout\r\n")
			}
			return status
		}
		b.last = status
	}
}

// isSimple tells whether a script is no more than one program or built-in; those
// that take time show what they have to.
func isSimple(file *syntax.File) bool {
	if len(file.Stmts) != 1 {
		return len(file.Stmts) == 0
	}
	_, ok := file.Stmts[0].Cmd.(*syntax.CallExpr)
	return ok
}

// hasBackground tells whether a script leaves jobs behind, which live on in its
// context.
func hasBackground(file *syntax.File) bool {
	found := false
	syntax.Walk(file, func(n syntax.Node) bool {
		if stmt, ok := n.(*syntax.Stmt); ok && stmt.Background {
			found = true
		}
		return !found
	})
	return found
}

// readScript reads lines until they make a whole command. With an error that
// comes with a script, the script is at fault and not the terminal.
func (b *bash) readScript(t *terminal) (string, *syntax.File, error) {
	var script strings.Builder
	ask := b.prompt(b)
	for {
		line, err := t.readLine(b.s.ctx, ask, lineOptions{})
		if err != nil {
			return "", nil, err
		}
		script.WriteString(line + "\n")
		file, err := b.parser.Parse(strings.NewReader(script.String()), "bash")
		if err == nil || !syntax.IsIncomplete(err) || script.Len() > maxLine {
			return script.String(), file, err
		}
		ask = "> "
	}
}

// dir is the shell's present directory, as prompts show it.
func (b *bash) dir() string {
	home := b.s.dev.persona.home(b.s.user)
	dir := slashed(b.runner.Dir)
	if dir == home {
		return "~"
	}
	return dir
}

// sleep waits as the program of that name does.
func (c *call) sleep(d time.Duration) int {
	if err := flush(c.out); err != nil {
		return 1
	}
	if pause(c.ctx, d) != nil {
		return 130
	}
	return 0
}
