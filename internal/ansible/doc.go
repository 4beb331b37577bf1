// Package ansible reads inventories of Ansible (INI, YAML, or the JSON that
// ansible-inventory --list prints) and makes an inventory of ours of them.
//
// Nothing is guessed and no secret is copied. What is not said in a way that we
// know becomes a note with the reason, and a host that lacks what a device needs is
// left out and noted. What comes out is read by our own strict loader before
// anybody sees it.
//
// Ansible is authoritative about its formats; where ours is simpler (templates in
// values, group_vars folders, plugins), the way is to have ansible-inventory --list
// resolve them first.
package ansible
