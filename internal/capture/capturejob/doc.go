// Package capturejob is what a job of the operation "capture" is asked and what it
// answers: its spec and its rows, as they stand in requests, in the ledger and in
// -o json. fleetctl writes specs and reads rows, internal/capture does the reverse;
// neither imports the other.
//
// The struct tags are authoritative: keys are part of the product's contract, and a
// key that is not known is refused by whoever takes the request. What a figure is
// where the device does not tell it is null. Nothing here is checked or filled in;
// internal/capture does that.
package capturejob
