// Package endace is the driver for Endace OSm, the system of EndaceProbes and of
// their central management server. Its command line is the only way in, so
// everything runs through an interactive shell; platform.yaml says what is
// believed about it, and the appliance is authoritative.
//
// Modes of a command are standard, enable and config. A probe in maintenance mode
// has the same modes with "(maintenance) " before the prompt; Output.Prompt shows
// it.
package endace

import (
	"context"
	_ "embed"

	"capfleet/internal/device"
)

// Platform is the name that inventories use.
const Platform = "endace_osm"

//go:embed platform.yaml
var builtin []byte

// Driver opens sessions with Endace appliances.
type Driver struct{ def *device.Definition }

var _ device.Driver = (*Driver)(nil)

// New makes the driver with the built-in definition, or with the operator's one
// in the override directory, which may be "".
func New(overrides string) (device.Driver, error) {
	def, err := device.LoadPlatform(overrides, Platform, builtin)
	if err != nil {
		return nil, err
	}
	return &Driver{def}, nil
}

// Platform implements device.Driver.
func (d *Driver) Platform() string { return Platform }

// Definition implements device.Driver.
func (d *Driver) Definition() *device.Definition { return d.def }

// Open implements device.Driver: a shell in the working mode, paging off.
func (d *Driver) Open(ctx context.Context, dev *device.Device, conn device.Conn) (device.Session, error) {
	sh, err := conn.Shell(ctx, d.def)
	if err != nil {
		return nil, err
	}
	return &session{dev: dev, def: d.def, conn: conn, shell: sh}, nil
}

type session struct {
	dev   *device.Device
	def   *device.Definition
	conn  device.Conn
	shell device.Shell
}

func (s *session) Device() *device.Device         { return s.dev }
func (s *session) Definition() *device.Definition { return s.def }
func (s *session) Conn() device.Conn              { return s.conn }
func (s *session) Close() error                   { return s.shell.Close() }

func (s *session) Run(ctx context.Context, cmd device.Command) (device.Output, error) {
	return s.shell.Run(ctx, cmd)
}
