package sim

import (
	"context"
	"fmt"
	"io"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
)

// Processes: a shell that asks for its PID has one, and is found by it in /proc and
// by kill. A program that it becomes (exec) is that process.

// firstPID is where the numbers of a device begin.
const firstPID = 2000

// processTable is a device's processes that anybody asked for.
type processTable struct {
	mu   sync.Mutex
	next int
	all  map[int]*process
}

// process is a shell, or the program that it has become.
type process struct {
	pid   int
	began int64 // ticks of 10 ms since boot
	name  string
	shell *bash

	mu     sync.Mutex
	signal func(name string) // how the program that runs takes SIGINT and SIGTERM; nil ends it
}

// process gives the process of a shell.
func (b *bash) process() *process {
	t := &b.s.dev.processes
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all {
		if p.shell == b {
			return p
		}
	}
	if t.all == nil {
		t.all, t.next = map[int]*process{}, firstPID
	}
	t.next++
	p := &process{pid: t.next, began: b.s.dev.uptime().Milliseconds() / 10, name: "sh", shell: b}
	t.all[p.pid] = p
	context.AfterFunc(b.ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.all, p.pid)
	})
	return p
}

func (t *processTable) find(pid int) *process {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[pid]
}

// catch says how the process takes signals, until the function given is called.
func (p *process) catch(name string, signal func(string)) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name, p.signal = name, signal
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.signal = nil
	}
}

func (p *process) send(signal string) {
	p.mu.Lock()
	catch := p.signal
	p.mu.Unlock()
	if catch != nil && signal != "KILL" {
		catch(signal)
		return
	}
	p.shell.cancel()
}

// stat is the process's line in /proc, as far as anybody reads it: field 4 and on
// are 0 but for field 22, the time at which it began.
func (p *process) stat() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	fields := make([]string, 0, 52)
	fields = append(fields, strconv.Itoa(p.pid), "("+p.name+")", "S", "1")
	for len(fields) < 52 {
		fields = append(fields, "0")
	}
	fields[21] = strconv.FormatInt(p.began, 10)
	return strings.Join(fields, " ") + "\n"
}

// procStat serves /proc/self/stat and /proc/PID/stat; false for other files.
func (b *bash) procStat(name string) (io.ReadCloser, bool) {
	dir, file := path.Split(name)
	who, ok := strings.CutPrefix(path.Clean(dir), "/proc/")
	if !ok || file != "stat" {
		return nil, false
	}
	p := (*process)(nil)
	if who == "self" {
		p = b.process()
	} else if pid, err := strconv.Atoi(who); err == nil {
		p = b.s.dev.processes.find(pid)
	}
	if p == nil {
		return nil, false
	}
	return io.NopCloser(strings.NewReader(p.stat())), true
}

// external sends words that the shell would take itself to a program of ours:
// processes and programs are the device's, not those of the machine that simulates.
func external(ctx context.Context, args []string) ([]string, error) {
	args, err := limitDepth(ctx, args)
	switch {
	case err != nil:
	case args[0] == "kill":
		args = append([]string{"/bin/kill"}, args[1:]...)
	case len(args) == 3 && args[0] == "command" && args[1] == "-v":
		args = []string{"/usr/bin/which", args[2]}
	}
	return args, err
}

// runWhich prints where a program is.
func runWhich(c *call) int {
	if len(c.args) != 2 || c.sh.commands[c.args[1]] == nil || c.args[1] == "tcpdump" && c.dev().ordered.Load().noTcpdump {
		return 1
	}
	c.printf("/usr/bin/%s\n", c.args[1])
	return 0
}

func runKill(c *call) int {
	signal, args := "TERM", c.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		if args[0] == "-s" && len(args) > 1 {
			signal, args = args[1], args[2:]
			continue
		}
		signal, args = strings.TrimPrefix(args[0], "-"), args[1:]
	}
	signal = strings.TrimPrefix(strings.ToUpper(signal), "SIG")
	status := 0
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		p := (*process)(nil)
		if err == nil {
			p = c.dev().processes.find(pid)
		}
		switch {
		case p == nil:
			_, _ = fmt.Fprintf(c.err, "-bash: kill: (%s) - No such process\n", a)
			status = 1
		case signal != "0":
			p.send(signal)
		}
	}
	return status
}

// runID is id, of the account that is logged in.
func runID(c *call) int {
	if len(c.args) == 2 && c.args[1] == "-u" {
		c.printf("%d\n", uid(c))
		return 0
	}
	c.printf("uid=%d(%s) gid=%d(%s)\n", uid(c), c.s.user, uid(c), c.s.user)
	return 0
}

// runScript is sh -c SCRIPT [NAME [ARGUMENT...]]: a process of its own with
// arguments, that can read what the client sends. A signal ends it. The end of its
// connection does not, nor that of the background jobs that it leaves behind: without
// a terminal nobody hangs up on them, and what they read comes to its end.
func runScript(c *call) int {
	ctx, cancel := context.WithCancel(c.dev().powered())
	within := context.AfterFunc(c.ctx, func() {
		if c.s.ctx.Err() == nil {
			cancel()
		}
	})
	shell := *c
	shell.ctx = ctx
	inner, err := shell.nestedWith(c.in)
	if err != nil {
		cancel()
		return c.fail("%v", err)
	}
	if len(c.args) > 4 {
		inner.runner.Params = c.args[4:]
	}
	status := inner.script(c.args[2])
	end := func() {
		inner.close()
		cancel()
	}
	within()
	if ctx.Err() != nil || !c.dev().fleet.spawn(func() { defer end(); inner.script("wait") }) {
		end()
	}
	return status
}

// powered is a context that ends when the device goes off.
func (d *device) powered() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.power == nil {
		off, cancel := context.WithCancel(d.fleet.ctx)
		cancel()
		return off
	}
	return d.power
}

// between is the connection's two ends as the device sees them, in the form of
// $SSH_CONNECTION.
func (c *connection) between() string {
	ends := make([]string, 0, 4)
	for _, addr := range []string{c.ssh.RemoteAddr().String(), c.ssh.LocalAddr().String()} {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			// Inside the process, behind a bastion: an address of its own kind.
			host, port = "192.0.2.1", "22"
		}
		ends = append(ends, host, port)
	}
	return strings.Join(ends, " ")
}
