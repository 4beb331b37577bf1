package sel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/secret"
)

// Name of the operation.
const Name = "sel"

// readLimit bounds the reading of one BMC, however it drags its answers out. An
// IPMI log of 10,000 records takes a minute.
const readLimit = 5 * time.Minute

// Spec is what a request says.
type Spec struct {
	// Peek reads without remembering: what is new stays new for the next check.
	Peek bool `json:"peek,omitempty"`
	// NewOnly puts out the new records alone. A check that a schedule makes every hour
	// would otherwise keep every log as often.
	NewOnly bool `json:"new_only,omitempty"`
	// TryRefused logs in again with an account that the BMC has refused, before its
	// time. Only a person may ask for it.
	TryRefused bool `json:"try_refused,omitempty"`
}

// Secrets gives the value of a secret; *secret.Resolver does.
type Secrets interface {
	Resolve(ctx context.Context, ref secret.Ref) (secret.String, error)
}

// Through opens a TCP connection to host and port by way of jump hosts, whose keys
// are in the file knownHosts; *sshconn.Dialer does.
type Through interface {
	Through(ctx context.Context, chain []device.Hop, knownHosts, host string, port int) (net.Conn, error)
}

// Options is what the operation is made of.
type Options struct {
	Secrets Secrets
	// Through reaches BMCs that are behind jump hosts.
	Through Through
	// BMC tunes the readers.
	BMC bmc.Options
}

type check struct{ logs *logs }

var _ operation.Operation = (*check)(nil)

// New gives the operation "sel". It is safe for concurrent use.
func New(opts Options) operation.Operation { return &check{newLogs(opts)} }

// Name implements operation.Operation.
func (c *check) Name() string { return Name }

// Prepare checks the spec. Devices without a BMC are omitted; when that leaves
// none, the request is refused as fault.Unsupported.
func (c *check) Prepare(_ context.Context, raw json.RawMessage, devices []*device.Device) (operation.Prepared, error) {
	var spec Spec
	if err := operation.DecodeSpec(Name, raw, &spec); err != nil {
		return operation.Prepared{}, err
	}
	out := operation.Prepared{Access: operation.Read, Omit: withoutBMC(devices), Beside: true}
	if len(devices) > 0 && len(out.Omit) == len(devices) {
		return operation.Prepared{}, errNoBMC(Name)
	}
	var err error
	out.Spec, err = json.Marshal(spec)
	return out, fault.Wrap(fault.Internal, "keep the spec", err)
}

func withoutBMC(devices []*device.Device) map[string]string {
	omit := map[string]string{}
	for _, dev := range devices {
		if dev.BMC == nil {
			omit[dev.Name] = "no BMC in the inventory"
		}
	}
	return omit
}

func errNoBMC(act string) error {
	return &fault.Error{Kind: fault.Unsupported, Act: act, Err: errors.New("the inventory gives none of these devices a BMC"),
		Next: "add to the device: bmc: {address: ..., credentials: ...}"}
}

// Steps gives the one step, read.
func (c *check) Steps(raw json.RawMessage, unit operation.Unit) ([]operation.Step, error) {
	var spec Spec
	if err := operation.DecodeSpec(Name, raw, &spec); err != nil {
		return nil, err
	}
	observe := func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		var details []string
		for _, dev := range unit.Devices {
			if dev.BMC == nil {
				continue // the other member of its pair has one
			}
			detail, err := c.read(ctx, env, dev, spec)
			if err != nil {
				return operation.Observation{}, err
			}
			details = append(details, detail)
		}
		return operation.Observation{Verdict: operation.Done, Detail: strings.Join(details, "; ")}, nil
	}
	return []operation.Step{{Name: "read", Observe: observe}}, nil
}

// memoryKey is the key of what is kept of a BMC. It names the BMC, so that
// another one in the inventory begins anew.
func memoryKey(dev *device.Device) string {
	key := "bmc/" + bmc.HostName(dev.BMC.Host, dev.BMC.Port)
	if by := via(dev); by != "" {
		key += " via " + by
	}
	return key
}

// read reads one BMC's log and puts out its records.
func (c *check) read(ctx context.Context, env operation.Env, dev *device.Device, spec Spec) (string, error) {
	fail := func(err error) error { return failed("read event log", dev, err) }
	kept, err := env.Load(ctx, memoryKey(dev))
	if err != nil {
		return "", fail(err)
	}
	before, err := recall(kept)
	if err != nil {
		// Better every record new once more than a BMC that is never checked again.
		env.Warn(dev, "all records count as new: %v", err)
	}
	log, err := c.logs.read(ctx, env, dev, before, spec.TryRefused)
	if err != nil {
		return "", fail(err)
	}
	v := compare(before, log, env.Now())
	fresh := 0
	for i := range log.Entries {
		if v.fresh[i] {
			fresh++
		}
		if v.fresh[i] || !spec.NewOnly {
			env.Row(dev, rowOf(dev, &log.Entries[i], v.fresh[i]))
		}
	}
	if v.cleared {
		env.Warn(dev, "its event log was cleared or written over since the check of %s", before.Checked.Format(time.RFC3339))
	}
	if log.Full {
		env.Warn(dev, "its event log is full and drops records: save it, then clear it")
	}
	if !spec.Peek {
		raw, err := v.next.pack()
		if err != nil {
			return "", fail(err)
		}
		env.Store(dev, memoryKey(dev), raw)
	}
	return fmt.Sprintf("%d records by %s, %d new", len(log.Entries), log.Protocol, fresh), nil
}

// failed gives an error its device. What failed keeps its kind and its stage.
func failed(act string, dev *device.Device, err error) error {
	stage := fault.StageOf(err)
	if stage == "" {
		stage = "bmc"
	}
	return &fault.Error{Kind: fault.KindOf(err), Act: act, Device: dev.Name, Stage: stage, Err: err}
}

// Row is one record of a BMC's event log. What is not known is null.
type Row struct {
	Device string `json:"device"`
	BMC    string `json:"bmc"` // its address in the inventory

	RecordID     uint64       `json:"record_id"`
	Time         *time.Time   `json:"time"`
	Severity     bmc.Severity `json:"severity"`
	Kind         bmc.Kind     `json:"kind"`
	Bus          *int         `json:"bus"`
	DeviceNumber *int         `json:"device_number"`
	Function     *int         `json:"function"`
	SensorType   *string      `json:"sensor_type"`
	SensorNumber *int         `json:"sensor_number"`
	Event        string       `json:"event"`
	Raw          *string      `json:"raw"`
	// New says that the last check of this BMC did not see it.
	New bool `json:"new"`
}

func rowOf(dev *device.Device, e *bmc.Entry, fresh bool) Row {
	return Row{
		Device: dev.Name, BMC: bmc.HostName(dev.BMC.Host, dev.BMC.Port),
		RecordID: e.RecordID, Time: e.Time, Severity: e.Severity, Kind: e.Kind,
		Bus: e.Bus, DeviceNumber: e.Device, Function: e.Function,
		SensorType: known(e.SensorType), SensorNumber: e.SensorNumber, Event: e.Event, Raw: known(e.Raw), New: fresh,
	}
}

// known makes the empty string null.
func known(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
