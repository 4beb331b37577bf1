//go:build linux

package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// following is a log that is followed in the background by a shell of this machine.
type following struct {
	line   chan string
	err    chan error
	cancel context.CancelCauseFunc

	mu sync.Mutex
	at logPlace
}

func follow(t *testing.T, conn device.Conn, file, expr string, from logPlace) *following {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	f := &following{line: make(chan string, 1), err: make(chan error, 1), cancel: cancel}
	opened := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		line, _, err := followLog(ctx, conn, runName(t), file, false, regexp.MustCompile(expr), from, time.Hour, func() { close(opened) }, func(at logPlace) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.at = at
		})
		f.line <- line
		f.err <- err
	}()
	t.Cleanup(func() {
		cancel(context.Canceled)
		<-done
	})
	select {
	case <-opened:
	case err := <-f.err:
		t.Fatalf("%q: %v", <-f.line, err)
	case <-time.After(time.Minute):
		t.Fatal("the log is not opened")
	}
	return f
}

func (f *following) found(t *testing.T) string {
	t.Helper()
	select {
	case line := <-f.line:
		if err := <-f.err; err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return line
	case <-time.After(time.Minute):
		t.Fatal("no line matched")
		return ""
	}
}

func (f *following) place() logPlace {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// reach waits until the log was read up to an offset.
func (f *following) reach(t *testing.T, offset int64) {
	t.Helper()
	late := time.After(time.Minute)
	for f.place().Offset != offset {
		select {
		case <-late:
			t.Fatalf("read up to %+v, want %d", f.place(), offset)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestFollowLog: B10, from the end on; D7, no line is missed or cut in two; B11 and
// D9, through rotations of both kinds while lines keep coming.
func TestFollowLog(t *testing.T) {
	t.Parallel()
	shells(t, func(t *testing.T, conn device.Conn) {
		write := func(t *testing.T, before string) string {
			t.Helper()
			log := filepath.Join(t.TempDir(), "messages")
			appendLog(t, log, before)
			return log
		}
		t.Run("from the end on", func(t *testing.T) {
			t.Parallel()
			log := write(t, "an old FAILED line\n")
			f := follow(t, conn, log, "FAILED", logPlace{})
			appendLog(t, log, "fine\n")
			appendLog(t, log, "a new FAI")
			f.reach(t, int64(len("an old FAILED line\nfine\n")))
			appendLog(t, log, "LED line\r\n")
			if got := f.found(t); got != "a new FAILED line" {
				t.Errorf("got %q", got)
			}
		})
		t.Run("renamed", func(t *testing.T) {
			t.Parallel()
			log := write(t, "begin\n")
			f := follow(t, conn, log, "line 3", logPlace{})
			// The daemon writes to the old file for a while.
			old, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = old.Close() }()
			if err := os.Rename(log, log+".1"); err != nil {
				t.Fatal(err)
			}
			if _, err := old.WriteString("line 1\nline 2\n"); err != nil {
				t.Fatal(err)
			}
			f.reach(t, int64(len("begin\nline 1\nline 2\n")))
			appendLog(t, log, "line 3\n")
			if got := f.found(t); got != "line 3" {
				t.Errorf("got %q", got)
			}
		})
		t.Run("last line of the old file", func(t *testing.T) {
			t.Parallel()
			log := write(t, "begin\n")
			f := follow(t, conn, log, "FAILED", logPlace{})
			old, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = old.Close() }()
			if _, err := old.WriteString("it FAILED\n"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(log, log+".1"); err != nil {
				t.Fatal(err)
			}
			appendLog(t, log, "a new log\n")
			if got := f.found(t); got != "it FAILED" {
				t.Errorf("got %q", got)
			}
		})
		t.Run("truncated", func(t *testing.T) {
			t.Parallel()
			log := write(t, "begin, and more of it\n")
			f := follow(t, conn, log, "FAILED", logPlace{})
			f.reach(t, int64(len("begin, and more of it\n")))
			if err := os.Truncate(log, 0); err != nil {
				t.Fatal(err)
			}
			f.reach(t, 0)
			appendLog(t, log, "FAILED\n")
			if got := f.found(t); got != "FAILED" {
				t.Errorf("got %q", got)
			}
		})
		t.Run("gone on with", func(t *testing.T) {
			t.Parallel()
			log := write(t, "begin\n")
			f := follow(t, conn, log, "FAILED", logPlace{})
			appendLog(t, log, "one\n")
			f.reach(t, int64(len("begin\none\n")))
			f.cancel(context.Canceled)
			if err := <-f.err; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			appendLog(t, log, "it FAILED meanwhile\n")
			if err := os.Rename(log, log+".1"); err != nil {
				t.Fatal(err)
			}
			appendLog(t, log, "a new log\n")
			if got := follow(t, conn, log, "FAILED", f.place()).found(t); got != "it FAILED meanwhile" {
				t.Errorf("got %q", got)
			}
		})
		t.Run("repeated", func(t *testing.T) {
			t.Parallel()
			// The daemon is not signalled; what it writes instead of the line counts.
			log := write(t, "x\nno space left in response line\n")
			f := follow(t, conn, log, "no space left", logPlace{})
			appendLog(t, log, "Nov 20 10:00:00 host last message repeated 2 times\n")
			if got := f.found(t); !strings.HasSuffix(got, "repeated 2 times") {
				t.Errorf("got %q", got)
			}
		})
		t.Run("another repeated", func(t *testing.T) {
			t.Parallel()
			log := write(t, "no space left\nsomething else\n")
			f := follow(t, conn, log, "no space left", logPlace{})
			appendLog(t, log, "last message repeated 2 times\nno space left now\n")
			if got := f.found(t); got != "no space left now" {
				t.Errorf("got %q", got)
			}
		})
		t.Run("cannot be read", func(t *testing.T) {
			t.Parallel()
			_, _, err := followLog(t.Context(), conn, runName(t), "/no/such/log", false, regexp.MustCompile("x"), logPlace{}, time.Hour, func() {}, func(logPlace) {})
			if !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "--log") {
				t.Errorf("got %v", err)
			}
		})
	})
}

// FuzzLogMatcher: what a log holds neither breaks the matcher nor moves its place,
// however it is cut into pieces.
func FuzzLogMatcher(f *testing.F) {
	f.Add("a\nb\n", 1)
	f.Add("@capfleet-00 1 2 3\nFAILED\n", 3)
	f.Add(strings.Repeat("x", maxLogLine+10)+"FAILED\n", 4096)
	f.Add("\n\n\r\n\x00\xff", 2)
	f.Fuzz(func(t *testing.T, text string, piece int) {
		m := newLogMatcher(regexp.MustCompile("FAILED"))
		head := fmt.Sprintf("\n@%s 77 100 100\n", m.token)
		for all, n := []byte(head+text), max(1, piece%5000); len(all) > 0; {
			n = min(n, len(all))
			if got, err := m.Write(all[:n]); got != n || err != nil {
				t.Fatal(got, err)
			}
			all = all[n:]
		}
		at, ok := m.where()
		if want := int64(100 + strings.LastIndexByte(text, '\n') + 1); !ok || at != (logPlace{"77", want}) {
			t.Errorf("at %+v, want %d", at, want)
		}
		want := false
		for line := range strings.Lines(text) {
			whole := strings.TrimSuffix(line, "\n")
			want = want || whole != line && strings.Contains(whole[:min(len(whole), maxLogLine)], "FAILED")
		}
		if repeated.MatchString(text) {
			return // counts by the line before it
		}
		if got := len(m.found) == 1; got != want {
			t.Errorf("found %v, want %v", got, want)
		}
	})
}
