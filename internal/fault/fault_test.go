package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"capfleet/internal/fault"
)

func TestEveryKindHasItsTraits(t *testing.T) {
	t.Parallel()
	seen := map[fault.Kind]bool{}
	for _, k := range fault.Kinds() {
		if seen[k] {
			t.Errorf("%s is listed twice", k)
		}
		seen[k] = true
		if s := k.HTTPStatus(); s < 400 || s > 599 {
			t.Errorf("%s: status %d is not an error status", k, s)
		}
		switch k.ExitCode() {
		case fault.ExitFailed, fault.ExitUsage, fault.ExitUnavailable:
		default:
			t.Errorf("%s: exit code %d is not one of an error", k, k.ExitCode())
		}
	}
	if fault.Kind("no such kind").HTTPStatus() != 500 {
		t.Error("an unknown kind must be a server error")
	}
}

// A retry of any of these does harm or cannot help: it locks an account, sends a
// credential to an impostor, or repeats what the device has refused.
func TestKindsThatAreNeverRetried(t *testing.T) {
	t.Parallel()
	for _, k := range []fault.Kind{fault.Auth, fault.HostKey, fault.Refused, fault.Unparsed, fault.Invalid,
		fault.Denied, fault.Canceled, fault.Internal, fault.TooLarge, fault.Storage} {
		if k.Retryable() {
			t.Errorf("%s must not be retried", k)
		}
	}
	for _, k := range []fault.Kind{fault.Unreachable, fault.Timeout, fault.Disconnected, fault.Busy} {
		if !k.Retryable() {
			t.Errorf("%s should be retried", k)
		}
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	for want, err := range map[string]*fault.Error{
		"open session on nyc-probe-3: connection refused (is sshd running?)": {
			Kind: fault.Unreachable, Act: "open session", Device: "nyc-probe-3", Err: cause, Next: "is sshd running?"},
		"dial nyc-probe-3: connection refused": {Act: "dial nyc-probe-3", Device: "nyc-probe-3", Err: cause},
		"connection refused":                   {Err: cause},
		"read inventory":                       {Act: "read inventory"},
	} {
		if got := err.Error(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestKindTravelsThroughWrapping(t *testing.T) {
	t.Parallel()
	inner := &fault.Error{Kind: fault.Auth, Stage: "auth", Device: "a", Err: errors.New("no")}
	wrapped := fmt.Errorf("job 3: %w", fault.Wrap(fault.Internal, "run report", inner))
	if got := fault.KindOf(wrapped); got != fault.Auth {
		t.Errorf("kind = %s, want auth: wrapping must not hide what went wrong", got)
	}
	if got := fault.StageOf(wrapped); got != "auth" {
		t.Errorf("stage = %q, want auth", got)
	}
	if fault.Wrap(fault.Internal, "x", nil) != nil {
		t.Error("wrapping nil must stay nil")
	}
	for err, want := range map[error]fault.Kind{
		context.Canceled:         fault.Canceled,
		context.DeadlineExceeded: fault.Timeout,
		errors.New("x"):          fault.Internal,
	} {
		if got := fault.KindOf(fmt.Errorf("y: %w", err)); got != want {
			t.Errorf("KindOf(%v) = %s, want %s", err, got, want)
		}
	}
	if fault.Is(nil, fault.Internal) {
		t.Error("nil is of no kind")
	}
}
