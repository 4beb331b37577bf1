package sim

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// ls and find: names, and by which number a file is the same under another name.

func runLS(c *call) int {
	o := lsOptions{}
	var names []string
	for _, a := range c.args[1:] {
		if !strings.HasPrefix(a, "-") {
			names = append(names, a)
			continue
		}
		o.long = o.long || strings.ContainsAny(a, "ln")
		o.all = o.all || strings.ContainsRune(a, 'a')
		o.inode = o.inode || strings.ContainsRune(a, 'i')
		o.numeric = o.numeric || strings.ContainsRune(a, 'n')
	}
	if len(names) == 0 {
		names = []string{c.dir}
	}
	status := 0
	for _, name := range names {
		info, err := c.stat(name, true)
		if err != nil {
			_, _ = fmt.Fprintf(c.err, "ls: cannot access '%s': %s\n", name, reason(err))
			status = 2
			continue
		}
		if !info.IsDir() {
			c.list(name, info, o)
			continue
		}
		entries, err := c.dev().files.readDir(c.path(name))
		if err != nil {
			return c.fail("cannot open directory '%s': %s", name, reason(err))
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil && (o.all || !strings.HasPrefix(e.Name(), ".")) {
				c.list(e.Name(), info, o)
			}
		}
	}
	return status
}

type lsOptions struct{ long, all, inode, numeric bool }

func (c *call) list(name string, info fs.FileInfo, o lsOptions) {
	if o.inode {
		c.printf("%d ", c.dev().files.inode(info))
	}
	if !o.long {
		c.printf("%s\n", name)
		return
	}
	user := c.s.user
	if o.numeric {
		user = strconv.Itoa(uid(c))
	}
	c.printf("%s 1 %s %s %d %s %s\n", info.Mode(), user, user, info.Size(), info.ModTime().UTC().Format("2006-01-02 15:04"), name)
}

// inode gives a number that a file has under every name, and no other file while it
// is there.
func (t *tree) inode(info fs.FileInfo) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, known := range t.inodes {
		if os.SameFile(known, info) {
			return firstInode + i
		}
	}
	t.inodes = append(t.inodes, info)
	return firstInode + len(t.inodes) - 1
}

// firstInode is where the numbers of a device begin.
const firstInode = 131073

// runFind knows the places to look in, -maxdepth, -inum, -name and -type.
func runFind(c *call) int {
	var places []string
	args := c.args[1:]
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		places, args = append(places, args[0]), args[1:]
	}
	depth, want := -1, []func(fs.FileInfo) bool{}
	for len(args) > 0 {
		if len(args) == 1 {
			return c.fail("missing argument to `%s'", args[0])
		}
		test, value := args[0], args[1]
		args = args[2:]
		n, err := strconv.Atoi(value)
		switch test {
		case "-maxdepth", "-inum":
			if err != nil || n < 0 {
				return c.fail("invalid argument `%s' to `%s'", value, test)
			}
			if test == "-maxdepth" {
				depth = n
			} else {
				want = append(want, func(i fs.FileInfo) bool { return c.dev().files.inode(i) == n })
			}
		case "-name":
			want = append(want, func(i fs.FileInfo) bool { ok, err := path.Match(value, i.Name()); return ok && err == nil })
		case "-type":
			want = append(want, func(i fs.FileInfo) bool {
				return value == "f" && i.Mode().IsRegular() || value == "d" && i.IsDir() || value == "l" && i.Mode()&fs.ModeSymlink != 0
			})
		default:
			return c.fail("unknown predicate `%s'", test)
		}
	}
	if len(places) == 0 {
		places = []string{"."}
	}
	status := 0
	for _, place := range places {
		info, err := c.stat(place, false)
		if err != nil {
			status = 1
			_, _ = fmt.Fprintf(c.err, "find: '%s': %s\n", place, reason(err))
			continue
		}
		c.find(place, info, depth, want)
	}
	return status
}

// find prints what fits at a place and below it; a negative depth has no end.
func (c *call) find(place string, info fs.FileInfo, depth int, want []func(fs.FileInfo) bool) {
	fits := true
	for _, w := range want {
		fits = fits && w(info)
	}
	if fits {
		c.printf("%s\n", place)
	}
	if !info.IsDir() || depth == 0 || c.ctx.Err() != nil {
		return
	}
	entries, err := c.dev().files.readDir(c.path(place))
	if err != nil {
		_, _ = fmt.Fprintf(c.err, "find: '%s': %s\n", place, reason(err))
		return
	}
	for _, e := range entries {
		if below, err := e.Info(); err == nil {
			c.find(strings.TrimSuffix(place, "/")+"/"+e.Name(), below, depth-1, want)
		}
	}
}
