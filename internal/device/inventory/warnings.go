package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"

	"capfleet/internal/device"
	"capfleet/internal/secret"
)

// Warnings tells what is not wrong with the file but will stop work or is
// unsafe: secrets that are not there or that everybody can read, host keys that
// nobody has pinned yet, one address under two names. It looks at the files and
// the environment each time it is called, reads no secret and starts no program. A
// line a warning, always in the same order.
func (inv *Inventory) Warnings() []string {
	out := inv.sharedAddresses()
	if _, err := os.Stat(inv.knownHosts); errors.Is(err, fs.ErrNotExist) && len(inv.devices) > 0 {
		out = append(out, fmt.Sprintf("known_hosts file %s does not exist: every device will be refused until its host key is pinned", inv.knownHosts))
	}
	out = append(out, inv.unpinnedBMCs()...)
	seen := map[string]bool{} // one identity opens many files
	for _, ref := range inv.references(secrets) {
		for _, w := range ref.Warnings() {
			if !seen[w] {
				seen[w] = true
				out = append(out, w)
			}
		}
	}
	for _, ref := range inv.references(certificates) {
		// A certificate is no secret: that everybody can read its file is as it should be.
		if _, err := os.Stat(ref.File); ref.File != "" && errors.Is(err, fs.ErrNotExist) {
			out = append(out, "certificate "+ref.String()+" does not exist")
		}
	}
	return out
}

// unpinnedBMCs tells of a file of pinned certificates that is missing while BMCs
// need it: those that are not read over IPMI, whose certificate the inventory does
// not pin.
func (inv *Inventory) unpinnedBMCs() []string {
	waiting, path := 0, ""
	for _, d := range inv.devices {
		if b := d.BMC; b != nil && b.Protocol != bmcIPMI && b.Protocol != bmcAuto && !b.PlainHTTP && len(b.TLSPins) == 0 {
			waiting, path = waiting+1, b.KnownBMCs
		}
	}
	if waiting == 0 {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return []string{fmt.Sprintf("%s does not exist: %d BMCs will be refused until their certificates are pinned (fleetctl device trust --bmc)", path, waiting)}
}

func secrets(c *device.Credentials) []secret.Ref {
	return []secret.Ref{c.Password, c.PrivateKey, c.Passphrase, c.Enable}
}

func certificates(c *device.Credentials) []secret.Ref { return []secret.Ref{c.Certificate} }

// references gives what of the credentials that a device or a jump host needs,
// each once, always in the same order.
func (inv *Inventory) references(what func(*device.Credentials) []secret.Ref) []secret.Ref {
	all := map[secret.Ref]bool{}
	add := func(c *device.Credentials) {
		for _, ref := range what(c) {
			if !ref.IsZero() {
				all[ref] = true
			}
		}
	}
	for _, d := range inv.devices {
		add(&d.Credentials)
		for i := range d.Jump {
			add(&d.Jump[i].Credentials)
		}
		if d.BMC != nil {
			add(&d.BMC.Credentials)
			for i := range d.BMC.Jump {
				add(&d.BMC.Jump[i].Credentials)
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b secret.Ref) int {
		return cmp.Or(cmp.Compare(a.Env, b.Env), cmp.Compare(a.File, b.File),
			cmp.Compare(a.Age.File, b.Age.File), cmp.Compare(a.Age.Identity, b.Age.Identity),
			cmp.Compare(a.Command, b.Command), cmp.Compare(a.Credential, b.Credential))
	})
}

// sharedAddresses finds devices that are one appliance under two names: limits
// and locks would then not hold for it.
func (inv *Inventory) sharedAddresses() []string {
	type target struct{ address, via string }
	first := make(map[target]string, len(inv.devices))
	var out []string
	for _, d := range inv.devices {
		t := target{address: net.JoinHostPort(d.Host, strconv.Itoa(d.Port))}
		if len(d.Jump) > 0 {
			t.via = d.Jump[len(d.Jump)-1].Name
		}
		if other, taken := first[t]; taken {
			out = append(out, fmt.Sprintf("devices %s and %s have one address, %s", other, d.Name, t.address))
			continue
		}
		first[t] = d.Name
	}
	return out
}
