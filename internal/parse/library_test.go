package parse

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"capfleet/internal/fault"
)

func TestLibraryCompilesOnce(t *testing.T) {
	lib := NewLibrary("")
	first, err := lib.Template("linux/filesystem")
	if err != nil {
		t.Fatal(err)
	}
	second, err := lib.Template("linux/filesystem.textfsm")
	if err != nil || first != second {
		t.Errorf("compiled twice (%v)", err)
	}
	if lib.OverridePath("linux/filesystem.textfsm") != "" || lib.Overridden("linux/filesystem.textfsm") {
		t.Error("a library without overrides folder has an override")
	}
}

func TestOverrideWinsAndIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	lib := NewLibrary(dir)
	path := lib.OverridePath("linux/kernel.textfsm")
	write := func(src string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if path != filepath.Join(dir, "templates", "linux", "kernel.textfsm") {
		t.Errorf("override at %s", path)
	}
	if built, err := lib.Template("linux/kernel"); err != nil || !built.Strict() {
		t.Fatalf("built in: %v", err)
	}
	write("Value Mine (x)\n\nStart\n  ^${Mine}\n")
	mine, err := lib.Template("linux/kernel")
	if err != nil || mine.Values()[0].Name != "Mine" || !lib.Overridden("linux/kernel.textfsm") {
		t.Fatalf("override: %v %v", mine, err)
	}
	write("Value Mine (x\n")
	if _, err := lib.Template("linux/kernel"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a broken override: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := lib.Template("linux/kernel"); err == nil {
		t.Error("an override that cannot be read fell back to the built-in template")
	}
}

func TestLibraryRefusesOtherPaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret.textfsm"), []byte("Value A (x)\n\nStart\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lib := NewLibrary(dir)
	for _, path := range []string{"../secret", "linux/../../secret", "/etc/passwd", "", "linux//kernel"} {
		if _, err := lib.Template(path); err == nil {
			t.Errorf("%q was read", path)
		}
	}
	if _, err := lib.Template("linux/nothing"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
}

func TestNamesJoinBothTrees(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "templates", "mine"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "templates", "mine", "own.textfsm"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	names, err := NewLibrary(dir).Names()
	if err != nil || !slices.Contains(names, "mine/own") || !slices.Contains(names, "f5_bigip/software_status") || !slices.IsSorted(names) {
		t.Errorf("%v %v", names, err)
	}
	if _, err := NewLibrary(filepath.Join(dir, "absent")).Names(); err != nil {
		t.Error(err)
	}
}
