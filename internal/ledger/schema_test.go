package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/ledger"
)

func migrations(list ...ledger.Migration) func(*ledger.Options) {
	return func(o *ledger.Options) { o.Migrations = list }
}

func appendTo(key, value string) func(*ledger.Tx) error {
	return func(tx *ledger.Tx) error {
		return tx.Put(ns, []byte(key), append(slices.Clone(tx.Get(ns, []byte(key))), value...))
	}
}

func TestMigrates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	if err := errors.Join(db.Update(t.Context(), set("a", "1")), db.Close()); err != nil {
		t.Fatal(err)
	}
	second := ledger.Migration{To: 2, Name: "second", Apply: appendTo("a", "+2")}
	third := ledger.Migration{To: 3, Name: "third", Apply: appendTo("a", "+3")}

	broken := third
	broken.Apply = func(tx *ledger.Tx) error {
		_ = tx.Put(ns, []byte("a"), []byte("spoilt"))
		return errors.New("cannot")
	}
	_, err := ledger.Open(path, ledger.Options{Namespaces: []ledger.Namespace{ns}, Migrations: []ledger.Migration{second, broken}})
	if err == nil || !strings.Contains(err.Error(), "third") || !strings.Contains(err.Error(), path+".schema-1") {
		t.Fatalf("a migration that fails: %v", err)
	}

	db = open(t, path, migrations(second, third))
	if got := read(t, db, "a"); got != "1+2+3" {
		t.Errorf("a is %q", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	backup := open(t, path+".schema-1")
	if got := read(t, backup, "a"); got != "1" {
		t.Errorf("the backup has %q", got)
	}

	db = open(t, path, migrations(second, third)) // nothing to do now
	if got := read(t, db, "a"); got != "1+2+3" {
		t.Errorf("a is %q", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = ledger.Open(path, ledger.Options{Namespaces: []ledger.Namespace{ns}, Migrations: []ledger.Migration{second}})
	if !fault.Is(err, fault.Storage) || !strings.Contains(err.Error(), "newer fleetd") || !strings.Contains(err.Error(), "schema 3") {
		t.Errorf("a newer schema: %v", err)
	}
}

func TestNewFileHasTheLatestSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	never := ledger.Migration{To: 2, Name: "never", Apply: func(*ledger.Tx) error { return errors.New("must not run") }}
	open(t, path, migrations(never))
	if _, err := os.Stat(path + ".schema-1"); err == nil {
		t.Error("a new file was backed up")
	}
}

func TestDeclarations(t *testing.T) {
	apply := func(*ledger.Tx) error { return nil }
	tests := map[string]ledger.Options{
		"twice":         {Namespaces: []ledger.Namespace{"a", "a"}},
		"empty":         {Namespaces: []ledger.Namespace{""}},
		"reserved":      {Namespaces: []ledger.Namespace{"ledger"}},
		"gap in schema": {Migrations: []ledger.Migration{{To: 3, Name: "x", Apply: apply}}},
		"no function":   {Migrations: []ledger.Migration{{To: 2, Name: "x"}}},
	}
	for name, opts := range tests {
		path := filepath.Join(t.TempDir(), "ledger.db")
		if _, err := ledger.Open(path, opts); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file was made", name)
		}
	}
}

func TestAddsNamespaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, path)
	if err := errors.Join(db.Update(t.Context(), set("a", "1")), db.Close()); err != nil {
		t.Fatal(err)
	}
	db = open(t, path, func(o *ledger.Options) { o.Namespaces = append(o.Namespaces, "more") })
	if err := db.Update(t.Context(), func(tx *ledger.Tx) error { return tx.Put("more", []byte("b"), nil) }); err != nil {
		t.Error(err)
	}
	if got := read(t, db, "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
}
