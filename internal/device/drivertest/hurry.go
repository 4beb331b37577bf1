package drivertest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"capfleet/internal/device"
)

var (
	timeOf     = regexp.MustCompile(`\b([a-z]+): \d+[smh]\b`)
	platformOf = regexp.MustCompile(`(?m)^platform: (\S+)$`)
)

// Hurry makes an override directory with the platform definition of a file and other
// times: a device of the simulator needs no minutes. Times are by their names, as
// "poll", wherever that stands; "install.worst" is the one of that section alone.
func Hurry(t *testing.T, definition string, times map[string]string) (dir string) {
	t.Helper()
	src, err := os.ReadFile(definition)
	if err != nil {
		t.Fatal(err)
	}
	platform := platformOf.FindSubmatch(src)
	if platform == nil {
		t.Fatalf("%s is of no platform", definition)
	}
	text := timeOf.ReplaceAllStringFunc(string(src), func(found string) string {
		key, _, _ := strings.Cut(found, ":")
		if d, ok := times[key]; ok {
			return key + ": " + d
		}
		return found
	})
	for key, d := range times {
		section, name, ok := strings.Cut(key, ".")
		if !ok {
			continue
		}
		one := regexp.MustCompile(`(?s)(\n    ` + section + `:.*?\b` + name + `: )\d+[smh]+`)
		if !one.MatchString(text) {
			t.Fatalf("%s has no time %s", definition, key)
		}
		text = one.ReplaceAllString(text, "${1}"+d)
	}
	dir = t.TempDir()
	path := device.OverrideFile(dir, string(platform[1]))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
