package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// status ends a command with an exit code when everything has been said.
type status int

func (s status) Error() string { return fmt.Sprintf("exit code %d", int(s)) }

// statusOf is the status as an error; done is none.
func statusOf(code int) error {
	if code == fault.ExitDone {
		return nil
	}
	return status(code)
}

// precedence of the exit codes when several apply, the strongest first.
func precedence() []int {
	return []int{fault.ExitInterrupted, fault.ExitUsage, fault.ExitUnavailable, fault.ExitFailed, fault.ExitFound, fault.ExitSomeFailed, fault.ExitDone}
}

// strongest gives the code that wins.
func strongest(codes ...int) int {
	for _, code := range precedence() {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return fault.ExitFailed
}

// exitCode gives the exit code for an error of a command.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return fault.ExitDone
	}
	if ctx.Err() != nil {
		return fault.ExitInterrupted
	}
	return codeOf(err)
}

// codeOf is exitCode of an error by itself.
func codeOf(err error) int {
	var st status
	if errors.As(err, &st) {
		return int(st)
	}
	return fault.KindOf(err).ExitCode()
}

// errorText is what is left to say about an error.
func errorText(ctx context.Context, err error) string {
	var st status
	switch {
	case err == nil, errors.As(err, &st):
		return ""
	case ctx.Err() != nil && fault.Is(err, fault.Canceled):
		return "interrupted"
	default:
		return err.Error()
	}
}

// jobCode gives the exit code of a finished job: done when every device is,
// failed when none is, else some failed.
func jobCode(job api.Job) int {
	good, _ := tasksDone(job.Counts)
	switch good {
	case job.Devices:
		return fault.ExitDone
	case 0:
		return fault.ExitFailed
	default:
		return fault.ExitSomeFailed
	}
}

// exitHelp lists exit codes for a command's help.
func exitHelp(codes ...int) string {
	says := map[int]string{
		fault.ExitDone:        "done",
		fault.ExitFailed:      "failed",
		fault.ExitSomeFailed:  "some devices failed",
		fault.ExitUsage:       "wrong usage or input",
		fault.ExitUnavailable: "fleetd not reachable",
		fault.ExitFound:       "a check found something",
		fault.ExitInterrupted: "interrupted",
	}
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, code := range codes {
		fmt.Fprintf(&b, "  %3d  %s\n", code, says[code])
	}
	return strings.TrimRight(b.String(), "\n")
}
