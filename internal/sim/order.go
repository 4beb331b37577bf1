package sim

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// order is one order, checked, for the devices it names.
type order struct {
	devices []*device
	clear   bool  // entry (or, with an empty one, everything) is cleared
	entry   entry // of the catalogue
	arg     string
}

// parseOrder reads DEVICE:NAME[=ARGUMENT].
func (f *Fleet) parseOrder(text string) (order, error) {
	who, what, found := strings.Cut(text, ":")
	if !found || who == "" || what == "" {
		return order{}, fmt.Errorf("%w %q: write DEVICE:FAULT or DEVICE:FAULT=ARGUMENT", ErrInvalid, text)
	}
	devices, err := f.match(who)
	if err != nil {
		return order{}, err
	}
	name, arg, hasArg := strings.Cut(what, "=")
	if hasArg && arg == "" {
		return order{}, fmt.Errorf("%w %q: nothing follows the =", ErrInvalid, text)
	}
	if name == "none" {
		o := order{devices: devices, clear: true}
		if arg != "" {
			o.entry, err = lookupEntry(arg)
		}
		return o, err
	}
	e, err := lookupEntry(name)
	if err != nil {
		return order{}, err
	}
	// A glob reaches the devices that know the thing; a name must be one of them.
	if e.Platform != "" {
		devices = slices.DeleteFunc(slices.Clone(devices), func(d *device) bool { return !slices.Contains(strings.Split(e.Platform, ", "), d.platform) })
		if len(devices) == 0 {
			return order{}, fmt.Errorf("%w %q: only %s devices know %s", ErrInvalid, text, e.Platform, e.Name)
		}
	}
	switch {
	case e.event != nil && hasArg && e.Argument == "":
		return order{}, fmt.Errorf("%w: %s takes no argument", ErrInvalid, e.Name)
	case !hasArg && strings.HasPrefix(e.Argument, "="):
		return order{}, fmt.Errorf("%w: write %s%s", ErrInvalid, e.Name, e.Argument)
	case e.event == nil:
		// Parsed again for each device: some orders count, and each device counts
		// for itself.
		if _, err := e.set(arg); err != nil {
			return order{}, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return order{devices: devices, entry: e, arg: arg}, nil
}

// match finds devices by name or glob.
func (f *Fleet) match(pattern string) ([]*device, error) {
	if d := f.devices[pattern]; d != nil {
		return []*device{d}, nil
	}
	var out []*device
	for _, d := range f.ordered {
		ok, err := path.Match(pattern, d.name)
		if err != nil {
			return nil, fmt.Errorf("%w: device pattern %q: %w", ErrInvalid, pattern, err)
		}
		if ok {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no simulated device is called %q (they are called %s and so on)",
			ErrInvalid, pattern, f.ordered[0].name)
	}
	return out, nil
}

func lookupEntry(name string) (entry, error) {
	var names []string
	for _, e := range catalogue() {
		if e.Name == name || slices.Contains(e.aliases, name) {
			return e, nil
		}
		names = append(names, e.Name)
	}
	return entry{}, fmt.Errorf("%w: no fault is called %q; there are %s", ErrInvalid, name, strings.Join(names, ", "))
}

// apply puts an order in force.
func (f *Fleet) apply(o order) error {
	var errs []error
	for _, d := range o.devices {
		if err := d.obey(o); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.name, err))
		}
	}
	return errors.Join(errs...)
}
