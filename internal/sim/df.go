package sim

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// mount is a mounted file system, in blocks of 1024 bytes.
type mount struct {
	device, fstype, on string
	size, used, avail  int64
}

// newMount keeps back reserved per mille of the size for root, as ext file
// systems do; full is the used part of the rest.
func newMount(device, fstype, on string, size int64, full float64, reserved int64) mount {
	usable := size - size*reserved/1000
	used := int64(float64(usable) * full)
	return mount{device: device, fstype: fstype, on: on, size: size, used: used, avail: usable - used}
}

// percent is rounded up, as df does.
func (m mount) percent() string {
	if m.used+m.avail == 0 {
		return "-"
	}
	return fmt.Sprintf("%d%%", (m.used*100+m.used+m.avail-1)/(m.used+m.avail))
}

// kernel is what uname prints.
type kernel struct{ release, version, machine string }

// mounted is a personality that has file systems and a kernel to show.
type mounted interface {
	mounts(d *device) []mount
	kernel(d *device) kernel
}

// holding finds the file system that a path is on.
func holding(list []mount, name string) (mount, bool) {
	best, found := mount{}, false
	for _, m := range list {
		under := m.on == "/" || name == m.on || strings.HasPrefix(name, m.on+"/")
		if under && (!found || len(m.on) > len(best.on)) {
			best, found = m, true
		}
	}
	return best, found
}

type dfOptions struct {
	posix, human, types bool
	// oldWrap is how df of old coreutils prints: a long device name stands alone
	// and its figures on the next line.
	oldWrap bool
}

// formatDF prints a table as df does.
func formatDF(list []mount, o dfOptions) string {
	figure := func(kib int64) string { return strconv.FormatInt(kib, 10) }
	head := []string{"Filesystem", "1K-blocks", "Used", "Available", "Use%", "Mounted on"}
	switch {
	case o.human:
		figure = humanKiB
		head[1], head[3] = "Size", "Avail"
	case o.posix:
		head[1], head[4] = "1024-blocks", "Capacity"
	}
	rows := append(make([][]string, 0, 1+len(list)), head)
	for _, m := range list {
		rows = append(rows, []string{m.device, figure(m.size), figure(m.used), figure(m.avail), m.percent(), m.on})
	}
	if o.types {
		rows[0] = append(rows[0][:1:1], append([]string{"Type"}, rows[0][1:]...)...)
		for i, m := range list {
			rows[i+1] = append(rows[i+1][:1:1], append([]string{m.fstype}, rows[i+1][1:]...)...)
		}
	}
	wrap := o.oldWrap && !o.posix
	width := make([]int, len(head)+1)
	for _, r := range rows {
		for i, cell := range r {
			if i == 0 && wrap {
				continue
			}
			width[i] = max(width[i], len(cell))
		}
	}
	if wrap {
		width[0] = 20
	}
	width[0] = max(width[0], 14)
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-*s", width[0], r[0])
		if wrap && len(r[0]) > width[0] {
			fmt.Fprintf(&b, "\n%*s", width[0], "")
		}
		for i, cell := range r[1 : len(r)-1] {
			if o.types && i == 0 {
				fmt.Fprintf(&b, " %-*s", width[1], cell)
			} else {
				fmt.Fprintf(&b, " %*s", width[i+1], cell)
			}
		}
		fmt.Fprintf(&b, " %s\n", r[len(r)-1])
	}
	return b.String()
}

// humanKiB is df -h's rounding: up, one decimal below ten.
func humanKiB(kib int64) string {
	if kib == 0 {
		return "0"
	}
	v, unit := float64(kib), 0
	for v >= 1024 && unit < 4 {
		v /= 1024
		unit++
	}
	suffix := "KMGTP"[unit : unit+1]
	if v < 10 && v != math.Trunc(v) {
		return fmt.Sprintf("%.1f%s", math.Ceil(v*10)/10, suffix)
	}
	return fmt.Sprintf("%.0f%s", math.Ceil(v), suffix)
}
