// Package sel is the operation that reads the event logs (SEL) of devices' BMCs
// and says which records are new since the last check of that BMC, and the
// operation that gathers a dossier of a device after such a record.
//
// The BMC is authoritative about its records, and is all that a check needs: a
// probe that died of a PCI error answers nothing on SSH, and its BMC still tells
// why. What was seen at the last check is kept with that check's result, in one
// transaction (memory.go), so a check whose result was lost counts for nothing
// and the next one finds the same records new.
package sel
