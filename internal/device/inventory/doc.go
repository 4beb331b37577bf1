// Package inventory reads inventory.yaml: which devices there are, how each is
// reached and with whose credentials, and which of them a selection means.
//
// The file is authoritative and read strictly. An unknown key, a duplicate
// name, a bad address or a name that is defined nowhere is an error with file,
// line, column and the nearest valid name, and all errors of a file are
// reported at once, because a file that is half understood sends commands to
// the wrong devices. A file that has an error gives no Inventory at all.
//
// # The file
//
//	version: 1                  # required
//	known_hosts: known_hosts    # OpenSSH format; the default is this name, beside the file
//	defaults: SETTINGS          # for every device
//	sites:
//	  NAME: {timezone: IANA name, credentials: NAME, jump: JUMP}
//	credentials:
//	  NAME:
//	    {username: TEXT, password: SECRET, private_key: SECRET, passphrase: SECRET, certificate: SECRET,
//	     agent: true, enable: SECRET}
//	groups:
//	  NAME: SETTINGS
//	devices:
//	  - {name: NAME, address: ADDRESS, groups: [NAME], covers: [LINK], ha_peer: NAME, SETTINGS}
//
// SETTINGS are platform, site, credentials, jump, labels, ssh (max_sessions,
// connect_timeout, command_timeout, keepalive, legacy_algorithms) and bmc
// (protocol, credentials, jump, plain_http; in a device also address and tls_pins, a
// list of SHA-256 fingerprints of certificates). An address of a BMC with a port
// needs a protocol other than auto. plain_http: true is the only way to a password
// sent without TLS.
//
// SECRET says where a secret is, in one of these ways:
//
//	{env: VARIABLE}
//	{file: PATH}
//	{credential: NAME}                   # of systemd, from $CREDENTIALS_DIRECTORY
//	{age: {file: PATH, identity: PATH}}  # encrypted with age; an age or SSH key opens it
//	{command: [PROGRAM, ARGUMENT, ...]}  # prints it; never given to a shell
//
// A secret itself is refused, and the refusal does not repeat it. PROGRAM is a
// path when it holds a slash, else it is found in PATH. A certificate is an
// OpenSSH user certificate of the private_key; it is used only where it is named.
//
// ADDRESS is host, host:port, [v6]:port or a bare IPv6 address. JUMP is the name
// of a device, user@host:port, or none. Relative paths start at the folder of the
// file, and ~/ is the home of the user who reads it.
//
// # Who wins
//
// For each setting: the device itself, then its groups, then its site, then the
// defaults. Two groups of a device that disagree are an error unless the device
// has its own value. Labels are merged key by key by the same rule, ssh and bmc
// setting by setting. Where nobody names credentials, the ones called "default"
// are used if they exist. A jump that a device inherits and that is the device
// itself does not count, so that a site's jump host can be a device of the site.
//
// # Jump hosts
//
// A jump host that is a device brings its own address, credentials, settings and
// its own jump host; the chain may not be a circle. user@host:port uses the
// private key and the agent of the device that names it, under that user name;
// its password is never sent there, because it belongs to another host.
//
// A BMC has no jump host but its own, bmc: {jump: JUMP}: it is often in another
// network than its device. ipmi_lan cannot go through one, because it is UDP, and
// auto tries the other protocols alone.
package inventory
