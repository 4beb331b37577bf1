package daemon

import (
	"capfleet/internal/check"
	"capfleet/internal/command"
	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/device/endace"
	"capfleet/internal/device/linux"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/hostkeys"
	"capfleet/internal/operation"
	"capfleet/internal/parse"
	"capfleet/internal/report"
	"capfleet/internal/secret"
	"capfleet/internal/sel"
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
func operations(lib *parse.Library, dialer *sshconn.Dialer, definition func(string) (*device.Definition, bool), secrets *secret.Resolver) []operation.Operation {
	return []operation.Operation{
		report.New(lib),
		command.New(definition),
		check.New(),
		hostkeys.New(dialer, dialer),
		sel.New(sel.Options{Secrets: secrets}),
	}
}
