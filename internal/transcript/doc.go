// Package transcript takes out of what a device printed what does not belong into
// a sample that others will read: names, addresses, serial numbers, secrets. What
// is left has the same lines and columns, so that a template which reads the one
// reads the other.
//
// No program knows what is private in a text. What was blanked is told by kind and
// number, never by value, and a person reads the text before passing it on.
package transcript
