package sim

import (
	"fmt"
	"strings"
	"time"
)

// captureCommand shows what a probe captures. No real one has been seen: see
// docs/formats.md.
const captureCommand = "show erfstream statistics"

// capturing gives since and until when the probe has captured in this run; a
// probe that captures now has done so until now.
func (d *device) capturing() (from, to time.Time, running bool) {
	st := d.state()
	if !st.Maintenance && !st.CaptureDown {
		return st.BootTime, time.Now().UTC(), true
	}
	if st.CaptureDown || st.CaptureStopped.Before(st.BootTime) {
		return st.BootTime, st.BootTime, false // nothing since the boot
	}
	return st.BootTime, st.CaptureStopped, false
}

// isCapturing tells whether the device is a probe that captures now.
func (d *device) isCapturing() bool {
	_, _, running := d.capturing()
	return running && d.platform == platformOSm
}

// osmCapture prints a block for each stream. Counters start at a boot.
func osmCapture(c *osmCLI) string {
	d := c.s.dev
	from, to, running := d.capturing()
	state := map[bool]string{true: "running", false: "stopped"}[running]
	r := d.random("packets")
	var b strings.Builder
	for i := range figuresOf(d).rings {
		if i > 0 {
			b.WriteString("\n")
		}
		rate := 60e3 + 700e3*r.Float64() // packets a second
		packets := int64(to.Sub(from).Seconds() * rate)
		size := int64(400 + r.IntN(600))
		fmt.Fprintf(&b, "Stream: erfstream%d\n", i)
		lines := [][2]string{
			{"State", state},
			{"Packets Received", fmt.Sprint(packets)},
			{"Bytes Received", fmt.Sprint(packets * size)},
			{"Packets Dropped", "0"},
		}
		if d.ordered.Load().change.capture == captureFull {
			newest := "-"
			if packets > 0 {
				newest = to.Format("2006/01/02 15:04:05.000000")
			}
			lines = append(lines, [2]string{"Newest Packet", newest})
		}
		for _, l := range lines {
			fmt.Fprintf(&b, "  %-21s %s\n", l[0], l[1])
		}
	}
	return b.String()
}

// osmTable lines up columns, each as wide as its widest cell.
func osmTable(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			line += fmt.Sprintf("%-*s  ", width[i], cell)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// osmRAID prints the columns that public reports of this command have.
func osmRAID(d *device) string {
	rows := [][]string{{"Device", "RAID Status", "RAID Type", "Capacity (GB)", "Hotspare"}}
	parts := figuresOf(d).partitions
	rows = append(rows,
		[]string{"/dev/md0", "OK", "RAID1", "240", "no"},
		[]string{"/dev/md2", "OK", "RAID6", fmt.Sprint(int64(parts[len(parts)-1].total) / 10), "yes"})
	return osmTable(rows)
}

// osmDisks prints the columns that public reports of this command have.
func osmDisks(d *device) string {
	r := d.random("disks")
	rows := [][]string{{"Serial Number", "Health", "Reallocated Sector", "Current Pending Sector", "Offline Uncorrectable", "Overall State"}}
	for range 8 {
		rows = append(rows, []string{fmt.Sprintf("ZC1%07X", r.IntN(1<<28)), "PASSED", "0", "0", "0", "OK"})
	}
	return osmTable(rows)
}
