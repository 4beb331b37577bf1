package report

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"capfleet/internal/parse"

	"capfleet/internal/fault"
)

// kind is what a column holds, and so how its text is read.
type kind int

const (
	text kind = iota
	size
	percent
	duration
	integer
	boolean
	textList
	volumeList
)

// columnKinds are the columns of each report that a layout can give.
var columnKinds = map[string]map[string]kind{
	FilesystemReport: {
		"filesystem": text, "total_bytes": size, "used_bytes": size, "usable_bytes": size, "free_bytes": size, "used_percent": percent,
	},
	RotationFileReport: {
		"name": text, "user_limit_bytes": size, "actual_limit_bytes": size, "disk_usage_bytes": size, "vision_retention_seconds": duration,
		"vision_size_bytes": size, "current_size_bytes": size, "source": text,
	},
	SoftwareReport: {
		"version": text, "build": text, "hotfixes": textList, "active_volume": text, "volumes": volumeList, "maintenance": boolean, "failover_state": text,
	},
}

var volumeKinds = map[string]kind{
	"volume": text, "slot": integer, "product": text, "version": text, "build": text, "active": boolean, "status": text,
}

// figureError is a text that a template matched and that is no figure.
type figureError struct {
	command string // that printed it
	column  string
	record  int // 1-based
	err     error
}

func (e *figureError) Error() string {
	return fmt.Sprintf("record %d: %s: %v", e.record, e.column, e.err)
}

func (e *figureError) Unwrap() error { return e.err }

// reading takes one row's columns out of records. The first error is kept; what
// comes after it is of no use.
type reading struct {
	layout  *reportLayout
	nulls   []string
	records map[string][]parse.Row // by command; absent where it was refused
	number  int                    // of the record, for messages
	assumed bool                   // a size had no unit of its own
	err     error
}

// texts gives the texts that the column's records hold, after mapping, without
// those that mean "no figure". known is false where the command gave nothing.
func (r *reading) texts(name string) (out []string, units []string, known bool) {
	c := r.layout.columns[name]
	if c == nil {
		return nil, nil, false
	}
	records, known := r.records[c.command]
	for _, record := range records {
		if !matches(record, c.where) {
			continue
		}
		for _, s := range flatten(record[c.key]) {
			if s, ok := c.apply(s); ok && s != "" && !slices.Contains(r.nulls, s) {
				out = append(out, s)
				units = append(units, first(flatten(record[c.unitKey])))
			}
		}
	}
	return out, units, known
}

func (c *column) apply(s string) (string, bool) {
	if len(c.rules) == 0 {
		return s, true
	}
	for _, m := range c.rules {
		if at := m.match.FindStringSubmatchIndex(s); at != nil {
			return string(m.match.ExpandString(nil, m.to, s, at)), true
		}
	}
	return "", false
}

// blank reports whether a record holds no text of any column. TextFSM gives one at
// the end of the text for a Value that is only filled down, as the name of the
// device often is; it is nothing that the device printed.
func (l *reportLayout) blank(record parse.Row) bool {
	for _, c := range l.columns {
		if slices.ContainsFunc(flatten(record[c.key]), func(s string) bool { return s != "" }) {
			return false
		}
	}
	return true
}

// matches reports whether all patterns match the record.
func matches(record parse.Row, all patterns) bool {
	for key, p := range all {
		if !p.MatchString(first(flatten(record[key]))) {
			return false
		}
	}
	return true
}

// flatten gives the texts in a template's value, which may be a List.
func flatten(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

func (r *reading) fail(column string, err error) {
	if r.err == nil {
		r.err = &figureError{command: r.layout.columns[column].command, column: column, record: r.number, err: err}
	}
}

func (r *reading) text(name string) *string {
	if t, _, _ := r.texts(name); len(t) > 0 {
		return &t[0]
	}
	return nil
}

// list gives every text of a column: nil where it is not known, empty where there
// is none.
func (r *reading) list(name string) []string {
	t, _, known := r.texts(name)
	if known && t == nil {
		return []string{}
	}
	return t
}

func (r *reading) size(name string) *int64 {
	t, units, _ := r.texts(name)
	if len(t) == 0 {
		return nil
	}
	unit := units[0]
	if unit == "" {
		if r.layout.assumedUnit == "" {
			r.fail(name, fmt.Errorf("%q has no unit, and the layout assumes none", fault.Clip(t[0], 80)))
			return nil
		}
		unit, r.assumed = r.layout.assumedUnit, true
	}
	n, err := parseBytes(t[0], unit)
	if err != nil {
		r.fail(name, err)
		return nil
	}
	return &n
}

func (r *reading) seconds(name string) *int64 {
	return convert(r, name, parseSeconds)
}

func (r *reading) percent(name string) *float64 {
	return convert(r, name, parsePercent)
}

func (r *reading) integer(name string) *int64 {
	return convert(r, name, func(s string) (int64, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a whole number", fault.Clip(s, 80))
		}
		return n, nil
	})
}

