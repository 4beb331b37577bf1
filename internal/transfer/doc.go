// Package transfer moves files to devices and from them over SFTP, so that a
// file under its own name is always whole.
//
// The device is authoritative about what it holds; nothing is taken from a length
// or from what was sent before. An upload goes into a hidden file beside the
// target, named by the digest so that the next attempt finds it:
//
//  1. The target is there already with the right content: nothing is done.
//  2. There must be room for what is missing.
//  3. What the hidden file holds is compared with the source: by a hash that the
//     device works out, where its platform has a command for it, else by reading
//     it back. It goes on behind the first difference. Several writes are under
//     way at once, so a cut can leave holes; they end what is believed.
//  4. The whole is verified in the same way and renamed to the target. That finds a
//     source that has changed, too, so nothing is hashed on this side while it is
//     sent, but for devices that know MD5 alone.
//
// # How much is sent twice
//
// What is under way when the connection is cut may be lost. An upload keeps an
// account: it may lose 0.4 per cent of the file and one per cent of what has
// arrived, and has no more under way than is left of that, but at least 8 KiB. So
// a hundred cuts cost less than two per cent of a file of 160 MB or more, and
// where nothing is cut there is always enough under way to fill the line.
//
// # Memory
//
// A transfer holds the chunks that are under way: four small ones of its own, and
// what it gets from Buffers, which all transfers of a process share. A device that
// hangs keeps what it has, and the others still have their own.
package transfer
