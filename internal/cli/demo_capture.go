package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"capfleet/internal/api"
	"capfleet/internal/capture/capturejob"
	"capfleet/internal/demo"
	"capfleet/internal/fault"
)

// demoPackets is how many packets the demo's capture waits for: three connections
// of the simulated traffic.
const demoPackets = 36

// tourCapture captures live on a simulated host and shows what it got. A fleet
// without a host that can be captured on is shown nothing.
func (a *app) tourCapture(ctx context.Context, env *demo.Env, f fleet, dir string) (err error) {
	device := ""
	for _, d := range env.Fleet().Devices() {
		if d.Platform == "linux" && d.Jump == "" {
			device = d.Name
			break
		}
	}
	if device == "" {
		return nil
	}
	a.remark("\n$ fleetctl capture live %s -i eth0 -f 'tcp port 443' --packets %d -w capture.pcap\n$ fleetctl pcap info capture.pcap", device, demoPackets)
	name := filepath.Join(dir, "capture.pcap")
	file, err := newCaptureFile(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.RemoveAll(name)) }()
	n, seconds := int64(demoPackets), 60.0
	job, err := a.start(ctx, f, capturejob.Operation, capturejob.Spec{Live: &capturejob.Live{Interface: "eth0", Filter: "tcp port 443", Packets: &n, DurationSeconds: &seconds}},
		api.Selection{Names: []string{device}})
	if err != nil {
		return err
	}
	res, err := a.readLive(ctx, f, job, file, func(string) {})
	if err := a.reportLive(res, name, err); err != nil {
		return err
	}
	row, err := a.captureInfo(ctx, name, &pcapInfoOptions{})
	if err != nil {
		return captureFault(name, err)
	}
	if row.Packets == 0 {
		return fault.New(fault.Internal, "the capture has no packets")
	}
	row.File = "capture.pcap"
	return fault.Wrap(fault.Internal, "print the result", writeCapture(a.streams.Out, row, a.screen()))
}
