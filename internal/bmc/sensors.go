package bmc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"

	"github.com/bougou/go-ipmi/pkg/command/sensor"
	"github.com/bougou/go-ipmi/pkg/command/storage"
	"github.com/bougou/go-ipmi/pkg/types"

	"capfleet/internal/fault"
)

// Sensors is what a BMC says of temperatures, fans and voltages, as it says it:
// it is kept as evidence and not compared.
type Sensors struct {
	Protocol  Protocol
	MediaType string // application/xml or application/json
	Content   []byte
}

// SensorReader is a Reader that can read sensors too; all of this package's are.
// What holds for Read holds for Sensors.
type SensorReader interface {
	Sensors(ctx context.Context) (Sensors, error)
}

var (
	_ SensorReader = (*lanReader)(nil)
	_ SensorReader = (*supermicroReader)(nil)
	_ SensorReader = (*redfishReader)(nil)
	_ SensorReader = first(nil)
)

// maxSensors bounds the sensors of a BMC; record ids of sensors have 16 bits, real
// BMCs have a hundred.
const maxSensors = 2000

func (f first) Sensors(ctx context.Context) (Sensors, error) {
	var told error
	for _, reader := range f {
		if able, ok := reader.(SensorReader); ok {
			sensors, err := able.Sensors(ctx)
			if err == nil || ctx.Err() != nil || fault.Is(err, fault.Auth) {
				return sensors, err
			}
			told = errors.Join(told, err)
		}
	}
	return Sensors{}, fault.Wrap(fault.Unsupported, "read sensors", told)
}

func (r *supermicroReader) Sensors(ctx context.Context) (Sensors, error) {
	out := Sensors{Protocol: SupermicroWeb, MediaType: "application/xml"}
	err := r.inSession(ctx, func(web *webClient, session http.Header) error {
		body, err := r.table(ctx, web, session, "SENSOR_INFO.XML", sensorRange)
		if err != nil {
			return err
		}
		out.Content = body
		return wellFormed(body)
	})
	return out, fault.Wrap(fault.Unparsed, "read sensors of BMC "+r.target.Host+" by its web interface", err)
}

// wellFormed checks XML that is kept as it is.
func wellFormed(body []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Unparsed, "understand the BMC's XML", err)
		}
		if _, is := token.(xml.Directive); is {
			return fault.New(fault.Unparsed, "the BMC's XML declares a document type, which may hide anything")
		}
	}
}

func (r *redfishReader) Sensors(ctx context.Context) (Sensors, error) {
	out := Sensors{Protocol: Redfish, MediaType: "application/json"}
	act := "read sensors of BMC " + r.target.Host + " by Redfish"
	web, err := newWebClient(r.target, r.opts)
	if err != nil {
		return out, fault.Wrap(fault.Invalid, act, err)
	}
	defer web.close()
	account := base64.StdEncoding.EncodeToString([]byte(r.target.Username + ":" + r.target.Password.Reveal()))
	s := &redfish{web: web, header: http.Header{"Accept": {"application/json"}, "Authorization": {"Basic " + account}}}
	resources, err := s.sensors(ctx)
	if err != nil {
		return out, fault.Wrap(fault.Unparsed, act, err)
	}
	out.Content, err = json.MarshalIndent(resources, "", "  ")
	return out, fault.Wrap(fault.Unparsed, act, err)
}

// sensors gives the resources of each chassis that have readings, by their paths.
func (s *redfish) sensors(ctx context.Context) (map[string]json.RawMessage, error) {
	var root struct {
		Chassis link `json:"Chassis"`
	}
	if err := s.get(ctx, redfishRoot, &root); err != nil {
		return nil, err
	}
	if root.Chassis.ID == "" {
		return nil, fault.New(fault.Unsupported, "the Redfish service has no chassis")
	}
	all, err := s.members(ctx, root.Chassis.ID)
	if err != nil {
		return nil, err
	}
	found := map[string]json.RawMessage{}
	for _, raw := range all {
		var chassis struct {
			Thermal link `json:"Thermal"`
			Power   link `json:"Power"`
			Sensors link `json:"Sensors"`
		}
		if err := s.resolve(ctx, raw, &chassis); err != nil {
			return nil, err
		}
		for _, to := range []link{chassis.Thermal, chassis.Power, chassis.Sensors} {
			if to.ID == "" || len(found) == maxSensors {
				continue
			}
			var resource json.RawMessage
			if err := s.get(ctx, to.ID, &resource); err != nil {
				return nil, err
			}
			found[to.ID] = resource
		}
	}
	return found, nil
}

