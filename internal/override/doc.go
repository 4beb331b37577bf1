// Package override reads and writes an operator's own templates, which win over
// the built-in ones, in the folder that fleetd was given for them.
//
// What is written is checked first as a report would check it, and tried on every
// sample there is: what comes back tells which outputs that were understood before
// are not any more. The file that was there is kept beside the new one.
//
// The folder is authoritative, and may be edited by hand as well: nothing is held
// here between two calls.
package override
