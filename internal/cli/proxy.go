package cli

import (
	"context"

	"github.com/spf13/cobra"

	"capfleet/internal/api/client"
	"capfleet/internal/fault"
)

// proxyCommand is what ssh runs on the other host for --server ssh://. It is not
// shown: people have no use for it, except as a forced command of a key.
func (a *app) proxyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "proxy",
		Short:  "join standard input and output to fleetd's socket",
		Hidden: true,
		Long: `Joins standard input and output to the socket of the fleetd on this host until
either ends. A fleetctl elsewhere runs it through SSH for --server ssh://. A key
that is to reach fleetd and nothing else has this in authorized_keys:

  restrict,command="fleetctl proxy" ssh-ed25519 AAAA... joe

` + exitHelp(fault.ExitDone, fault.ExitUsage, fault.ExitUnavailable),
		Args: cobra.NoArgs,
		RunE: a.local(func(ctx context.Context, _ []string) error {
			server, err := a.server()
			if err != nil {
				return err
			}
			return client.Proxy(ctx, server, a.streams.In, a.streams.Out)
		}),
	}
}
