package secret_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"capfleet/internal/secret"
)

// runs counts the lines that a command wrote into its log.
func runs(t testing.TB, log string) int {
	t.Helper()
	raw, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(raw), "\n")
}

func TestManyAtOnceAreOneRun(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{"good": "echo correct", "bad": "echo denied >&2; exit 1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r secret.Resolver
			defer r.Close()
			log := filepath.Join(t.TempDir(), "log")
			ref := script(t, `echo run >> "$1"; `+end, log)
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					got, err := r.Resolve(t.Context(), ref)
					if name == "good" && (err != nil || got.Reveal() != "correct") {
						t.Errorf("%q, %v", got.Reveal(), err)
					}
					if name == "bad" {
						says(t, err, "exit status 1: denied")
					}
				})
			}
			wg.Wait()
			if n := runs(t, log); n != 1 {
				t.Errorf("the command ran %d times", n)
			}
			// Another secret is another run, with the same program.
			if _, err := r.Resolve(t.Context(), script(t, `echo run >> "$1"; `+end, log, "other")); (err == nil) != (name == "good") {
				t.Error(err)
			}
			if n := runs(t, log); n != 2 {
				t.Errorf("two commands ran %d times", n)
			}
		})
	}
}

// What is held is read again after ten seconds: a renewed secret is taken up. An
// age file needs no process, so the time can be that of synctest.
func TestHeldForTenSeconds(t *testing.T) {
	dir := t.TempDir()
	id := identity(t)
	ref := secret.Ref{Age: secret.Age{Identity: write(t, dir, "id", id.String()), File: write(t, dir, "file", seal(t, false, "old", id.Recipient()))}}
	synctest.Test(t, func(t *testing.T) {
		var r secret.Resolver
		defer r.Close()
		want := func(value string) {
			t.Helper()
			if got, err := r.Resolve(t.Context(), ref); err != nil || got.Reveal() != value {
				t.Errorf("%q, %v; want %q", got.Reveal(), err, value)
			}
		}
		want("old")
		synctest.Wait()
		write(t, dir, "file", seal(t, false, "new", id.Recipient()))
		time.Sleep(10*time.Second - time.Nanosecond)
		want("old")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		want("new")
		synctest.Wait()
		write(t, dir, "file", "damaged")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if _, err := r.Resolve(t.Context(), ref); err == nil {
			t.Error("a damaged file was read")
		}
	})
}

// What is cheap is read each time.
func TestFilesAreNotHeld(t *testing.T) {
	t.Parallel()
	var r secret.Resolver
	defer r.Close()
	dir := t.TempDir()
	for _, value := range []string{"one", "two"} {
		ref := secret.Ref{File: write(t, dir, "f", value)}
		if got, err := r.Resolve(t.Context(), ref); err != nil || got.Reveal() != value {
			t.Errorf("%q, %v; want %q", got.Reveal(), err, value)
		}
	}
}

// Whoever leaves does not take the others' reading with him; when the last has
// left, it ends, and the next one starts anew.
func TestLeavingAndComing(t *testing.T) {
	t.Parallel()
	var r secret.Resolver
	defer r.Close()
	dir := t.TempDir()
	gate, log := filepath.Join(dir, "gate"), filepath.Join(dir, "log")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	ref := script(t, `echo run >> "$2"; read -r line < "$1"; echo "$line"`, gate, log)
	ctx, cancel := context.WithCancel(t.Context())
	leaver, stayer := make(chan error, 1), make(chan error, 1)
	go func() { _, err := r.Resolve(ctx, ref); leaver <- err }()
	go func() {
		got, err := r.Resolve(t.Context(), ref)
		if err == nil && got.Reveal() != "through" {
			err = errors.New("got " + got.Reveal())
		}
		stayer <- err
	}()
	for start := time.Now(); r.Waiting(ref) < 2; runtime.Gosched() {
		if time.Since(start) > 10*time.Second {
			t.Fatal("the two do not share a reading")
		}
	}
	cancel()
	if err := <-leaver; !errors.Is(err, context.Canceled) {
		t.Errorf("who left was told %v", err)
	}
	// The command waits for it: opening for writing waits for the command.
	if err := os.WriteFile(gate, []byte("through\n"), 0); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stayer:
		if err != nil {
			t.Errorf("who stayed was told %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("who stayed waits for ever")
	}
	if n := runs(t, log); n != 1 {
		t.Errorf("the command ran %d times", n)
	}
}

// A command that nobody waits for any more is ended; whoever comes next starts
// it anew.
func TestTheLastLeaves(t *testing.T) {
	t.Parallel()
	var r secret.Resolver
	defer r.Close()
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	ref := script(t, `echo $$ > "$1"; sleep 600; echo never`, gate)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { _, err := r.Resolve(ctx, ref); left <- err }()
		raw, err := os.ReadFile(gate) // it runs
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left was told %v", err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); !gone(pid); {
			if time.Since(start) > 5*time.Second {
				t.Fatalf("process %d still runs", pid)
			}
		}
	}
}

// Close ends what runs, and nothing is read afterwards.
func TestClose(t *testing.T) {
	t.Parallel()
	var r secret.Resolver
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	ref := script(t, `echo on > "$1"; sleep 600`, gate)
	failed := make(chan error, 1)
	go func() { _, err := r.Resolve(t.Context(), ref); failed <- err }()
	if _, err := os.ReadFile(gate); err != nil { // it runs
		t.Fatal(err)
	}
	start := time.Now()
	r.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("closing took %v", took)
	}
	says(t, <-failed, "was cut short")
	_, err := r.Resolve(t.Context(), ref)
	says(t, err, "not read any more")
}
