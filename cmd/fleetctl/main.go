// Command fleetctl works with a fleet of packet-capture appliances through
// fleetd. Everything it does is in package cli; here are only the process's own
// streams, signals and exit code.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // Windows and bare containers have no zone database

	"capfleet/internal/cli"
)

// version is set by the linker for releases.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the context; from then on a second one ends the process
	// at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], cli.ProcessStreams(), cli.ReadBuild(version)))
}
