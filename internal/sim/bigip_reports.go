package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// bigipRelease is a TMOS release and what its reports look like.
type bigipRelease struct {
	version, build, edition, date string
	slot                          bool   // software status has a Slot column
	allowed                       bool   // and a column Allowed Version
	fips                          string // version has a line FIPS Module
}

// releaseOf gives the release that a device runs; both members of a pair run the
// same.
func releaseOf(d *device) bigipRelease {
	releases := []bigipRelease{
		{version: "12.1.3.4", build: "0.0.2", edition: "Point Release 4", date: "Fri Mar  9 12:02:41 PST 2018", slot: true},
		{version: "13.1.1.3", build: "0.0.1", edition: "Point Release 3", date: "Mon Dec 10 09:21:14 PST 2018"},
		{version: "15.1.2.1", build: "0.0.10", edition: "Point Release 1", date: "Fri Jan 15 11:18:05 PST 2021"},
		{version: "17.1.2.1", build: "0.0.2", edition: "Point Release 1", date: "Thu Dec  5 19:14:10 PST 2024", allowed: true},
		{version: "21.1.0.1", build: "0.0.26", edition: "Point Release 1", date: "Tue Jul 14 05:03:24 PDT 2026", allowed: true,
			fips: "Cryptographic Module for BIG-IP"},
	}
	pair := d
	if d.peer != nil && d.peer.name < d.name {
		pair = d.peer
	}
	return releases[pair.random("release").IntN(len(releases))]
}

func showVersion(d *device) string {
	r, v := releaseOf(d), running(d)
	width := 12
	if r.fips != "" {
		width = 13
	}
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "  %-*s%s\n", width, key, value) }
	b.WriteString("\nSys::Version\nMain Package\n")
	line("Product", v.Product)
	line("Version", v.Version)
	line("Build", v.Build)
	line("Edition", v.Edition)
	line("Date", v.Date)
	if r.fips != "" {
		line("FIPS Module", r.fips)
	}
	b.WriteString("\n")
	return b.String()
}

// showSoftware is a table whose columns are as wide as their widest value; the
// first is aligned left and the others right.
func showSoftware(d *device) string {
	r := releaseOf(d)
	head := []string{"Volume", "Product", "Version", "Build", "Active", "Status"}
	if r.slot {
		head = slices.Insert(head, 1, "Slot")
	}
	if r.allowed {
		head = append(head, "Allowed Version")
	}
	volumes := volumesOf(d)
	rows := append(make([][]string, 0, 1+len(volumes)), head)
	for _, v := range volumes {
		row := []string{v.Name, v.Product, v.Version, v.Build, map[bool]string{true: "yes", false: "no"}[v.active], v.Status}
		if r.slot {
			row = slices.Insert(row, 1, "1")
		}
		if r.allowed {
			row = append(row, "yes")
		}
		rows = append(rows, row)
	}
	width := make([]int, len(head))
	total := -2
	for i := range head {
		for _, row := range rows {
			width[i] = max(width[i], len(row[i]))
		}
		total += width[i] + 2
	}
	rule := strings.Repeat("-", total)
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\nSys::Software Status\n", rule)
	for i, row := range rows {
		fmt.Fprintf(&b, "%-*s", width[0], row[0])
		for j, cell := range row[1:] {
			fmt.Fprintf(&b, "  %*s", width[j+1], cell)
		}
		b.WriteString("\n")
		if i == 0 {
			b.WriteString(rule + "\n")
		}
	}
	b.WriteString("\n")
	return b.String()
}

func showFailover(d *device) string {
	st := d.state()
	since := time.Since(st.FailoverSince).Truncate(time.Second)
	days := int(since.Hours()) / 24
	clock := fmt.Sprintf("%02d:%02d:%02d", int(since.Hours())%24, int(since.Minutes())%60, int(since.Seconds())%60)
	return fmt.Sprintf("Failover %s for %dd %s\n", strings.ToLower(d.failoverState()), days, clock)
}

// table is the heading of a component's block.
func table(title string, width int) string {
	rule := strings.Repeat("-", width)
	return fmt.Sprintf("\n%s\n%s\n%s\n", rule, title, rule)
}

func showFailoverStatus(d *device) string {
	var b strings.Builder
	color, status, summary := "gray", strings.ToUpper(d.failoverState()), "1/1 standby"
	details := ""
	switch d.failoverState() {
	case roleActive:
		color, summary, details = "green", "1/1 active", "active for /Common/traffic-group-1"
	case roleInoperative:
		color, status, summary = "red", "OFFLINE", "The device is inoperative"
	}
	b.WriteString(table("CM::Failover Status", 41))
	fmt.Fprintf(&b, "Color    %s\nStatus   %s\nSummary  %s\n%s\n", color, status, summary, strings.TrimSpace("Details  "+details))
	if d.peer != nil {
		status = "Ok"
		if !d.peer.isUp() {
			status = "Error"
		}
		b.WriteString(table("CM::Failover Connections", 81))
		fmt.Fprintf(&b, "Local Failover Address  Remote Device  Packets Received  Last Packet  Status\n")
		fmt.Fprintf(&b, "192.0.2.1:1026          %-13s  %16d  %11s  %s\n", d.peer.name, int(d.uptime().Seconds())*3, time.Now().UTC().Format("15:04:05"), status)
	}
	b.WriteString("\n")
	return b.String()
}

func showSyncStatus(d *device) string {
	state := d.syncState()
	color, mode, summary := "green", "high-availability", "All devices in the device group are in sync"
	switch state {
	case "In Sync":
	case "Standalone":
		mode, summary = "standalone", " "
	case "":
		color, summary = "red", "The configuration is not loaded"
	case "Disconnected":
		color, summary = "red", "There is no connection to the other device"
	case "Sync Failure":
		color, summary = "red", "The last synchronization failed"
	default:
		color, summary = "yellow", "There is a possible change conflict"
	}
	return table("CM::Sync Status", 55) + fmt.Sprintf("Color    %s\nStatus   %s\nMode     %s\nSummary  %s\nDetails\n\n", color, state, mode, strings.TrimSpace(summary))
}

// dbNames are the database variables that can be listed and changed.
func dbNames() []string {
	names := make([]string, 0, 160)
	names = append(names, "liveinstall.moveconfig", "liveinstall.saveconfig", "tcpdump.sslprovider", "tm.rstcause.log", "tm.rstcause.pkt")
	for _, daemon := range strings.Fields("apm asm avr bcm bigd chmand cluster csyncd dedup dns eventd gtm hds icrd iprep lacpd ltm mcpd net pem rtsp sod statsd stp syncd tamd tmm tmrouted wam zone") {
		for _, what := range []string{"level", "rate", "throttle", "trace"} {
			names = append(names, "log."+daemon+"."+what)
		}
	}
	slices.Sort(names)
	return names
}

func dbValue(d *device, name string) string {
	if v, ok := d.setting("db " + name); ok {
		return v
	}
	switch {
	case strings.HasPrefix(name, "liveinstall."):
		return "enable"
	case strings.HasSuffix(name, ".level"):
		return "Notice"
	case strings.HasSuffix(name, ".rate"):
		return "100"
	default:
		return "disable"
	}
}

// listDB lists all variables, or the one that is named.
func listDB(d *device, args []string) (string, int, bool) {
	names := dbNames()
	if len(args) > 0 {
		if !slices.Contains(names, args[0]) {
			return "", 0, false
		}
		names = []string{args[0]}
	}
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "sys db %s {\n    value \"%s\"\n}\n", n, dbValue(d, n))
	}
	return b.String(), len(names), true
}
