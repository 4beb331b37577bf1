package secret

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A command that asks for something is ended, and that may pass.
func TestCommandThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	c, err := NewCommand("/bin/sh", "-c", "echo half; sleep 600")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.run(t.Context(), 50*time.Millisecond)
	const want = "command /bin/sh did not end within 50ms; it can ask nobody for anything"
	if !errors.Is(err, context.DeadlineExceeded) || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
