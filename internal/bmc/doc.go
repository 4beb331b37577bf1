// Package bmc reads the event log (SEL) of a baseboard management controller
// and says what its records mean.
//
// The 16 bytes of a record are what counts: Decode is the one place that knows
// their layout (IPMI 2.0, section 32, and the tables of section 42), whoever
// fetched them. Three readers fetch them: IPMI 2.0 over LAN, the web interface
// of older Supermicro boards, and Redfish, which has no bytes and is read by its
// fields. All of them only read, end the session that they began, and take
// whatever a BMC sends as hostile: bounded, checked, never a panic.
//
// A BMC is read while its device is dead; nothing here needs the device.
package bmc
