package bmc

import (
	"context"
	"errors"
	"strings"

	"capfleet/internal/fault"
)

// First reads with the first of readers that works; Log.Protocol says which. It
// goes on to the next where a BMC does not answer, is not trusted or does not
// speak a protocol, and stops where an account is refused, because the next try
// would count against it, or where a log was read in part.
func First(readers ...Reader) Reader { return first(readers) }

type first []Reader

func (f first) Read(ctx context.Context) (Log, error) {
	var (
		told []string
		best error
	)
	for _, reader := range f {
		log, err := reader.Read(ctx)
		if err == nil || len(log.Entries) > 0 || ctx.Err() != nil {
			return log, err
		}
		switch fault.KindOf(err) {
		case fault.Unreachable, fault.Timeout, fault.Disconnected, fault.Unsupported, fault.Unparsed, fault.Refused, fault.HostKey:
		default:
			return log, err
		}
		if told = append(told, err.Error()); best == nil || moreTelling(err, best) {
			best = err
		}
	}
	if len(told) == 0 {
		return Log{}, fault.New(fault.Invalid, "there is no reader")
	}
	return Log{}, &fault.Error{Kind: fault.KindOf(best), Stage: fault.StageOf(best), Err: errors.New(strings.Join(told, "; "))}
}

// moreTelling prefers the error of somebody who answered.
func moreTelling(err, than error) bool {
	rank := func(err error) int {
		switch fault.KindOf(err) {
		case fault.HostKey:
			return 2
		case fault.Unreachable, fault.Timeout, fault.Unsupported:
			return 0
		default:
			return 1
		}
	}
	return rank(err) > rank(than)
}
