package bmc

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"capfleet/internal/fault"
)

// RecordSize is the size of a SEL record in bytes.
const RecordSize = 16

// Severity grades an entry.
type Severity string

// The severities, worst last.
const (
	OK       Severity = "ok"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Kind sorts entries by what an operator of a capture appliance asks first: is
// it the PCI bus?
type Kind string

// The kinds. All but NMI and Other are errors of a PCI bus.
const (
	PCIPerr         Kind = "pci_perr"
	PCISerr         Kind = "pci_serr"
	PCIeCorrectable Kind = "pcie_correctable"
	PCIeNonFatal    Kind = "pcie_nonfatal"
	PCIeFatal       Kind = "pcie_fatal"
	PCIOther        Kind = "pci_other"
	NMI             Kind = "nmi"
	Other           Kind = "other"
)

// Entry is one entry of an event log, decoded. What an entry does not say is
// null.
type Entry struct {
	// RecordID is the record's number. BMCs use numbers again after a clear, and
	// leave gaps. 0 where the source has no number.
	RecordID uint64 `json:"record_id"`
	// Time is in UTC by the BMC's clock, whose offset the log does not tell. It
	// is null where the clock was not set yet (counted from the BMC's start) and
	// in records without a time.
	Time     *time.Time `json:"time"`
	Severity Severity   `json:"severity"`
	Kind     Kind       `json:"kind"`

	// Where the error is on the PCI bus: 80:02.2 is bus 128, device 2, function 2.
	Bus      *int `json:"bus"`
	Device   *int `json:"device_number"`
	Function *int `json:"function"`

	// SensorType is the standard name, or "OEM 0xc8".
	SensorType   string `json:"sensor_type"`
	SensorNumber *int   `json:"sensor_number"`
	// Event is the standard name of what happened.
	Event string `json:"event"`
	// Raw is the record as 32 hexadecimal digits; empty from Redfish, which has
	// no bytes.
	Raw string `json:"raw"`
}

// Where the fields of a record are, from 0.
const (
	atID           = 0
	atType         = 2
	atTime         = 3
	atSensorType   = 10
	atSensorNumber = 11
	atEventType    = 12
	atData1        = 13
	atData2        = 14
	atData3        = 15
)

const (
	recordSystemEvent = 0x02
	recordOEMTimed    = 0xc0 // to 0xdf: with a time
	recordOEMUntimed  = 0xe0 // to 0xff: without

	// preInit is the last time value that counts seconds since the BMC started,
	// before anybody set its clock.
	preInit     = 0x20000000
	unspecified = 0xffffffff

	deassertion = 0x80
)

// Decode reads a record of RecordSize bytes. Every 16 bytes are a record: what
// the standard does not name keeps its numbers, and Raw has all of it.
func Decode(raw []byte) (Entry, error) {
	if len(raw) != RecordSize {
		return Entry{}, fault.New(fault.Unparsed, "an SEL record has %d bytes instead of %d", len(raw), RecordSize)
	}
	e := Entry{
		RecordID: uint64(binary.LittleEndian.Uint16(raw[atID:])),
		Severity: OK,
		Kind:     Other,
		Raw:      hex.EncodeToString(raw),
	}
	switch kind := raw[atType]; {
	case kind == recordSystemEvent:
		e.Time = recordTime(raw)
		e.system(raw)
	case kind >= recordOEMUntimed:
		e.Event = fmt.Sprintf("OEM record 0x%02x", kind)
	case kind >= recordOEMTimed:
		e.Time = recordTime(raw)
		e.Event = fmt.Sprintf("OEM record 0x%02x", kind)
	default:
		e.Event = fmt.Sprintf("record of reserved type 0x%02x", kind)
	}
	return e, nil
}

func recordTime(raw []byte) *time.Time {
	seconds := binary.LittleEndian.Uint32(raw[atTime:])
	if seconds <= preInit || seconds == unspecified {
		return nil
	}
	t := time.Unix(int64(seconds), 0).UTC()
	return &t
}

// system reads the part that only a system event record has.
func (e *Entry) system(raw []byte) {
	sensor, reading, offset := raw[atSensorType], raw[atEventType]&^deassertion, raw[atData1]&0x0f
	e.SensorType = SensorTypeName(sensor)
	e.SensorNumber = number(raw[atSensorNumber])
	what := eventOf(sensor, reading, offset)
	e.Event, e.Severity = what.name, what.severity
	if sensor == sensorCriticalInterrupt {
		e.Kind = PCIOther
		if reading == sensorSpecific {
			e.Kind = interruptKind(offset)
		}
		if e.Kind != NMI {
			e.Bus, e.Device, e.Function = pciAddress(raw[atData1], raw[atData2], raw[atData3])
		}
	}
	if raw[atEventType]&deassertion != 0 {
		// It says that a state ended: nothing to be woken for.
		e.Event += " (deasserted)"
		e.Severity = OK
	}
}

func interruptKind(offset byte) Kind {
	switch offset {
	case 0x0, 0x2, 0x3, 0x9:
		return NMI
	case 0x4:
		return PCIPerr
	case 0x5:
		return PCISerr
	case 0x7:
		return PCIeCorrectable
	case 0x8:
		return PCIeNonFatal
	case 0xa:
		return PCIeFatal
	default:
		return PCIOther
	}
}

// pciAddress reads data 2 as the bus and data 3 as device (bits 7-3) and
// function (bits 2-0), where data 1 says that either byte holds such a code:
// bits 7-6 for data 2 and bits 5-4 for data 3, 10b or 11b. Both FFh means
// unspecified.
func pciAddress(data1, data2, data3 byte) (bus, device, function *int) {
	if data2 == 0xff && data3 == 0xff {
		return nil, nil, nil
	}
	if data1>>6 >= 2 {
		bus = number(data2)
	}
	if data1>>4&3 >= 2 {
		device, function = number(data3>>3), number(data3&7)
	}
	return bus, device, function
}

func number(b byte) *int {
	n := int(b)
	return &n
}
