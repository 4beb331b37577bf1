package sim

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/syntax"
)

// Scripts keep a file open across commands: exec 3<FILE, and then <&3. The
// interpreter knows descriptors 0 to 2 alone, so the others are kept here, and what
// a script says of them is rewritten before it runs. They are for reading; eval,
// which parses its text by itself, does not know them.

// descriptors are the files that a shell holds open.
type descriptors struct {
	mu    sync.Mutex
	files map[int]*os.File
}

// The words that a rewritten exec becomes; no program can be called so.
const (
	openWord  = "\x01open"
	closeWord = "\x01close"
)

// lowestDescriptor is the first that the interpreter does not know.
const lowestDescriptor = 3

// rewriteDescriptors replaces what a script says of descriptors from 3 on.
func rewriteDescriptors(file *syntax.File) {
	syntax.Walk(file, func(n syntax.Node) bool {
		stmt, ok := n.(*syntax.Stmt)
		if !ok {
			return true
		}
		rest := stmt.Redirs[:0]
		for _, rd := range stmt.Redirs {
			if !rewriteRedirect(stmt, rd) {
				rest = append(rest, rd)
			}
		}
		stmt.Redirs = rest
		return true
	})
}

// rewriteRedirect reports whether a redirect is part of its command now.
func rewriteRedirect(stmt *syntax.Stmt, rd *syntax.Redirect) bool {
	if from, ok := high(rd.Word.Lit()); ok && rd.Op == syntax.DplIn && (rd.N == nil || rd.N.Value == "0") {
		rd.Op, rd.Word = syntax.RdrIn, word(fmt.Sprintf("/dev/fd/%d", from))
		return false
	}
	if rd.N == nil {
		return false
	}
	n, ok := high(rd.N.Value)
	if call, isCall := stmt.Cmd.(*syntax.CallExpr); !ok || !isCall || !isExec(call) {
		return false
	} else if rd.Op == syntax.RdrIn {
		call.Args = []*syntax.Word{word(openWord), word(strconv.Itoa(n)), rd.Word}
	} else if rd.Word.Lit() == "-" {
		call.Args = []*syntax.Word{word(closeWord), word(strconv.Itoa(n))}
	} else {
		return false
	}
	return true
}

func high(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= lowestDescriptor && n < 256
}

func word(text string) *syntax.Word {
	return &syntax.Word{Parts: []syntax.WordPart{&syntax.Lit{Value: text}}}
}

// isExec knows exec and command exec, without a program.
func isExec(call *syntax.CallExpr) bool {
	args := call.Args
	if len(args) == 2 && args[0].Lit() == "command" {
		args = args[1:]
	}
	return len(args) == 1 && args[0].Lit() == "exec"
}

// runOpen is exec N<FILE.
func runOpen(c *call) int {
	f, err := c.dev().files.openFile(c.path(c.args[2]), os.O_RDONLY, 0)
	if err != nil {
		_, _ = fmt.Fprintf(c.err, "-bash: %s: %s\n", c.args[2], reason(err))
		return 1
	}
	c.sh.descriptors.set(c.args[1], f)
	return 0
}

// runClose is exec N<&-.
func runClose(c *call) int {
	c.sh.descriptors.set(c.args[1], nil)
	return 0
}

// set gives a number another file; nil closes it.
func (d *descriptors) set(number string, f *os.File) {
	n, _ := high(number) // rewriteRedirect has looked
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.files[n]; old != nil {
		_ = old.Close() // read-only
	}
	delete(d.files, n)
	if f != nil {
		if d.files == nil {
			d.files = map[int]*os.File{}
		}
		d.files[n] = f
	}
}

func (d *descriptors) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		_ = f.Close() // read-only
	}
	d.files = nil
}

// get finds the file by its name under dir, such as /dev/fd/3.
func (d *descriptors) get(dir, name string) (*os.File, bool) {
	number, ok := strings.CutPrefix(name, dir)
	n, numbered := high(number)
	if !ok || !numbered {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[n]
	return f, f != nil
}

// open serves /dev/fd/N, which reads on where the last one ended, and
// /proc/self/fdinfo/N; false for other files.
func (d *descriptors) open(name string) (io.ReadCloser, bool) {
	if f, ok := d.get("/dev/fd/", name); ok {
		return io.NopCloser(f), true
	}
	f, ok := d.get("/proc/self/fdinfo/", name)
	if !ok {
		return nil, false
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, false
	}
	return io.NopCloser(strings.NewReader(fmt.Sprintf("pos:\t%d\nflags:\t0100000\nmnt_id:\t29\n", at))), true
}

// stat looks at a file, or at one that the shell holds open.
func (c *call) stat(name string, follow bool) (fs.FileInfo, error) {
	for _, dir := range []string{"/proc/self/fd/", "/dev/fd/"} {
		if f, ok := c.sh.descriptors.get(dir, name); ok {
			return f.Stat()
		}
	}
	return c.dev().files.stat(c.path(name), follow)
}
