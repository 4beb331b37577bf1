// Package rollout decides in which order and how fast a change goes over many
// units: canary, waves, failure budget, soak, coverage of links, windows, approval.
//
// It is pure. NewPlan lays a rollout out, and Decide says of the present state of
// its units which of them may begin now, what each other one waits for and until
// when, and which will not be begun any more. There is no clock, storage or
// goroutine in it, so that its rules are tested over thousands of random rollouts.
// The engine in package jobs asks it and is alone responsible for what is so.
package rollout
