package sim

import (
	"fmt"
	"os"
	"strings"
)

func runDF(c *call) int {
	posix, human, types, kilo := false, false, false, false
	var paths []string
	for _, a := range c.args[1:] {
		if !strings.HasPrefix(a, "-") || a == "-" {
			paths = append(paths, a)
			continue
		}
		for _, o := range strings.TrimLeft(a, "-") {
			switch o {
			case 'P':
				posix = true
			case 'h':
				human = true
			case 'T':
				types = true
			case 'k', 'l', 'a':
				kilo = kilo || o == 'k'
			default:
				_, _ = fmt.Fprintf(c.err, "df: invalid option -- '%c'\nTry 'df --help' for more information.\n", o)
				return 1
			}
		}
	}
	list := c.dev().mounts()
	if len(paths) > 0 {
		var chosen []mount
		for _, p := range paths {
			m, ok := holding(list, c.path(p))
			if _, err := c.dev().files.stat(c.path(p), true); err != nil && m.on != c.path(p) || !ok {
				return c.fail("%s: No such file or directory", p)
			}
			chosen = append(chosen, m)
		}
		list = chosen
	}
	return c.answer(formatDF(list, dfOptions{posix: posix, human: human, types: types, oldWrap: c.dev().platform == platformBigIP}))
}

func runMkdir(c *call) int {
	root, err := c.dev().files.open()
	if err != nil {
		return c.fail("%s", reason(err))
	}
	parents, status, mode := false, 0, false
	for _, a := range c.args[1:] {
		if mode {
			mode = false // rights: the simulator's files all belong to one user
			continue
		}
		if strings.HasPrefix(a, "-") {
			parents = parents || strings.ContainsRune(a, 'p')
			mode = a == "-m"
			continue
		}
		if parents {
			err = root.MkdirAll(inside(c.path(a)), 0o755)
		} else {
			err = root.Mkdir(inside(c.path(a)), 0o755)
		}
		if err != nil {
			status = c.fail("cannot create directory '%s': %s", a, reason(err))
		}
	}
	return status
}

func runRM(c *call) int {
	root, err := c.dev().files.open()
	if err != nil {
		return c.fail("%s", reason(err))
	}
	recursive, force, status := false, false, 0
	for _, a := range c.args[1:] {
		if strings.HasPrefix(a, "-") {
			recursive = recursive || strings.ContainsAny(a, "rR")
			force = force || strings.ContainsRune(a, 'f')
			continue
		}
		name := inside(c.path(a))
		info, err := root.Lstat(name)
		switch {
		case err != nil && force && os.IsNotExist(err):
			continue
		case err == nil && info.IsDir() && !recursive:
			err = errIsDirectory
		case err == nil && recursive && name != ".":
			c.dev().removed(root, name)
			err = root.RemoveAll(name)
		case err == nil:
			if err = root.Remove(name); err == nil && info.Mode().IsRegular() {
				c.dev().takeSpace(c.path(a), -info.Size())
			}
		}
		if err != nil {
			status = c.fail("cannot remove '%s': %s", a, reason(err))
		}
	}
	return status
}

func runMV(c *call) int {
	if len(c.args) != 3 {
		return c.fail("two names are needed")
	}
	root, err := c.dev().files.open()
	if err != nil {
		return c.fail("%s", reason(err))
	}
	from, to := c.path(c.args[1]), c.path(c.args[2])
	if info, err := root.Stat(inside(to)); err == nil && info.IsDir() {
		to += "/" + from[strings.LastIndexByte(from, '/')+1:]
	}
	c.dev().arrivedFile(to)
	if err := root.Rename(inside(from), inside(to)); err != nil {
		return c.fail("cannot move '%s': %s", c.args[1], reason(err))
	}
	return 0
}
