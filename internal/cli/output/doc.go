// Package output prints results: one set of rows in any of the formats that
// fleetctl offers.
//
// The rows are JSON as fleetd gave them and JSON is authoritative: json, jsonl
// and yaml print every key in its order, with sizes in bytes, times in RFC 3339
// UTC and durations in seconds. Tables and CSV are views of the same rows that a
// View describes as data.
//
// Rows hold text that devices printed, and that text is hostile. Whatever the
// format, nothing but visible characters (and, in blocks of text, line feeds and
// tabs) reaches the stream: anything else is shown as an escape. CSV cells that a
// spreadsheet would take for a formula are made text.
package output
