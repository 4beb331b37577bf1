package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"capfleet/internal/fault"
	"capfleet/internal/parse"
)

// layout is a platform's reports.yaml, checked against its templates.
type layout struct {
	path       string
	nullValues []string
	reports    map[string]*reportLayout
}

// reportLayout says how a platform gives one report.
type reportLayout struct {
	unsupported string // the reason why not; everything else is empty then
	merge       bool
	commands    []command
	columns     map[string]*column
	required    []string
	assumedUnit string
	atLeast     int
	omit        []patterns
}

type command struct {
	name     string
	line     string
	mode     string
	timeout  time.Duration
	optional bool
	partial  *regexp.Regexp // nil where what is told must be whole
	path     string         // of the template
	template *parse.Template
}

// column says where a column's text comes from.
type column struct {
	command string
	key     string // of the Value in a row of the command's template
	unitKey string // of the Value with the unit of a size
	rules   []mapping
	where   patterns           // the records looked at, by key
	columns map[string]*column // of the objects in a list
}

// patterns are expressions that must all match, each the text under its key.
type patterns map[string]*regexp.Regexp

// mapping turns a text into another one.
type mapping struct {
	match *regexp.Regexp
	to    string
}

// The file as it is written. Unknown and doubled keys are errors.
type layoutFile struct {
	Version int `yaml:"version"`
	// NullValues are the words that mean "no figure".
	NullValues []string               `yaml:"null_values"`
	Reports    map[string]*reportFile `yaml:"reports"`
}

type reportFile struct {
	// Unsupported is the reason why this platform has no such report.
	Unsupported string `yaml:"unsupported"`
	// Shape is "rows" (every record of the one command is a row) or "merge" (all
	// records of all commands together are one row).
	Shape    string        `yaml:"shape"`
	Commands []commandFile `yaml:"commands"`
	// AssumedUnit is the unit of sizes that are printed without one.
	AssumedUnit string                 `yaml:"assumed_unit"`
	AtLeast     int                    `yaml:"at_least"` // rows; fewer is an error
	Required    []string               `yaml:"required"` // columns that may not be null
	Omit        []map[string]string    `yaml:"omit"`     // records left out: Value to pattern, all must match
	Columns     map[string]*columnFile `yaml:"columns"`
}

type commandFile struct {
	Name     string        `yaml:"name"` // defaults to the template's name
	Line     string        `yaml:"line"`
	Mode     string        `yaml:"mode"` // of the platform definition; its working mode by default
	Timeout  time.Duration `yaml:"timeout"`
	Template string        `yaml:"template"` // in the platform's own folder, or platform/name
	Optional bool          `yaml:"optional"` // the device may refuse it; its columns are null then
	Partial  string        `yaml:"partial"`  // lines on standard error that say what could not be read; the rest is whole
}

type columnFile struct {
	Value   string                 `yaml:"value"` // Value, or command.Value with several commands
	Unit    string                 `yaml:"unit"`  // Value that holds a size's unit
	Map     []mappingFile          `yaml:"map"`   // the first match decides; without one it is null
	Where   map[string]string      `yaml:"where"` // Value to pattern: only these records
	Columns map[string]*columnFile `yaml:"columns"`
}

type mappingFile struct {
	Match string `yaml:"match"` // RE2 expression, not anchored
	To    string `yaml:"to"`    // may use ${1}
}

// layouts reads and keeps the platforms' layouts. A layout is read anew when its
// file or one of its templates changed.
type layouts struct {
	lib *parse.Library

	mu    sync.Mutex
	cache map[string]cachedLayout
}

type cachedLayout struct {
	src    []byte
	layout *layout
}

// forPlatform gives a platform's layout. A platform without one is fault.NotFound.
func (l *layouts) forPlatform(platform string) (*layout, error) {
	path := platform + "/reports.yaml"
	if !fs.ValidPath(path) {
		return nil, fault.New(fault.NotFound, "no platform is called %q", platform)
	}
	src, err := l.lib.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := l.cache[platform]; ok && bytes.Equal(have.src, src) && l.current(have.layout) {
		return have.layout, nil
	}
	source := "built-in " + path
	if l.lib.Overridden(path) {
		source = l.lib.OverridePath(path)
	}
	out, err := l.read(platform, source, src)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "read " + source, Stage: "layout", Err: err}
	}
	l.cache[platform] = cachedLayout{src: src, layout: out}
	return out, nil
}

