package daemon

import (
	"maps"
	"slices"

	"capfleet/internal/api"
	"capfleet/internal/bmc"
	"capfleet/internal/device/inventory"
	"capfleet/internal/sel"
)

// bmcPins is the part of a request to pin that is about the certificates of BMCs,
// by file.
type bmcPins map[string][]pinnedKey

type pinnedKey struct {
	key api.HostKey
	pin bmc.Pin
}

// takeCertificates parts the certificates of BMCs from the host keys.
func takeCertificates(inv *inventory.Inventory, all []api.HostKey) (keys []api.HostKey, certificates bmcPins, err error) {
	certificates = bmcPins{}
	for _, key := range all {
		if key.Type != sel.CertificateType {
			keys = append(keys, key)
			continue
		}
		dev, err := inv.Device(key.Device)
		if err != nil {
			return nil, nil, err
		}
		path, pin, err := sel.PinOf(dev, key.Host, key.SHA256, key.PublicKey)
		if err != nil {
			return nil, nil, err
		}
		certificates[path] = append(certificates[path], pinnedKey{key, pin})
	}
	return keys, certificates, nil
}

// pinCertificates writes them. One call at a time writes a file.
func (d *Daemon) pinCertificates(certificates bmcPins, replace bool) (out api.PinResult, err error) {
	d.pinning.Lock()
	defer d.pinning.Unlock()
	for _, path := range slices.Sorted(maps.Keys(certificates)) {
		var pins []bmc.Pin
		for _, c := range certificates[path] {
			pins = append(pins, c.pin)
		}
		added, _, err := bmc.AddPins(path, pins, replace)
		if err != nil {
			return out, err
		}
		for _, c := range certificates[path] {
			if slices.Contains(added, c.pin) {
				out.Added = append(out.Added, c.key)
			} else {
				out.Unchanged = append(out.Unchanged, c.key)
			}
		}
	}
	return out, nil
}
