package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decigb is a size in tenths of 10^9 bytes, the precision that reports have. In
// whole tenths, totals are the exact sums of their parts.
type decigb int64

func (g decigb) String() string { return fmt.Sprintf("%d.%d", g/10, g%10) }

// partition is a file system of a probe.
type partition struct {
	name, device       string
	total, used        decigb
	usable             decigb // the packet store only
	inodes, inodesUsed int
}

// ring is a rotation file. A full one reuses its oldest block of 4 GB.
type ring struct {
	name         string
	user, actual int // GB; the actual limit is made of whole blocks
	usage        decigb
	vision       decigb
	current      decigb
	retention    time.Duration // of Vision metadata; 0 where Vision is off
}

const blockGB = 4

// osmFigures are a probe's stores: the same for the same seed and name.
type osmFigures struct {
	partitions []partition
	rings      []ring
}

// figuresOf makes rings that fill a packet store, and file systems that hold
// exactly those rings.
func figuresOf(d *device) osmFigures {
	r := d.random("figures")
	stores := []int{21990, 43980, 87960, 175921}
	total := decigb(stores[r.IntN(len(stores))]*10 + r.IntN(10))
	usable := total * 957 / 1000
	rate := 0.4 + 5*r.Float64() // Gbit/s of kept packets

	full := func(name string, gb int, vision bool) ring {
		k := ring{name: name, user: gb, actual: (gb + blockGB - 1) / blockGB * blockGB}
		k.usage = decigb(k.actual * 10)
		k.current = k.usage - decigb(r.IntN(blockGB*10)) // the block being reused
		if vision {
			k.vision = k.current * decigb(8+r.IntN(7)) / 1000
			packets := float64(k.current) * 1e8 * 8 / (rate * 1e9)
			k.retention = time.Duration(packets*(1.05+0.5*r.Float64())) * time.Second
		}
		return k
	}
	share := func(percent int) int { return int(usable) / 10 * percent / 100 }
	rings := []ring{full("Main", share(86+r.IntN(6)), true)}
	if r.IntN(2) == 0 {
		rings = append(rings, full("Lab capture", share(3), false))
	}
	if r.IntN(3) == 0 {
		k := full("Overflow", share(2), true)
		k.current = k.current * decigb(20+r.IntN(60)) / 100 // still filling
		k.usage = (k.current + blockGB*10 - 1) / (blockGB * 10) * (blockGB * 10)
		k.vision = k.current / 100
		k.retention /= 3
		rings = append(rings, k)
	}

	store := partition{name: "/endace", device: "/dev/md2", total: total, usable: usable, used: decigb(120 + r.IntN(400))}
	for _, k := range rings {
		store.used += k.usage + k.vision
	}
	return osmFigures{rings: rings, partitions: []partition{
		{name: "/config", device: "/dev/sda8", total: 5, used: decigb(1 + r.IntN(2)), inodes: 50400, inodesUsed: 20 + r.IntN(60)},
		{name: "/var", device: "/dev/sda9", total: 203, used: decigb(20 + r.IntN(60)), inodes: 1050400, inodesUsed: 900 + r.IntN(9000)},
		store,
	}}
}

// size prints a size in these units.
func (u units) size(g decigb) string {
	switch u {
	case unitsGB:
		return g.String() + " GB"
	case unitsMB, unitsSpace:
		return fmt.Sprintf("%d MB", int64(g)*100)
	default:
		return g.String()
	}
}

// osmFileSystems prints a block for each file system, in the units ordered.
func osmFileSystems(d *device) string {
	u := d.ordered.Load().units
	word := "Bytes"
	if u == unitsSpace {
		word = "Space"
	}
	var b strings.Builder
	for i, p := range figuresOf(d).partitions {
		if i > 0 {
			b.WriteString("\n")
		}
		free := p.total - p.used
		fmt.Fprintf(&b, "Statistics for %s filesystem:\n", p.name)
		fmt.Fprintf(&b, "  %s Total %s\n  %s Used %s\n", word, u.size(p.total), word, u.size(p.used))
		if p.usable > 0 {
			fmt.Fprintf(&b, "  %s Usable %s\n", word, u.size(p.usable))
		}
		fmt.Fprintf(&b, "  %s Free %s\n", word, u.size(free))
		if u == unitsSpace {
			fmt.Fprintf(&b, "  Space Available %s\n", u.size(free*94/100))
		}
		fmt.Fprintf(&b, "  %s Percent Free %d%%\n", word, free*100/p.total)
		if p.inodes > 0 {
			left := p.inodes - p.inodesUsed
			fmt.Fprintf(&b, "  Inodes Total %d\n  Inodes Used %d\n  Inodes Free %d\n  Inodes Percent Free %d%%\n", p.inodes, p.inodesUsed, left, left*100/p.inodes)
		}
		fmt.Fprintf(&b, "  Device Name %s\n", p.device)
	}
	return b.String()
}