func (r *reading) boolean(name string) *bool {
	return convert(r, name, func(s string) (bool, error) {
		switch s {
		case "true", "yes":
			return true, nil
		case "false", "no":
			return false, nil
		}
		return false, fmt.Errorf("%q is neither yes nor no", fault.Clip(s, 80))
	})
}

func convert[T any](r *reading, name string, read func(string) (T, error)) *T {
	t, _, _ := r.texts(name)
	if len(t) == 0 {
		return nil
	}
	v, err := read(t[0])
	if err != nil {
		r.fail(name, err)
		return nil
	}
	return &v
}

func (r *reading) assumedUnit() *string {
	if !r.assumed {
		return nil
	}
	unit := r.layout.assumedUnit
	return &unit
}

// demand fails when a column that the layout requires is null. It comes last, so
// that a column that is no figure is told as such.
func (r *reading) demand() {
	for _, name := range r.layout.required {
		if t, _, _ := r.texts(name); len(t) == 0 {
			r.fail(name, fmt.Errorf("it is missing"))
		}
	}
}

func (r *reading) filesystem(device string, at time.Time) Filesystem {
	row := Filesystem{
		Device: device, Filesystem: r.text("filesystem"), TotalBytes: r.size("total_bytes"), UsedBytes: r.size("used_bytes"),
		UsableBytes: r.size("usable_bytes"), FreeBytes: r.size("free_bytes"), UsedPercent: r.percent("used_percent"), CollectedAt: at,
	}
	if row.UsedPercent == nil {
		row.UsedPercent = percentOf(row.UsedBytes, row.TotalBytes)
	}
	row.AssumedUnit = r.assumedUnit()
	return row
}

func (r *reading) rotationFile(device string, at time.Time) RotationFile {
	row := RotationFile{
		Device: device, Name: r.text("name"), UserLimitBytes: r.size("user_limit_bytes"), ActualLimitBytes: r.size("actual_limit_bytes"),
		DiskUsageBytes: r.size("disk_usage_bytes"), VisionRetentionSeconds: r.seconds("vision_retention_seconds"),
		VisionSizeBytes: r.size("vision_size_bytes"), CurrentSizeBytes: r.size("current_size_bytes"), Source: r.text("source"), CollectedAt: at,
	}
	row.AssumedUnit = r.assumedUnit()
	return row
}

func (r *reading) software(device, platform string, at time.Time) Software {
	return Software{
		Device: device, Platform: platform, Version: r.text("version"), Build: r.text("build"), Hotfixes: r.list("hotfixes"),
		ActiveVolume: r.text("active_volume"), Volumes: r.volumes(), Maintenance: r.boolean("maintenance"),
		FailoverState: r.text("failover_state"), CollectedAt: at,
	}
}

func (r *reading) volumes() []Volume {
	c := r.layout.columns["volumes"]
	if c == nil {
		return nil
	}
	records, known := r.records[c.command]
	if !known {
		return nil
	}
	out := []Volume{}
	for i, record := range records {
		v := &reading{layout: &reportLayout{columns: c.columns}, nulls: r.nulls, records: map[string][]parse.Row{c.command: {record}}, number: i + 1}
		out = append(out, Volume{Volume: v.text("volume"), Slot: v.integer("slot"), Product: v.text("product"), Version: v.text("version"),
			Build: v.text("build"), Active: v.boolean("active"), Status: v.text("status")})
		if v.err != nil && r.err == nil {
			r.err = fmt.Errorf("volumes: %w", v.err)
		}
	}
	return out
}
