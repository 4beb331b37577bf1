package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// confirm asks before something changes. Where nobody can be asked it wants --yes
// and is wrong usage without it. An answer other than yes is fault.Canceled.
func (a *app) confirm(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.streams.InTerminal || !a.streams.ErrTerminal {
		return &fault.Error{Kind: fault.Invalid, Act: "this needs a confirmation and there is no terminal to ask at", Next: "add --yes"}
	}
	_, _ = fmt.Fprintf(a.streams.Err, "%s [y/N] ", output.CleanBlock(question))
	line, err := a.readLine(ctx)
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	default:
		return fault.New(fault.Canceled, "nothing was done")
	}
}

// readLine reads the next line that is typed. What was read ahead is kept for the
// next question.
func (a *app) readLine(ctx context.Context) (string, error) {
	if a.typed == nil {
		a.typed = bufio.NewReader(a.streams.In)
	}
	return readLine(ctx, a.typed)
}

// readLine reads one line until ctx ends. A read of a terminal cannot be called
// back, so on an interrupt its goroutine is left to the end of the process, which
// follows at once.
func readLine(ctx context.Context, r *bufio.Reader) (string, error) {
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil // end of input is an answer: no
		}
		got <- answer{line, err}
	}()
	select {
	case ans := <-got:
		return ans.line, fault.Wrap(fault.Internal, "read the answer", ans.err)
	case <-ctx.Done():
		return "", fault.Wrap(fault.Canceled, "ask", ctx.Err())
	}
}
