package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	case len(target.Username) > rmcpplus.MaxUserNameLength:
		return nil, fault.New(fault.Invalid, "the user name %q of the BMC %s is longer than the %d bytes of IPMI", target.Username, target.Host, rmcpplus.MaxUserNameLength)
	case len(target.Password.Reveal()) > maxPassword:
		return nil, fault.New(fault.Invalid, "the password of the BMC %s is longer than the %d bytes of IPMI", target.Host, maxPassword)
	}
	return &lanReader{target, opts}, nil
}

func (r *lanReader) Read(ctx context.Context) (Log, error) {
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
	log.Entries, log.Erased, log.Full, err = readAll(ctx, session)
	return log, r.explain("read event log of BMC "+r.target.Host, err)
}

// readAll reads the log between two looks at when it was last erased: a log that
// was cleared meanwhile is not one log.
func readAll(ctx context.Context, source entrySource) (entries []Entry, erased *time.Time, full bool, err error) {
	before, told, err := logInfo(ctx, source)
	if err != nil {
		return nil, nil, false, err
	}
	if entries, err = walk(ctx, source); err != nil || !told {
		return entries, nil, false, err
	}
	after, told, err := logInfo(ctx, source)
	switch {
	case err != nil:
		return entries, nil, false, err
	case told && !after.RecentEraseTime.Equal(before.RecentEraseTime):
		return entries, nil, false, fault.New(fault.Busy, "the log was erased while it was read")
	}
	if seconds := after.RecentEraseTime.Unix(); told && seconds > 0 && seconds < unspecified {
		utc := after.RecentEraseTime.UTC()
		erased = &utc
	}
	return entries, erased, told && after.OperationSupport.Overflow, nil
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

// walk follows the chain of next ids, which a BMC may let run in a circle.
func walk(ctx context.Context, source entrySource) ([]Entry, error) {
	var entries []Entry
	seen := map[uint16]bool{}
	for id := uint16(selFirst); id != selNone; {
		if seen[id] {
			return entries, fault.New(fault.Unparsed, "the chain of its records comes back to record %d after %d records", id, len(entries))
		}
		seen[id] = true
		reply := &storage.GetSELEntryResponse{}
		err := source.command(ctx, &storage.GetSELEntryRequest{RecordID: id, ReadBytes: wholeRecord}, reply)
		if refused, is := errors.AsType[*types.ResponseError](err); is && refused.CompletionCode() == codeNotPresent {
			if id == selFirst {
				return nil, nil // the log is empty
			}
			return entries, fault.New(fault.Busy, "record %d went while the log was read: it was cleared", id)
		}
		if err != nil {
			return entries, err
		}
		entry, err := Decode(reply.Data)
		if err != nil {
			return entries, err
		}
		if len(entries) == maxRecords {
			return entries, fault.New(fault.TooLarge, "it has more than %d records", maxRecords)
		}
		entries = append(entries, entry)
		if id = reply.NextRecordID; id == selFirst {
			return entries, fault.New(fault.Unparsed, "record %d says that record 0 comes next, which is none", entry.RecordID)
		}
	}
	return entries, nil
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
