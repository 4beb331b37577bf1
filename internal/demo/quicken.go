package demo

import (
	"slices"
	"time"

	"capfleet/internal/device"
)

// quicken shortens the waits of a platform's hotfix: simulated devices boot in
// moments, and one that comes back wrong shows it at once. What is sent, and what
// has to be proven, stays the same.
func quicken(def *device.Definition) {
	readings := slices.Clone(def.Proofs.Capturing)
	for i := range readings {
		readings[i].Apart = min(readings[i].Apart, 300*time.Millisecond)
	}
	def.Proofs.Capturing = readings
	if def.Hotfix == nil {
		return
	}
	h := *def.Hotfix
	h.Poll, h.Reconnect = 100*time.Millisecond, time.Minute
	if h.MaintenanceMode != nil {
		m := *h.MaintenanceMode
		m.Down, m.Settle, m.Stable = 15*time.Second, 2*time.Second, 300*time.Millisecond
		m.Return = device.Span{Typical: 5 * time.Second, Worst: 2 * time.Minute}
		h.MaintenanceMode = &m
	}
	if h.Volumes != nil {
		v := *h.Volumes
		v.Listed, v.Shows, v.Down, v.Settle, v.Stable = time.Minute, 10*time.Second, 15*time.Second, 5*time.Second, 300*time.Millisecond
		v.Install = device.Span{Typical: 5 * time.Second, Worst: 2 * time.Minute}
		v.Return = device.Span{Typical: 5 * time.Second, Worst: 2 * time.Minute}
		h.Volumes = &v
	}
	def.Hotfix = &h
}
