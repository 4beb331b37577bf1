// Package sshconn connects to devices over SSH: one client of
// golang.org/x/crypto/ssh for each device, dialled here and nowhere else, with
// the command line, exec and SFTP as sessions on it.
//
// What it adds to the library:
//
//   - every step is bounded by a context: a mute server, a frozen network and a
//     full session table each end with an error that names the stage;
//   - host keys are strict and come from OpenSSH's known_hosts; no credential
//     leaves before the host key is proven;
//   - a password is offered once. Neither another method nor another attempt
//     repeats it, because that is how accounts get locked;
//   - jump hosts are shared: one connection for each hop whatever the number of
//     devices behind it, so that a bastion's own limits are not the fleet's;
//   - keepalives end a dead connection, sessions are counted, output is capped.
//
// The server is authoritative about itself and believed in nothing else: what
// it prints is cleaned before it gets into an error, and what it sends is
// bounded. Stages in errors, in the order of a connection: credentials (a secret
// or key could not be read; nothing was sent), resolve, dial, jump (a jump host
// failed; the error names it), handshake, host_key, auth; then session (opening
// one more), command and sftp.
//
// Kinds: a secret that cannot be read is Invalid; a server that could only be
// talked to with unsafe algorithms is Denied until its device allows them; a
// connection that does not come about is Unreachable or Timeout, one that ends
// while it is used Disconnected; everything after which another attempt could
// lock an account is Auth, also a server that hangs up on a password.
package sshconn