// lanSensor is one sensor as read over IPMI. What has no number is null.
type lanSensor struct {
	Number  int      `json:"number"`
	Name    string   `json:"name"`
	Unit    string   `json:"unit"`
	Reading *float64 `json:"reading"`
	Raw     *int     `json:"raw"`
	State   string   `json:"state"` // ok, or why there is no reading
}

func (r *lanReader) Sensors(ctx context.Context) (Sensors, error) {
	out := Sensors{Protocol: IPMILan, MediaType: "application/json"}
	act := "read sensors of BMC " + r.target.Host
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", r.target.address(lanPort))
	if err != nil {
		return out, fault.Wrap(fault.Unreachable, "reach BMC "+r.target.Host, err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(aLongTimeAgo) })()
	session, err := openSession(ctx, conn, r.target, r.opts)
	if err != nil {
		return out, r.explain("open IPMI session with BMC "+r.target.Host, err)
	}
	defer session.close(ctx)
	list, err := walkSensors(ctx, session)
	if err != nil {
		return out, r.explain(act, err)
	}
	out.Content, err = json.MarshalIndent(map[string]any{"sensors": list}, "", "  ")
	return out, fault.Wrap(fault.Unparsed, act, err)
}

// walkSensors follows the repository of sensor records with Get SDR and asks each
// sensor with Get Sensor Reading. Both write nothing.
func walkSensors(ctx context.Context, source entrySource) ([]lanSensor, error) {
	list := []lanSensor{}
	seen := map[uint16]bool{}
	for id := uint16(selFirst); id != selNone; {
		if seen[id] || len(seen) == maxSensors {
			return list, fault.New(fault.Unparsed, "the chain of sensor records does not end: it comes to record %d after %d", id, len(seen))
		}
		seen[id] = true
		reply := &storage.GetSDRResponse{}
		err := source.command(ctx, &storage.GetSDRRequest{RecordID: id, ReadBytes: wholeRecord}, reply)
		if refused, is := errors.AsType[*types.ResponseError](err); is && refused.CompletionCode() == codeNotPresent && id == selFirst {
			return list, nil // there are none
		}
		if err != nil {
			return list, err
		}
		record, err := parseSDR(reply)
		if err != nil {
			return list, err
		}
		if one, ok := sensorOf(ctx, source, record); ok {
			list = append(list, one)
		}
		id = reply.NextRecordID
	}
	return list, ctx.Err()
}

// parseSDR keeps what the library makes of a hostile record from ending the
// process: its parsers trust lengths that the record itself gives.
func parseSDR(reply *storage.GetSDRResponse) (record *types.SDR, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fault.New(fault.Unparsed, "a sensor record cannot be read: %v", what)
		}
	}()
	record, err = types.ParseSDR(reply.RecordData, reply.NextRecordID)
	return record, fault.Wrap(fault.Unparsed, "understand a sensor record", err)
}

// sensorOf reads the sensor of a record; false where the record is of no sensor.
func sensorOf(ctx context.Context, source entrySource, record *types.SDR) (one lanSensor, ok bool) {
	if record == nil || record.Full == nil && record.Compact == nil {
		return one, false
	}
	one = lanSensor{Number: int(record.SensorNumber()), Name: record.SensorName()}
	reply := &sensor.GetSensorReadingResponse{}
	if err := source.command(ctx, &sensor.GetSensorReadingRequest{SensorNumber: uint8(record.SensorNumber())}, reply); err != nil {
		one.State = err.Error()
		return one, true
	}
	switch {
	case reply.ReadingUnavailable:
		one.State = "unavailable"
	case reply.SensorScanningDisabled:
		one.State = "not scanned"
	default:
		raw := int(reply.Reading)
		one.State, one.Raw = "ok", &raw
		if record.Full != nil && record.Full.HasAnalogReading() {
			if value := record.Full.ConvertReading(reply.Reading); !math.IsNaN(value) && !math.IsInf(value, 0) {
				one.Reading, one.Unit = &value, fmt.Sprint(record.Full.SensorUnit)
			}
		}
	}
	return one, true
}
