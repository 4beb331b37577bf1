// Package artifact keeps files that jobs need or make, each under its SHA-256.
//
// A file is written once and never changed; the same content kept twice is one
// file with two entries. Names, media types and who kept what are in the ledger,
// which is authoritative about what exists; the files' own names are digests and
// nothing that a device supplied is ever part of a path.
//
// # Crashes
//
//	tmp/put-*        being written; removed by the next Open
//	tmp/DIGEST.*     complete, on its way in or out
//	objects/ab/DIGEST
//
// A file goes in as tmp/put-*, tmp/DIGEST.*, entry in the ledger, objects/; it
// goes out the other way round. At each instant the ledger alone decides what
// tmp/DIGEST.* is: the next Open moves it to objects where the ledger has an
// entry, and removes it where it has none. So there is never an entry without its
// file or a file without its entry, unless a ledger of another time is put beside the
// files; Open looks for both.
package artifact