// osmRotationFiles prints a labelled block for each rotation file.
func osmRotationFiles(d *device) string {
	u := d.ordered.Load().units
	limit := func(gb int) string {
		if u == unitsNone {
			return strconv.Itoa(gb)
		}
		return u.size(decigb(gb * 10))
	}
	var b strings.Builder
	for i, k := range figuresOf(d).rings {
		if i > 0 {
			b.WriteString("\n")
		}
		retention := "-"
		if k.retention > 0 {
			retention = dayClock(k.retention)
		}
		fmt.Fprintf(&b, "Rotation file: %s\n", k.name)
		for _, line := range [][2]string{
			{"User Size Limit", limit(k.user)}, {"Actual Size Limit", limit(k.actual)}, {"Disk Usage", u.size(k.usage)},
			{"Vision Retention Time", retention}, {"Vision Size", u.size(k.vision)}, {"Current Size", u.size(k.current)},
			{"Source", fmt.Sprintf("erfstream%d", i)},
		} {
			fmt.Fprintf(&b, "  %-21s %s\n", line[0], line[1])
		}
	}
	return b.String()
}

// dayClock is "12d 04:11:00".
func dayClock(t time.Duration) string {
	s := int64(t.Seconds())
	return fmt.Sprintf("%dd %02d:%02d:%02d", s/86400, s/3600%24, s/60%60, s%60)
}

func osmVersion(c *osmCLI) string {
	up := c.s.dev.uptime()
	s := int64(up.Seconds())
	return fmt.Sprintf(`Product name:      OSm
Product release:   6.4.3
Build ID:          #1-20190612
Build date:        2019-06-12 10:11:12
Uptime:            %dd %dh %dm %d.%03ds
`, s/86400, s/3600%24, s/60%60, s%60, up.Milliseconds()%1000)
}

func osmClock(*osmCLI) string {
	now := time.Now().UTC()
	return fmt.Sprintf("Time:       %s\nDate:       %s\nTime zone:  UTC\n", now.Format("15:04:05"), now.Format("2006/01/02"))
}

func osmHosts(c *osmCLI) string {
	return fmt.Sprintf("Hostname: %s\n", c.s.dev.hostname())
}

func osmSession(c *osmCLI) string {
	paging := map[bool]string{true: "enabled", false: "disabled"}[c.paging]
	return fmt.Sprintf("CLI current session settings:\n  Maximum line size: %d\n  Terminal width:    %d columns\n  Terminal length:   %d rows\n  Paging:            %s\n",
		maxLine, c.s.cols.Load(), c.length, paging)
}

// osmPackages lists hotfixes; the poorest variant leaves their versions out.
func osmPackages(d *device) string {
	versions := d.ordered.Load().versioned
	var b strings.Builder
	b.WriteString("Installed packages:\n")
	packages := d.state().Packages
	for _, p := range packages {
		name := p.Name
		if versions && p.Version != "" {
			name += "-" + p.Version
		}
		fmt.Fprintf(&b, "  %s\n", name)
	}
	if len(packages) == 0 {
		b.WriteString("  (none)\n")
	}
	return b.String()
}

func osmRunningConfig(d *device) string {
	settings := d.state().Running
	var b strings.Builder
	b.WriteString("##\n## Running configuration\n##\n")
	if _, ok := settings["hostname"]; !ok {
		fmt.Fprintf(&b, "   hostname %s\n", d.name)
	}
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "   %s %s\n", key, settings[key])
	}
	return b.String()
}
