// Package sim is a simulated fleet: Endace probes (OSm), F5 BIG-IPs and Linux
// hosts behind real SSH and SFTP servers on loopback, to practise on and to
// test against. Any SSH client can use it; the tests drive it with OpenSSH and
// netmiko as well as with x/crypto/ssh.
//
// What the devices say follows docs/formats.md; where that file calls a layout
// inferred or unknown, the default here is the poorest variant that the known
// facts allow, and other variants can be ordered per device. Real appliances
// are authoritative, never this package.
//
// A Fleet lives in a directory. state.json there holds what must survive (keys,
// ports, each device's state), journal.jsonl is the simulator's own record of
// what truly happened, and inventory.yaml, known_hosts, ssh_config, id_ed25519
// and secrets/ are what clients need. Faults, variants and events are orders
// (Orders, Order, OrderRunning); they last as long as the running fleet.
//
// Everything stays on loopback: a device's files are rooted in its own folder,
// its shells are interpreted and start no process, and forwarding through a
// bastion reaches other devices of the same fleet and nothing else.
package sim
