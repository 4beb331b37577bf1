package daemon

import (
	"context"

	"capfleet/internal/artifact"
	"capfleet/internal/capture"
	"capfleet/internal/check"
	"capfleet/internal/command"
	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/device/endace"
	"capfleet/internal/device/linux"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/fault"
	"capfleet/internal/hostkeys"
	"capfleet/internal/hotfix"
	"capfleet/internal/operation"
	"capfleet/internal/parse"
	"capfleet/internal/report"
	"capfleet/internal/secret"
	"capfleet/internal/sel"
	"capfleet/internal/stream"
)

// platforms is the list of drivers. A new platform is one line here.
func platforms(overrides string) ([]device.Driver, error) {
	var drivers []device.Driver
	for _, open := range []func(string) (device.Driver, error){
		endace.New,
		bigip.New,
		linux.New,
	} {
		d, err := open(overrides)
		if err != nil {
			return nil, err
		}
		drivers = append(drivers, d)
	}
	return drivers, nil
}

// operations is the list of kinds of work. A new operation is one line here.
func operations(lib *parse.Library, dialer *sshconn.Dialer, definition func(string) (*device.Definition, bool), secrets *secret.Resolver, artifacts *artifact.Store, hub *stream.Hub, rings capture.RingOptions, dossiers sel.GatherOptions, capacity operation.Operation) []operation.Operation {
	return []operation.Operation{
		report.New(lib),
		capacity,
		command.New(definition),
		check.New(),
		hostkeys.New(dialer, dialer),
		capture.New(hub, rings),
		sel.New(sel.Options{Secrets: secrets, Through: dialer}),
		sel.NewCertificates(dialer),
		sel.NewDossier(dossiers),
		hotfix.New(hotfix.Options{Definitions: definition, File: artifactFile(artifacts), Buffers: rings.Buffers}),
	}
}

// artifactFile finds the artifact that a request names by its whole digest.
func artifactFile(artifacts *artifact.Store) func(context.Context, string) (hotfix.File, error) {
	return func(ctx context.Context, sha256 string) (hotfix.File, error) {
		found, err := artifacts.Find(ctx, sha256, 1)
		if err != nil {
			return hotfix.File{}, err
		}
		if len(found) == 0 || found[0].SHA256 != sha256 {
			return hotfix.File{}, fault.New(fault.NotFound, "no artifact %s", fault.Clip(sha256, 80))
		}
		return hotfix.File{SHA256: sha256, Name: found[0].Name, Size: found[0].Size}, nil
	}
}
