package bmc

import (
	"context"
	"errors"
	"slices"
	"strings"

	"capfleet/internal/fault"
)

// First reads with the first of readers that works; Log.Protocol says which. It
// goes on to the next where a BMC does not answer, is not trusted or does not
// speak a protocol, and stops where an account is refused, because the next try
// would count against it, or where a log was read in part.
func First(readers ...Reader) Reader { return first(readers) }

type first []Reader

func (f first) Read(ctx context.Context) (Log, error) { return f.Resume(ctx, Log{}) }

var _ Resumer = first(nil)

// Resume implements Resumer.
func (f first) Resume(ctx context.Context, before Log) (Log, error) {
	var (
		told []string
		best error
	)
	for _, reader := range f {
		log, err := resumeOrRead(ctx, reader, before)
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

func resumeOrRead(ctx context.Context, reader Reader, before Log) (Log, error) {
	if able, ok := reader.(Resumer); ok {
		return able.Resume(ctx, before)
	}
	return reader.Read(ctx)
}

// autoOrder prefers IPMI, which alone has the bytes of a record on all boards.
func autoOrder() []Protocol { return []Protocol{IPMILan, Redfish, SupermicroWeb} }

// AutoFrom is New of Auto that begins with the protocol that worked before.
func AutoFrom(worked Protocol, target Target, opts Options) (Reader, error) {
	if target.Port != 0 {
		return nil, fault.New(fault.Invalid, "the BMC %s has port %d, but which protocol is there is not said: set one", target.Host, target.Port)
	}
	order := autoOrder()
	if at := slices.Index(order, worked); at > 0 {
		order = slices.Insert(slices.Delete(order, at, at+1), 0, worked)
	}
	var readers []Reader
	for _, protocol := range order {
		// An account that is too long for IPMI, or a jump host, may be right for the others.
		if reader, err := New(protocol, target, opts); err == nil || protocol != IPMILan {
			if err != nil {
				return nil, err
			}
			readers = append(readers, reader)
		}
	}
	return First(readers...), nil
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