// current reports whether the layout's templates are still those of the library.
func (l *layouts) current(have *layout) bool {
	for _, r := range have.reports {
		for _, c := range r.commands {
			if t, err := l.lib.Template(c.path); err != nil || t != c.template {
				return false
			}
		}
	}
	return true
}

func (l *layouts) read(platform, path string, src []byte) (*layout, error) {
	var file layoutFile
	dec := yaml.NewDecoder(bytes.NewReader(src), yaml.Strict())
	if err := dec.Decode(&file); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty")
		}
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	if file.Version != 1 {
		return nil, fmt.Errorf("version %d is not known (write version: 1)", file.Version)
	}
	out := &layout{path: path, nullValues: file.NullValues, reports: map[string]*reportLayout{}}
	for _, name := range slices.Sorted(maps.Keys(file.Reports)) {
		if _, ok := columnKinds[name]; !ok {
			return nil, fmt.Errorf("no report is called %q (there are %s)", name, strings.Join(names, ", "))
		}
		r, err := l.report(platform, name, file.Reports[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out.reports[name] = r
	}
	return out, nil
}

func (l *layouts) report(platform, name string, file *reportFile) (*reportLayout, error) {
	if file == nil {
		return nil, errors.New("the report is empty (give commands and columns, or unsupported: reason)")
	}
	if file.Unsupported != "" {
		if len(file.Commands)+len(file.Columns) > 0 {
			return nil, errors.New("an unsupported report has no commands and columns")
		}
		return &reportLayout{unsupported: file.Unsupported}, nil
	}
	out := &reportLayout{assumedUnit: file.AssumedUnit, atLeast: file.AtLeast, required: file.Required}
	switch {
	case file.Shape == "merge":
		out.merge = true
	case file.Shape != "rows":
		return nil, fmt.Errorf("shape %q is not known (rows or merge)", file.Shape)
	case len(file.Commands) != 1:
		return nil, errors.New("shape rows takes exactly one command")
	}
	if out.merge != (name == SoftwareReport) {
		return nil, fmt.Errorf("shape %s does not fit this report", file.Shape)
	}
	if len(file.Commands) == 0 {
		return nil, errors.New("commands are missing")
	}
	if file.AssumedUnit != "" {
		if _, err := parseUnit(file.AssumedUnit); err != nil {
			return nil, fmt.Errorf("assumed_unit: %w", err)
		}
	}
	if file.AtLeast < 0 {
		return nil, errors.New("at_least is negative")
	}
	for i, c := range file.Commands {
		cmd, err := l.command(platform, c)
		if err != nil {
			return nil, fmt.Errorf("command %d: %w", i+1, err)
		}
		if out.command(cmd.name) != nil {
			return nil, fmt.Errorf("two commands are called %q (give them names)", cmd.name)
		}
		out.commands = append(out.commands, cmd)
	}
	var err error
	if out.columns, err = out.readColumns(file.Columns, columnKinds[name]); err != nil {
		return nil, err
	}
	for _, c := range file.Required {
		if out.columns[c] == nil {
			return nil, fmt.Errorf("required: column %q is not given", c)
		}
	}
	if out.merge && len(file.Omit) > 0 {
		return nil, errors.New("omit has no meaning with shape merge (use where in a column)")
	}
	for _, o := range file.Omit {
		p, err := compilePatterns(o, out.commands[0].template)
		if err != nil {
			return nil, fmt.Errorf("omit: %w", err)
		}
		if len(p) == 0 {
			return nil, errors.New("omit: an entry without a pattern would leave out everything")
		}
		out.omit = append(out.omit, p)
	}
	return out, nil
}

func (l *layouts) command(platform string, file commandFile) (command, error) {
	out := command{name: file.Name, line: file.Line, mode: file.Mode, timeout: file.Timeout, optional: file.Optional, path: file.Template}
	switch {
	case strings.TrimSpace(file.Line) == "" || strings.ContainsAny(file.Line, "\r\n"):
		return out, errors.New("line is missing or not a single line")
	case file.Template == "":
		return out, errors.New("template is missing")
	case file.Timeout < 0:
		return out, errors.New("timeout is negative")
	}
	if !strings.Contains(out.path, "/") {
		out.path = platform + "/" + out.path
	}
	out.path = strings.TrimSuffix(out.path, parse.Extension)
	if out.name == "" {
		out.name = out.path[strings.LastIndexByte(out.path, '/')+1:]
	}
	var err error
	if file.Partial != "" {
		if out.partial, err = regexp.Compile(file.Partial); err != nil {
			return out, fmt.Errorf("partial: %w", err)
		}
	}
	out.template, err = l.lib.Template(out.path)
	return out, err
}

func (r *reportLayout) command(name string) *command {
	for i := range r.commands {
		if r.commands[i].name == name {
			return &r.commands[i]
		}
	}
	return nil
}

func (r *reportLayout) readColumns(files map[string]*columnFile, kinds map[string]kind) (map[string]*column, error) {
	out := map[string]*column{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		k, ok := kinds[name]
		if !ok {
			return nil, fmt.Errorf("no column is called %q (there are %s)", name, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
		}
		c, err := r.readColumn(files[name], k)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
		out[name] = c
	}
	return out, nil
}

func (r *reportLayout) readColumn(file *columnFile, k kind) (*column, error) {
	if file == nil {
		return nil, errors.New("it is empty (give value)")
	}
	if k == volumeList {
		return r.readVolumes(file)
	}
	out := &column{command: r.commands[0].name, key: strings.ToLower(file.Value), unitKey: strings.ToLower(file.Unit)}
	if name, value, ok := strings.Cut(file.Value, "."); ok {
		out.command, out.key = name, strings.ToLower(value)
	} else if len(r.commands) > 1 {
		return nil, fmt.Errorf("value %q does not name its command (write command.Value)", file.Value)
	}
	cmd := r.command(out.command)
	if cmd == nil {
		return nil, fmt.Errorf("no command is called %q", out.command)
	}
	if len(file.Columns) > 0 {
		return nil, errors.New("it holds no objects, so columns has no meaning")
	}
	if out.unitKey != "" && k != size {
		return nil, errors.New("only a size has a unit")
	}
	for _, key := range []string{out.key, out.unitKey} {
		if err := hasValue(cmd.template, key); key != "" && err != nil {
			return nil, err
		}
	}
	if out.key == "" {
		return nil, errors.New("value is missing")
	}
	var err error
	if out.where, err = compilePatterns(file.Where, cmd.template); err != nil {
		return nil, fmt.Errorf("where: %w", err)
	}
	for _, m := range file.Map {
		match, err := regexp.Compile(m.Match)
		if err != nil {
			return nil, fmt.Errorf("map: %w", err)
		}
		out.rules = append(out.rules, mapping{match: match, to: m.To})
	}
	return out, nil
}

// readVolumes takes the one column that holds objects: a command's records, with
// columns of their own that name just the Value.
func (r *reportLayout) readVolumes(file *columnFile) (*column, error) {
	cmd := r.command(file.Value)
	if cmd == nil || len(file.Map)+len(file.Where) > 0 || file.Unit != "" {
		return nil, errors.New("write value: the command's name, and columns")
	}
	own := &reportLayout{commands: []command{*cmd}}
	columns, err := own.readColumns(file.Columns, volumeKinds)
	return &column{command: cmd.name, columns: columns}, err
}

func compilePatterns(in map[string]string, t *parse.Template) (patterns, error) {
	out := patterns{}
	for value, pattern := range in {
		key := strings.ToLower(value)
		if err := hasValue(t, key); err != nil {
			return nil, err
		}
		p, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		out[key] = p
	}
	return out, nil
}

func hasValue(t *parse.Template, key string) error {
	var have []string
	for _, v := range t.Values() {
		if v.Key == key {
			return nil
		}
		have = append(have, v.Name)
	}
	return fmt.Errorf("template %s has no Value %q (it has %s)", t.Name(), key, strings.Join(have, ", "))
}

// Check reads the layout of a platform with all of its templates, as a report
// would. A platform without one is fault.NotFound.
func Check(lib *parse.Library, platform string) error {
	l := &layouts{lib: lib, cache: map[string]cachedLayout{}}
	_, err := l.forPlatform(platform)
	return err
}
