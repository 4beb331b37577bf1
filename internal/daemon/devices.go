package daemon

import (
	"context"
	"encoding/json"
	"iter"
	"sync"

	"capfleet/internal/api"
	"capfleet/internal/device"
	"capfleet/internal/device/inventory"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

func (s service) Devices(ctx context.Context, sel api.Selection) (iter.Seq2[json.RawMessage, error], error) {
	inv := s.d.inventory.Load()
	devices := inv.Devices()
	if len(sel.Names) > 0 || sel.Selector != "" || sel.All {
		var err error
		if devices, err = inv.Select(selection(sel)); err != nil {
			return nil, err
		}
	}
	facts, err := s.d.engine.AllDeviceFacts(ctx)
	if err != nil {
		return nil, err
	}
	return func(yield func(json.RawMessage, error) bool) {
		for _, dev := range devices {
			if !yield(s.d.listed.of(inv, dev, facts)) {
				return
			}
		}
	}, nil
}

func (s service) Device(ctx context.Context, name string) (api.Device, error) {
	dev, err := s.d.inventory.Load().Device(name)
	if err != nil {
		return api.Device{}, err
	}
	facts, seen, lastError, err := s.d.engine.DeviceFacts(ctx, name)
	if err != nil {
		return api.Device{}, err
	}
	return deviceOut(dev, jobs.DeviceFacts{Facts: facts, LastSeen: seen, LastError: lastError}), nil
}

// prepareList makes the bodies of all devices, so that the first who lists a large fleet
// waits no longer than others. What goes wrong is told to whoever asks for a list.
func (d *Daemon) prepareList(ctx context.Context) {
	bodies, err := service{d}.Devices(ctx, api.Selection{})
	if err != nil {
		return
	}
	for _, err := range bodies {
		if err != nil || ctx.Err() != nil {
			return
		}
	}
}

// deviceBodies keeps the JSON of each device that was listed, until the inventory is
// another one or something else is known of the device. To make it anew takes ten times
// as long as to find that it still holds, and a fleet of 20,000 is listed again and
// again while a job works on it. The zero value is ready to use.
type deviceBodies struct {
	mu   sync.Mutex
	inv  *inventory.Inventory
	made map[string]deviceBody
}

type deviceBody struct {
	facts string // that it was made of, as they are stored
	json  json.RawMessage
}

// of gives the JSON of a device of inv, for reading only.
func (c *deviceBodies) of(inv *inventory.Inventory, dev *device.Device, all jobs.FleetFacts) (json.RawMessage, error) {
	facts := all.Encoded(dev.Name)
	c.mu.Lock()
	have, ok := c.made[dev.Name]
	ok = ok && c.inv == inv && have.facts == facts
	c.mu.Unlock()
	if ok {
		return have.json, nil
	}
	decoded, err := all.Of(dev.Name)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(deviceOut(dev, decoded))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "encode device "+dev.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inv != inv {
		c.inv, c.made = inv, make(map[string]deviceBody)
	}
	c.made[dev.Name] = deviceBody{facts, body}
	return body, nil
}
