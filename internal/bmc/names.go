package bmc

import "fmt"

const (
	sensorCriticalInterrupt = 0x13
	sensorOEM               = 0xc0 // to 0xff

	readingThreshold = 0x01
	sensorSpecific   = 0x6f
	readingOEM       = 0x70 // to 0x7f
)

// event is the name of an event and how bad it is when it is asserted.
type event struct {
	name     string
	severity Severity
}

func fine(name string) event { return event{name, OK} }
func warn(name string) event { return event{name, Warning} }
func crit(name string) event { return event{name, Critical} }

// sensorType is a row of table 42-3 of IPMI 2.0: its events by offset; the zero
// event is a reserved offset.
type sensorType struct {
	name   string
	events []event
}

// SensorTypeName gives the standard name of a sensor type.
func SensorTypeName(code byte) string {
	switch {
	case code >= sensorOEM:
		return fmt.Sprintf("OEM 0x%02x", code)
	case code == 0 || int(code) >= len(sensorTypes):
		return fmt.Sprintf("reserved 0x%02x", code)
	default:
		return sensorTypes[code].name
	}
}

// eventOf names what a sensor of a type reports with an event/reading type and
// an offset.
func eventOf(sensor, reading, offset byte) event {
	var known []event
	switch {
	case reading == sensorSpecific && sensor >= sensorOEM, reading >= readingOEM:
		return fine(fmt.Sprintf("OEM event 0x%x", offset))
	case reading == sensorSpecific && int(sensor) < len(sensorTypes):
		known = sensorTypes[sensor].events
	case reading >= readingThreshold && int(reading) < len(genericEvents):
		known = genericEvents[reading]
	}
	if int(offset) < len(known) && known[offset].name != "" {
		return known[offset]
	}
	unknown := fmt.Sprintf("event 0x%x of reading type 0x%02x", offset, reading)
	if sensor == sensorCriticalInterrupt {
		return crit(unknown) // an interrupt that nobody can name is not for hiding
	}
	return fine(unknown)
}

// genericEvents is table 42-2 of IPMI 2.0, by event/reading type.
var genericEvents = [...][]event{
	readingThreshold: {
		warn("Lower Non-critical going low"), fine("Lower Non-critical going high"),
		crit("Lower Critical going low"), fine("Lower Critical going high"),
		crit("Lower Non-recoverable going low"), fine("Lower Non-recoverable going high"),
		fine("Upper Non-critical going low"), warn("Upper Non-critical going high"),
		fine("Upper Critical going low"), crit("Upper Critical going high"),
		fine("Upper Non-recoverable going low"), crit("Upper Non-recoverable going high"),
	},
	0x02: {fine("Transition to Idle"), fine("Transition to Active"), fine("Transition to Busy")},
	0x03: {fine("State Deasserted"), fine("State Asserted")},
	0x04: {fine("Predictive Failure Deasserted"), warn("Predictive Failure Asserted")},
	0x05: {fine("Limit Not Exceeded"), warn("Limit Exceeded")},
	0x06: {fine("Performance Met"), warn("Performance Lags")},
	0x07: {
		fine("Transition to OK"), warn("Transition to Non-critical from OK"),
		crit("Transition to Critical from less severe"), crit("Transition to Non-recoverable from less severe"),
		warn("Transition to Non-critical from more severe"), crit("Transition to Critical from Non-recoverable"),
		crit("Transition to Non-recoverable"), fine("Monitor"), fine("Informational"),
	},
	0x08: {fine("Device Absent"), fine("Device Present")},
	0x09: {fine("Device Disabled"), fine("Device Enabled")},
	0x0a: {
		fine("Transition to Running"), fine("Transition to In Test"), fine("Transition to Power Off"),
		fine("Transition to On Line"), fine("Transition to Off Line"), fine("Transition to Off Duty"),
		warn("Transition to Degraded"), fine("Transition to Power Save"), warn("Install Error"),
	},
	0x0b: {
		fine("Fully Redundant"), warn("Redundancy Lost"), warn("Redundancy Degraded"),
		warn("Non-redundant: Sufficient from Redundant"), warn("Non-redundant: Sufficient from Insufficient"),
		crit("Non-redundant: Insufficient Resources"),
		warn("Redundancy Degraded from Fully Redundant"), warn("Redundancy Degraded from Non-redundant"),
	},
	0x0c: {fine("D0 Power State"), fine("D1 Power State"), fine("D2 Power State"), fine("D3 Power State")},
}

