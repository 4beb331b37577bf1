// Package hotfix is the operation that brings devices to a hotfix: it looks at
// them (plan), puts the file on them (stage), and installs it (apply).
//
// The device is authoritative about itself. Every step looks before it acts, so
// that a second apply changes nothing, and after a crash the device says what was
// done and not the journal. What a device can show is a matter of its platform: the
// definition lists readings for each proof (installed, rebooted, normal_mode,
// capturing), and a proof ends as proven, disproven or not observable. A device is
// not passed on a proof that is not observable unless the operator said so
// beforehand. What else is known then, from the snapshot before the change and from
// what this operation has sent and stored, is said beside it and never guessed.
//
// How a platform installs is a flow: the order of steps. There are two. One is that
// of a maintenance mode that a reload ends (maintenance.go and the files beside it);
// what is typed there, every pattern and every time, is data of the platform's
// definition, because much of it is inferred. The other is that of volumes of which
// one is booted, on a device by itself or on both members of an HA pair, one after
// the other (pair.go and those named after it); what is typed there is verified, and
// the definition has its times and what differs between releases.
//
// An act that must not be done twice (install, reload, failover) is journalled by the runner
// before it is sent. Beside that the flow remembers how far each such act came
// (act.go): whether the line was typed at all, and what the device answered. An act
// of which nothing is known but that it may have been sent goes to a person; only
// when that person takes the job up again is it sent anew.
package hotfix
