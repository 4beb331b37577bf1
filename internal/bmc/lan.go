package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/command/storage"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"

	"capfleet/internal/fault"
)

const (
	lanPort = 623

	selFirst, selNone = 0x0000, 0xffff
	wholeRecord       = 0xff

	// maxPassword is the longest IPMI 2.0 password, in bytes.
	maxPassword = 20
)

// Completion codes (IPMI 2.0, tables 5-2 and 31).
const (
	codeEraseInProgress = 0x81
	codeNodeBusy        = 0xc0
	codeInvalidCommand  = 0xc1
	codeOutOfSpace      = 0xc4
	codeNotPresent      = 0xcb
	codePrivilege       = 0xd4
)

// lanReader reads over IPMI 2.0 (RMCP+) with Get SEL Info and Get SEL Entry and
// nothing else. The session is of privilege level User, with which a BMC lets
// nobody write.
type lanReader struct {
	target Target
	opts   Options
}

func newLAN(target Target, opts Options) (*lanReader, error) {
	switch {
	case target.Dial != nil:
		return nil, &fault.Error{Kind: fault.Unsupported, Act: "reach BMC " + target.Host, Stage: "jump", Err: errors.New("IPMI is UDP, and a jump host forwards TCP alone"),
			Next: "set the BMC's protocol to redfish or supermicro_web, or its jump to none"}
	case len(target.Username) > rmcpplus.MaxUserNameLength:
		return nil, fault.New(fault.Invalid, "the user name %q of the BMC %s is longer than the %d bytes of IPMI", target.Username, target.Host, rmcpplus.MaxUserNameLength)
	case len(target.Password.Reveal()) > maxPassword:
		return nil, fault.New(fault.Invalid, "the password of the BMC %s is longer than the %d bytes of IPMI", target.Host, maxPassword)
	}
	return &lanReader{target, opts}, nil
}

func (r *lanReader) Read(ctx context.Context) (Log, error) { return r.Resume(ctx, Log{}) }

var _ Resumer = (*lanReader)(nil)

// Resume implements Resumer.
func (r *lanReader) Resume(ctx context.Context, before Log) (Log, error) {
	log := Log{Protocol: IPMILan}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", r.target.address(lanPort))
	if err != nil {
		return log, fault.Wrap(fault.Unreachable, "reach BMC "+r.target.Host, err)
	}
	defer func() { _ = conn.Close() }()
	// A read in progress ends with the context.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(aLongTimeAgo) })()

	session, err := openSession(ctx, conn, r.target, r.opts)
	if err != nil {
		return log, r.explain("open IPMI session with BMC "+r.target.Host, err)
	}
	defer session.close(ctx)
	err = readAll(ctx, session, before, &log)
	return log, r.explain("read event log of BMC "+r.target.Host, err)
}

// readAll reads the log between two looks at when it was last erased: a log that
// was cleared meanwhile is not one log.
func readAll(ctx context.Context, source entrySource, before Log, log *Log) error {
	info, told, err := logInfo(ctx, source)
	if err != nil {
		return err
	}
	resumed := false
	if told && before.Stamp != nil && before.Protocol == IPMILan && before.Stamp.Erased == stampOf(info).Erased {
		if log.Entries, resumed, err = resume(ctx, source, before.Entries, int(info.Entries)); err != nil {
			return err
		}
	}
	if !resumed {
		if log.Entries, err = walk(ctx, source, selFirst, nil, nil); err != nil || !told {
			return err
		}
	}
	after, told, err := logInfo(ctx, source)
	switch {
	case err != nil || !told:
		return err
	case !after.RecentEraseTime.Equal(info.RecentEraseTime):
		return fault.New(fault.Busy, "the log was erased while it was read")
	}
	stamp := stampOf(after)
	if stamp.Records = len(log.Entries); stamp.Erased > 0 && stamp.Erased < unspecified {
		erased := time.Unix(int64(stamp.Erased), 0).UTC()
		log.Erased = &erased
	}
	log.Stamp, log.Full = &stamp, after.OperationSupport.Overflow
	return nil
}

func stampOf(info storage.GetSELInfoResponse) Stamp {
	seconds := func(t time.Time) uint32 {
		if s := t.Unix(); s > 0 && s <= unspecified {
			return uint32(s)
		}
		return 0
	}
	return Stamp{int(info.Entries), seconds(info.RecentAdditionTime), seconds(info.RecentEraseTime)}
}

// resume goes on after the last record that was read before. The log is the same
// one where nothing was erased since, its first and its last record of then are
// there, byte for byte, and what was added makes up the count; ok is false where
// any of that does not hold.
func resume(ctx context.Context, source entrySource, before []Entry, count int) (entries []Entry, ok bool, err error) {
	if len(before) == 0 || count < len(before) {
		return nil, false, nil
	}
	first, last := before[0], before[len(before)-1]
	have, _, present, err := entryAt(ctx, source, selFirst)
	if err != nil || !present || have.Raw != first.Raw {
		return nil, false, err
	}
	if last.RecordID == selFirst || last.RecordID >= selNone {
		return nil, false, nil
	}
	have, next, present, err := entryAt(ctx, source, uint16(last.RecordID)) //nolint:gosec // compared above
	if err != nil || !present || have.Raw != last.Raw || next == selFirst {
		return nil, false, err
	}
	entries = slices.Clone(before)
	if next != selNone {
		seen := make(map[uint16]bool, len(before))
		for _, e := range before {
			seen[uint16(e.RecordID)] = true //nolint:gosec // they came from records, which have 16 bits
		}
		if entries, err = walk(ctx, source, next, entries, seen); err != nil {
			return nil, false, err
		}
	}
	return entries, len(entries) >= count, nil
}

