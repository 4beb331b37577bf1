// Package linux is the driver for Linux hosts. It uses no interactive shell:
// every command is an SSH exec, whose end of file and exit status are the proof
// that its output is complete. The host's login shell is authoritative about what
// a line means; it gets the line as the operator wrote it.
package linux

import (
	"context"
	_ "embed"
	"sync/atomic"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Platform is the name that inventories use.
const Platform = "linux"

//go:embed platform.yaml
var builtin []byte

// Driver opens sessions with Linux hosts.
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

// Open implements device.Driver. Nothing is sent: the first command will show
// whether the host runs any.
func (d *Driver) Open(ctx context.Context, dev *device.Device, conn device.Conn) (device.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, &fault.Error{Kind: fault.KindOf(err), Act: "open session", Device: dev.Name, Stage: "session", Err: err}
	}
	return &session{dev: dev, def: d.def, conn: conn}, nil
}

// session is a device.Session. It holds nothing of its own on the connection.
type session struct {
	dev    *device.Device
	def    *device.Definition
	conn   device.Conn
	closed atomic.Bool
}

func (s *session) Device() *device.Device         { return s.dev }
func (s *session) Definition() *device.Definition { return s.def }
func (s *session) Conn() device.Conn              { return s.conn }

func (s *session) Close() error {
	s.closed.Store(true)
	return nil
}

func (s *session) Run(ctx context.Context, cmd device.Command) (device.Output, error) {
	if s.closed.Load() {
		return device.Output{Command: cmd.Line}, device.SessionClosed(s.dev, cmd)
	}
	cmd, err := s.def.CheckCommand(cmd)
	if err != nil {
		return device.Output{Command: cmd.Line}, err
	}
	return device.RunExec(ctx, s.conn, s.dev, cmd, device.ExecRequest{Raw: cmd.Line})
}
