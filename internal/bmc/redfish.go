package bmc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/fault"
)

// redfishReader reads the SEL log service of a Redfish service. It authenticates
// each request (HTTP Basic, which a service must have) and so leaves no session.
type redfishReader struct {
	target Target
	opts   Options
}

const (
	redfishRoot = "/redfish/v1/"
	// maxRequests bounds the requests of one Read: each record may be a link.
	maxRequests = maxRecords + 1000
	// maxMessage bounds what is kept of a message, in bytes.
	maxMessage = 1024
)

// link is a reference to a resource.
type link struct {
	ID string `json:"@odata.id"`
}

// collection is a page of resources, which are links or the resources themselves.
type collection struct {
	Members []json.RawMessage `json:"Members"`
	Count   *int              `json:"Members@odata.count"`
	Next    string            `json:"Members@odata.nextLink"`
}

// logService is one log of a manager or a system.
type logService struct {
	ID           string `json:"Id"`
	LogEntryType string `json:"LogEntryType"`
	Entries      link   `json:"Entries"`
}

// logEntry is an entry as the DMTF's LogEntry schema has it.
type logEntry struct {
	link
	Name         string `json:"Id"`
	Created      string `json:"Created"`
	EntryType    string `json:"EntryType"`
	Severity     string `json:"Severity"`
	EntryCode    string `json:"EntryCode"`
	SensorType   string `json:"SensorType"`
	SensorNumber *int   `json:"SensorNumber"`
	Message      string `json:"Message"`
}

// redfish is one Read.
type redfish struct {
	web      *webClient
	header   http.Header
	requests int
}

func (r *redfishReader) Read(ctx context.Context) (Log, error) {
	log := Log{Protocol: Redfish}
	act := "read event log of BMC " + r.target.Host + " by Redfish"
	web, err := newWebClient(r.target, r.opts)
	if err != nil {
		return log, fault.Wrap(fault.Invalid, act, err)
	}
	defer web.close()
	account := base64.StdEncoding.EncodeToString([]byte(r.target.Username + ":" + r.target.Password.Reveal()))
	s := &redfish{web: web, header: http.Header{"Accept": {"application/json"}, "Authorization": {"Basic " + account}}}
	path, err := s.discover(ctx)
	if err == nil {
		log.Entries, err = s.entries(ctx, path)
	}
	return log, fault.Wrap(fault.Unparsed, act, err)
}

// discover follows the links from the root to the log of type SEL.
func (s *redfish) discover(ctx context.Context) (string, error) {
	var root struct {
		Managers link `json:"Managers"`
		Systems  link `json:"Systems"`
	}
	if err := s.get(ctx, redfishRoot, &root); err != nil {
		return "", err
	}
	likely := ""
	for _, start := range []link{root.Managers, root.Systems} {
		if start.ID == "" {
			continue
		}
		owners, err := s.members(ctx, start.ID)
		if err != nil {
			return "", err
		}
		for _, owner := range owners {
			var holder struct {
				LogServices link `json:"LogServices"`
			}
			if err := s.resolve(ctx, owner, &holder); err != nil {
				return "", err
			}
			if holder.LogServices.ID == "" {
				continue
			}
			services, err := s.members(ctx, holder.LogServices.ID)
			if err != nil {
				return "", err
			}
			for _, raw := range services {
				var service logService
				if err := s.resolve(ctx, raw, &service); err != nil {
					return "", err
				}
				switch {
				case service.Entries.ID == "":
				case strings.EqualFold(service.LogEntryType, "SEL"):
					return service.Entries.ID, nil
				case likely == "" && service.LogEntryType == "" && (strings.EqualFold(service.ID, "SEL") || service.ID == "Log1"):
					likely = service.Entries.ID // of a service that does not say its type
				}
			}
		}
	}
	if likely == "" {
		return "", fault.New(fault.Unsupported, "the Redfish service has no log of type SEL")
	}
	return likely, nil
}

func (s *redfish) entries(ctx context.Context, path string) ([]Entry, error) {
	members, err := s.members(ctx, path)
	entries := make([]Entry, 0, len(members))
	for _, raw := range members {
		var e logEntry
		if err := s.resolve(ctx, raw, &e); err != nil {
			return entries, err
		}
		entries = append(entries, e.entry())
	}
	// Services list the newest first or last; the number tells.
	if !slices.ContainsFunc(entries, func(e Entry) bool { return e.RecordID == 0 }) {
		slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(a.RecordID, b.RecordID) })
	}
	return entries, err
}