// logInfo asks Get SEL Info. A BMC that does not know it, or answers it with
// something else, tells nothing; that is no error.
func logInfo(ctx context.Context, source entrySource) (info storage.GetSELInfoResponse, told bool, err error) {
	err = source.command(ctx, &storage.GetSELInfoRequest{}, &info)
	if _, refused := errors.AsType[*types.ResponseError](err); refused || fault.Is(err, fault.Unparsed) {
		return info, false, nil
	}
	return info, err == nil, err
}

// entrySource answers Get SEL Entry.
type entrySource interface {
	command(ctx context.Context, request types.Request, response types.Response) error
}

// walk follows the chain of next ids from id on, which a BMC may let run in a
// circle, and adds to the entries that were read before it.
func walk(ctx context.Context, source entrySource, id uint16, entries []Entry, seen map[uint16]bool) ([]Entry, error) {
	if seen == nil {
		seen = map[uint16]bool{}
	}
	for id != selNone {
		if seen[id] {
			return entries, fault.New(fault.Unparsed, "the chain of its records comes back to record %d after %d records", id, len(entries))
		}
		seen[id] = true
		entry, next, present, err := entryAt(ctx, source, id)
		switch {
		case err != nil:
			return entries, err
		case !present && id == selFirst:
			return nil, nil // the log is empty
		case !present:
			return entries, fault.New(fault.Busy, "record %d went while the log was read: it was cleared", id)
		case len(entries) == maxRecords:
			return entries, fault.New(fault.TooLarge, "it has more than %d records", maxRecords)
		}
		entries = append(entries, entry)
		if id = next; id == selFirst {
			return entries, fault.New(fault.Unparsed, "record %d says that record 0 comes next, which is none", entry.RecordID)
		}
	}
	return entries, nil
}

// entryAt reads one record and the id of the next.
func entryAt(ctx context.Context, source entrySource, id uint16) (entry Entry, next uint16, present bool, err error) {
	reply := &storage.GetSELEntryResponse{}
	err = source.command(ctx, &storage.GetSELEntryRequest{RecordID: id, ReadBytes: wholeRecord}, reply)
	if refused, is := errors.AsType[*types.ResponseError](err); is && refused.CompletionCode() == codeNotPresent {
		return entry, 0, false, nil
	}
	if err != nil {
		return entry, 0, false, err
	}
	entry, err = Decode(reply.Data)
	return entry, reply.NextRecordID, err == nil, err
}

// close ends the session. The BMC forgets it by itself after a minute where the
// datagram is lost; an answer is waited for only while there is time.
func (s *session) close(ctx context.Context) {
	request := &app.CloseSessionRequest{SessionID: s.bmcID}
	if ctx.Err() != nil {
		_ = s.sendOnce(request)
		return
	}
	_ = s.command(ctx, request, &app.CloseSessionResponse{})
}

// explain gives what the BMC said a kind and a next step.
func (r *lanReader) explain(act string, err error) error {
	if err == nil {
		return nil
	}
	kind, next := fault.Unparsed, ""
	if refused, is := errors.AsType[*types.ResponseError](err); is {
		kind = fault.Refused
		switch refused.CompletionCode() {
		case codeEraseInProgress, codeNodeBusy, codeOutOfSpace:
			kind = fault.Busy
		case codeInvalidCommand:
			kind = fault.Unsupported
		case codePrivilege:
			kind, next = fault.Auth, "the account needs the privilege level User on the LAN channel"
		}
		err = fmt.Errorf("the BMC answers completion code 0x%02x", uint8(refused.CompletionCode()))
	}
	if status, is := errors.AsType[*types.RmcpStatusError](err); is {
		switch status.StatusCode() {
		case types.RmcpStatusCodeNoResToCreateSess, types.RmcpStatusCodeNoResToCreateSessAtRole:
			kind, next = fault.Busy, "it has no session left"
		case types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeUnauthorizedRoleOfPriLevel,
			types.RmcpStatusCodeInvalidRole, types.RmcpStatusCodeInvalidIntegrityCheckValue, types.RmcpStatusCodeInvalidNameLength:
			kind, next = fault.Auth, "check user name, password and the account's IPMI privilege"
		case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeInvalidConfidentAlg,
			types.RmcpStatusCodeNoCipherSuiteMatch, types.RmcpStatusCodeNoMatchingAuthPayload, types.RmcpStatusCodeNoMatchingIntegrityPayload:
			kind, next = fault.Unsupported, "allow cipher suite 17 or 3 on the BMC"
		default:
			kind = fault.Refused
		}
	}
	if have, is := errors.AsType[*fault.Error](err); is {
		kind = have.Kind
	} else if errors.Is(err, context.Canceled) {
		kind = fault.Canceled
	} else if errors.Is(err, context.DeadlineExceeded) {
		kind = fault.Timeout
	}
	return &fault.Error{Kind: kind, Act: act, Stage: "ipmi", Next: next, Err: err}
}
