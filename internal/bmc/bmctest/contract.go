package bmctest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/bmc"
	"capfleet/internal/fault"
)

// Subject makes BMCs for the contract and readers of them.
type Subject struct {
	// Serve gives a BMC with a log, as long as the test runs.
	Serve func(t testing.TB, log [][]byte) bmc.Target
	// Silent gives a place that takes what is sent and answers nothing.
	Silent func(t testing.TB) bmc.Target
	// Open makes the reader.
	Open func(t testing.TB, target bmc.Target) bmc.Reader
	// Expect is what the protocol can tell of a record; nil for all of it.
	Expect func(bmc.Entry) bmc.Entry
}

// stopWithin is how soon a reader returns once its context is over. It promises 100
// ms; the margin is for a machine that has more to do than it can, and still well
// below what a reader waits for an answer.
const stopWithin = 5 * time.Second

// Run checks the contract of bmc.Reader.
func Run(t *testing.T, log [][]byte, s Subject) {
	t.Helper()
	want := make([]bmc.Entry, 0, len(log))
	for _, raw := range log {
		e, err := bmc.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if s.Expect != nil {
			e = s.Expect(e)
		}
		want = append(want, e)
	}

	t.Run("WholeLogEachTime", func(t *testing.T) {
		t.Parallel()
		reader := s.Open(t, s.Serve(t, log))
		for range 2 {
			got, err := reader.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Entries); diff != "" {
				t.Error(diff)
			}
			if got.Protocol == "" || got.Protocol == bmc.Auto {
				t.Errorf("read by %q", got.Protocol)
			}
		}
	})
	t.Run("SeveralAtOnce", func(t *testing.T) {
		t.Parallel()
		reader := s.Open(t, s.Serve(t, log))
		failed := make(chan error)
		for range 3 {
			go func() {
				got, err := reader.Read(t.Context())
				if err == nil && !cmp.Equal(want, got.Entries) {
					err = errors.New("another log")
				}
				failed <- err
			}()
		}
		for range 3 {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("EmptyLog", func(t *testing.T) {
		t.Parallel()
		got, err := s.Open(t, s.Serve(t, nil)).Read(t.Context())
		if err != nil || len(got.Entries) != 0 {
			t.Errorf("%d entries, %v", len(got.Entries), err)
		}
	})
	t.Run("WrongPassword", func(t *testing.T) {
		t.Parallel()
		target := s.Serve(t, log)
		target.Password = wrongPassword
		got, err := s.Open(t, target).Read(t.Context())
		if !fault.Is(err, fault.Auth) || len(got.Entries) != 0 {
			t.Errorf("%d entries, kind %s: %v", len(got.Entries), fault.KindOf(err), err)
		}
	})
	t.Run("WrongUser", func(t *testing.T) {
		t.Parallel()
		target := s.Serve(t, log)
		target.Username = "nobody"
		if _, err := s.Open(t, target).Read(t.Context()); !fault.Is(err, fault.Auth) {
			t.Errorf("kind %s: %v", fault.KindOf(err), err)
		}
	})
	t.Run("StopsWithItsContext", func(t *testing.T) {
		t.Parallel()
		reader := s.Open(t, s.Silent(t))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := reader.Read(ctx)
		end, _ := ctx.Deadline()
		if late := time.Since(end); late > stopWithin {
			t.Errorf("stopped %v after its context", late)
		}
		if !fault.Is(err, fault.Timeout) {
			t.Errorf("kind %s: %v", fault.KindOf(err), err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := reader.Read(over); !fault.Is(err, fault.Canceled) {
			t.Errorf("kind %s: %v", fault.KindOf(err), err)
		}
	})
}
