// Package doctor looks for what would stop tomorrow's work, on fleetd's own host:
// the inventory file, secrets, host keys, disk, clock and templates. It calls no
// device and changes nothing; a command that gives a secret is run, since nothing
// else tells whether it works.
//
// Each look gives at least one finding, so that a list without complaints shows
// what was looked at.
package doctor