// sensorTypes is table 42-3 of IPMI 2.0, by sensor type.
var sensorTypes = [...]sensorType{
	0x00: {name: "reserved 0x00"},
	0x01: {name: "Temperature"},
	0x02: {name: "Voltage"},
	0x03: {name: "Current"},
	0x04: {name: "Fan"},
	0x05: {"Physical Security", []event{
		warn("General Chassis Intrusion"), warn("Drive Bay Intrusion"), warn("I/O Card Area Intrusion"),
		warn("Processor Area Intrusion"), warn("System Unplugged from LAN"), warn("Unauthorized Dock"), warn("Fan Area Intrusion"),
	}},
	0x06: {"Platform Security", []event{
		warn("Front Panel Lockout Violation Attempted"), warn("Pre-boot Password Violation: User Password"),
		warn("Pre-boot Password Violation: Setup Password"), warn("Pre-boot Password Violation: Network Boot Password"),
		warn("Other Pre-boot Password Violation"), warn("Out-of-band Access Password Violation"),
	}},
	0x07: {"Processor", []event{
		crit("IERR"), crit("Thermal Trip"), crit("FRB1/BIST Failure"), crit("FRB2/Hang in POST Failure"),
		crit("FRB3/Processor Startup/Initialization Failure"), crit("Configuration Error"),
		crit("SM BIOS Uncorrectable CPU-complex Error"), fine("Presence Detected"), warn("Disabled"),
		fine("Terminator Presence Detected"), warn("Throttled"), crit("Uncorrectable Machine Check Exception"),
		warn("Correctable Machine Check Error"),
	}},
	0x08: {"Power Supply", []event{
		fine("Presence Detected"), crit("Failure Detected"), warn("Predictive Failure"), crit("Power Supply AC Lost"),
		crit("AC Lost or Out-of-range"), warn("AC Out-of-range, but Present"), warn("Configuration Error"), fine("Power Supply Inactive"),
	}},
	0x09: {"Power Unit", []event{
		fine("Power Off/Power Down"), fine("Power Cycle"), warn("240VA Power Down"), warn("Interlock Power Down"),
		crit("AC Lost"), crit("Soft Power Control Failure"), crit("Failure Detected"), warn("Predictive Failure"),
	}},
	0x0a: {name: "Cooling Device"},
	0x0b: {name: "Other Units-based Sensor"},
	0x0c: {"Memory", []event{
		warn("Correctable ECC"), crit("Uncorrectable ECC"), crit("Parity"), crit("Memory Scrub Failed"),
		warn("Memory Device Disabled"), warn("Correctable ECC Logging Limit Reached"), fine("Presence Detected"),
		warn("Configuration Error"), fine("Spare"), warn("Throttled"), crit("Critical Overtemperature"),
	}},
	0x0d: {"Drive Slot", []event{
		fine("Drive Present"), crit("Drive Fault"), warn("Predictive Failure"), fine("Hot Spare"),
		fine("Parity Check In Progress"), crit("In Critical Array"), crit("In Failed Array"),
		warn("Rebuild In Progress"), warn("Rebuild Aborted"),
	}},
	0x0e: {name: "POST Memory Resize"},
	0x0f: {"System Firmware Progress", []event{crit("System Firmware Error"), crit("System Firmware Hang"), fine("System Firmware Progress")}},
	0x10: {"Event Logging Disabled", []event{
		warn("Correctable Memory Error Logging Disabled"), warn("Event Logging Disabled"), fine("Log Area Reset/Cleared"),
		warn("All Event Logging Disabled"), warn("Log Full"), warn("Log Almost Full"),
		warn("Correctable Machine Check Error Logging Disabled"),
	}},
	0x11: {"Watchdog 1", []event{
		crit("BIOS Reset"), crit("OS Reset"), crit("OS Shut Down"), crit("OS Power Down"), crit("OS Power Cycle"),
		crit("OS NMI/Diagnostic Interrupt"), warn("OS Expired"), warn("OS Pre-timeout Interrupt"),
	}},
	0x12: {"System Event", []event{
		fine("System Reconfigured"), fine("OEM System Boot Event"), crit("Undetermined System Hardware Failure"),
		fine("Entry Added to Auxiliary Log"), fine("PEF Action"), fine("Timestamp Clock Sync"),
	}},
	sensorCriticalInterrupt: {"Critical Interrupt", []event{
		warn("NMI/Diagnostic Interrupt"), warn("Bus Timeout"), warn("I/O Channel Check NMI"), warn("Software NMI"),
		crit("PCI PERR"), crit("PCI SERR"), warn("EISA Fail Safe Timeout"), warn("Bus Correctable Error"),
		crit("Bus Uncorrectable Error"), crit("Fatal NMI"), crit("Bus Fatal Error"), warn("Bus Degraded"),
	}},
	0x14: {"Button", []event{
		fine("Power Button Pressed"), fine("Sleep Button Pressed"), fine("Reset Button Pressed"), fine("FRU Latch"), fine("FRU Service"),
	}},
	0x15: {name: "Module/Board"},
	0x16: {name: "Microcontroller"},
	0x17: {name: "Add-in Card"},
	0x18: {name: "Chassis"},
	0x19: {"Chip Set", []event{crit("Soft Power Control Failure"), crit("Thermal Trip")}},
	0x1a: {name: "Other FRU"},
	0x1b: {"Cable/Interconnect", []event{fine("Connected"), warn("Configuration Error")}},
	0x1c: {name: "Terminator"},
	0x1d: {"System Boot Initiated", []event{
		fine("Initiated by Power Up"), fine("Initiated by Hard Reset"), fine("Initiated by Warm Reset"),
		fine("User Requested PXE Boot"), fine("Automatic Boot to Diagnostic"), fine("OS Initiated Hard Reset"),
		fine("OS Initiated Warm Reset"), fine("System Restart"),
	}},
	0x1e: {"Boot Error", []event{
		crit("No Bootable Media"), warn("Non-bootable Disk in Drive"), warn("PXE Server Not Found"),
		crit("Invalid Boot Sector"), warn("Timeout Waiting for Selection"),
	}},
	0x1f: {"OS Boot", []event{
		fine("A: Boot Completed"), fine("C: Boot Completed"), fine("PXE Boot Completed"), fine("Diagnostic Boot Completed"),
		fine("CD-ROM Boot Completed"), fine("ROM Boot Completed"), fine("Boot Completed, Device Not Specified"),
		fine("Installation Started"), fine("Installation Completed"), warn("Installation Aborted"), warn("Installation Failed"),
	}},
	0x20: {"OS Critical Stop", []event{
		crit("Error During System Startup"), crit("Run-time Critical Stop"), fine("OS Graceful Stop"),
		fine("OS Graceful Shutdown"), warn("PEF Initiated Soft Shutdown"), warn("Agent Not Responding"),
	}},
	0x21: {"Slot/Connector", []event{
		crit("Fault Status"), fine("Identify Status"), fine("Device Installed"), fine("Ready for Device Installation"),
		fine("Ready for Device Removal"), warn("Slot Power is Off"), fine("Device Removal Request"), fine("Interlock"),
		warn("Slot is Disabled"), fine("Spare Device"),
	}},
	0x22: {"System ACPI Power State", []event{
		fine("S0/G0: Working"), fine("S1: Sleeping, Hardware and Processor Context Maintained"),
		fine("S2: Sleeping, Processor Context Lost"), fine("S3: Sleeping, Memory Retained"), fine("S4: Suspend to Disk"),
		fine("S5/G2: Soft Off"), fine("S4/S5: Soft Off"), fine("G3: Mechanical Off"), fine("Sleeping in S1/S2/S3 State"),
		fine("G1: Sleeping"), fine("S5: Entered by Override"), fine("Legacy ON State"), fine("Legacy OFF State"),
		{}, fine("Unknown"),
	}},
	0x23: {"Watchdog 2", []event{
		warn("Timer Expired"), crit("Hard Reset"), crit("Power Down"), crit("Power Cycle"), {}, {}, {}, {}, warn("Timer Interrupt"),
	}},
	0x24: {"Platform Alert", []event{
		fine("Platform Generated Page"), fine("Platform Generated LAN Alert"), fine("Platform Event Trap Generated"),
		fine("Platform Generated SNMP Trap, OEM Format"),
	}},
	0x25: {"Entity Presence", []event{fine("Present"), fine("Absent"), fine("Disabled")}},
	0x26: {name: "Monitor ASIC/IC"},
	0x27: {"LAN", []event{warn("Heartbeat Lost"), fine("Heartbeat")}},
	0x28: {"Management Subsystem Health", []event{
		warn("Sensor Access Degraded or Unavailable"), warn("Controller Access Degraded or Unavailable"),
		warn("Management Controller Off-line"), warn("Management Controller Unavailable"), warn("Sensor Failure"), warn("FRU Failure"),
	}},
	0x29: {"Battery", []event{warn("Low"), crit("Failed"), fine("Presence Detected")}},
	0x2a: {"Session Audit", []event{
		fine("Session Activated"), fine("Session Deactivated"), warn("Invalid User Name or Password"),
		warn("User Disabled by Invalid Passwords"),
	}},
	0x2b: {"Version Change", []event{
		fine("Hardware Change Detected"), fine("Firmware or Software Change Detected"), warn("Hardware Incompatibility Detected"),
		warn("Firmware or Software Incompatibility Detected"), warn("Invalid or Unsupported Hardware Version"),
		warn("Invalid or Unsupported Firmware or Software Version"), fine("Hardware Change Successful"),
		fine("Firmware or Software Change Successful"),
	}},
	0x2c: {"FRU State", []event{
		fine("Not Installed"), fine("Inactive"), fine("Activation Requested"), fine("Activation In Progress"), fine("Active"),
		fine("Deactivation Requested"), fine("Deactivation In Progress"), warn("Communication Lost"),
	}},
}