// members gives all members of a collection, over its pages.
func (s *redfish) members(ctx context.Context, path string) ([]json.RawMessage, error) {
	var (
		all   []json.RawMessage
		count = -1
		seen  = map[string]bool{}
	)
	for path != "" {
		if seen[path] {
			return all, fault.New(fault.Unparsed, "the pages of %q run in a circle", path)
		}
		seen[path] = true
		var p collection
		if err := s.get(ctx, path, &p); err != nil {
			return all, err
		}
		if len(all)+len(p.Members) > maxRecords {
			return all, fault.New(fault.TooLarge, "%s has more than %d members", path, maxRecords)
		}
		if all = append(all, p.Members...); p.Count != nil {
			count = *p.Count
		}
		path = p.Next
	}
	if len(all) < count {
		return all, fault.New(fault.Busy, "the service gives %d of %d members: they changed while they were read", len(all), count)
	}
	return all, nil
}

// resolve reads a member, which is the resource itself or a link to it.
func (s *redfish) resolve(ctx context.Context, raw json.RawMessage, into any) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return fault.Wrap(fault.Unparsed, "understand a member of a collection", err)
	}
	if _, is := fields["@odata.id"]; is && len(fields) == 1 {
		var to link
		if err := json.Unmarshal(raw, &to); err != nil {
			return fault.Wrap(fault.Unparsed, "understand a link", err)
		}
		return s.get(ctx, to.ID, into)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fault.Wrap(fault.Unparsed, "understand a member of a collection", err)
	}
	return nil
}

// get reads a resource. A path comes from the BMC: it must stay on it.
func (s *redfish) get(ctx context.Context, path string, into any) error {
	if !strings.HasPrefix(path, "/redfish/") || strings.ContainsAny(path, "\\ \t\r\n") {
		return fault.New(fault.Unparsed, "the Redfish service links to %q, which is not in it", path)
	}
	if s.requests++; s.requests > maxRequests {
		return fault.New(fault.TooLarge, "the Redfish service needs more than %d requests", maxRequests)
	}
	reply, err := s.web.do(ctx, http.MethodGet, path, s.header, nil)
	switch {
	case err != nil:
		return err
	case reply.status == http.StatusUnauthorized || reply.status == http.StatusForbidden:
		return &fault.Error{Kind: fault.Auth, Stage: "login", Err: errors.New("the BMC refuses the account"), Next: "check user name, password and role, and whether the account is locked"}
	case reply.status != http.StatusOK:
		return statusError(path, reply)
	case reply.isHTML():
		return &fault.Error{Kind: fault.Unparsed, Stage: "web",
			Err:  fmt.Errorf("%s is a web page%s instead of JSON: a login page, a proxy, or no Redfish service", path, reply.titled()),
			Next: "see from fleetd's host what answers there, or set another protocol for this BMC"}
	}
	if err := json.Unmarshal(reply.body, into); err != nil {
		kind := fault.Unparsed
		if path == redfishRoot && !bytes.HasPrefix(bytes.TrimSpace(reply.body), []byte("{")) {
			kind = fault.Unsupported // some other web server
		}
		return fault.Wrap(kind, "understand "+path, err)
	}
	return nil
}

// entry gives what Redfish's fields can tell: the 16 bytes are not among them,
// so the place on the PCI bus is lost.
func (e logEntry) entry() Entry {
	message := e.Message
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "")
	}
	out := Entry{Kind: redfishKind(e.SensorType, message), SensorType: e.SensorType, SensorNumber: e.SensorNumber, Event: message}
	out.RecordID, _ = strconv.ParseUint(e.Name, 10, 64)
	if t, err := time.Parse(time.RFC3339, e.Created); err == nil && t.Unix() > preInit {
		t = t.UTC()
		out.Time = &t
	}
	switch {
	case strings.EqualFold(e.EntryCode, "Deassert"):
		out.Severity = OK
	case out.Kind == PCIPerr, out.Kind == PCISerr, out.Kind == PCIeNonFatal, out.Kind == PCIeFatal:
		out.Severity = Critical // whatever the BMC thinks of it
	case out.Kind == PCIeCorrectable:
		out.Severity = Warning
	case strings.EqualFold(e.Severity, "Critical"):
		out.Severity = Critical
	case strings.EqualFold(e.Severity, "Warning"):
		out.Severity = Warning
	default:
		out.Severity = OK
	}
	return out
}

// redfishKind reads the kind from words, the only thing there is. The order
// matters: "uncorrectable" and "non-fatal" contain their opposites.
func redfishKind(sensor, message string) Kind {
	interrupt := strings.EqualFold(strings.ReplaceAll(sensor, " ", ""), "CriticalInterrupt")
	text := strings.ToLower(message)
	if !interrupt && !strings.Contains(text, "pci") {
		return Other
	}
	for _, k := range []struct {
		word string
		kind Kind
	}{
		{"perr", PCIPerr}, {"serr", PCISerr}, {"nmi", NMI},
		{"uncorrectable", PCIeNonFatal}, {"non-fatal", PCIeNonFatal}, {"nonfatal", PCIeNonFatal}, {"non fatal", PCIeNonFatal},
		{"correctable", PCIeCorrectable}, {"fatal", PCIeFatal},
	} {
		if strings.Contains(text, k.word) {
			return k.kind
		}
	}
	if interrupt {
		return PCIOther
	}
	return Other
}
