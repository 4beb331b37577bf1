// Package bigip is the driver for F5 BIG-IP. A login gets one of two shells, the
// advanced shell (bash) or tmsh, and a command means one of the two: its mode is
// "tmsh" (the default) or "bash".
//
//   - A bash login runs every command over SSH exec, a tmsh one as tmsh -c. End of
//     file and exit status prove that the answer is complete.
//   - A tmsh login has no exit status to offer. It is worked through its prompt,
//     which changes with the failover and sync state while connected; bash is
//     reached with "run /util bash".
//
// An output looks the same either way: it has no prompt. platform.yaml says what
// is believed about the two shells; the appliance is authoritative.
package bigip

import (
	"context"
	_ "embed"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Platform is the name that inventories use.
const Platform = "f5_bigip"

// Modes of a command.
const (
	ModeTmsh = "tmsh"
	ModeBash = "bash"
)

//go:embed platform.yaml
var builtin []byte

// Driver opens sessions with BIG-IPs.
type Driver struct{ def *device.Definition }

var _ device.Driver = (*Driver)(nil)

// New makes the driver with the built-in definition, or with the operator's one
// in the override directory, which may be "".
func New(overrides string) (device.Driver, error) {
	def, err := device.LoadPlatform(overrides, Platform, builtin)
	if err != nil {
		return nil, err
	}
	for _, mode := range []string{ModeTmsh, ModeBash} {
		if !slices.Contains(def.ModeNames(), mode) {
			return nil, fault.New(fault.Invalid, "%s: mode %s is missing: the driver cannot do without it", def.Source, mode)
		}
	}
	return &Driver{def}, nil
}

// Platform implements device.Driver.
func (d *Driver) Platform() string { return Platform }

// Definition implements device.Driver.
func (d *Driver) Definition() *device.Definition { return d.def }

// Open implements device.Driver. It finds out which shell the login has.
func (d *Driver) Open(ctx context.Context, dev *device.Device, conn device.Conn) (device.Session, error) {
	bash, err := hasBash(ctx, conn)
	if err != nil {
		return nil, err
	}
	s := &session{dev: dev, def: d.def, conn: conn}
	if bash {
		return s, nil
	}
	if s.shell, err = conn.Shell(ctx, d.def); err != nil {
		return nil, err
	}
	return s, nil
}

// hasBash asks the login shell to print a word. bash does; tmsh, for which it is
// no command, or a device that allows no exec, says something else.
func hasBash(ctx context.Context, conn device.Conn) (bool, error) {
	const word = "capfleet-login-shell"
	res, err := conn.Exec(ctx, device.ExecRequest{Raw: "echo " + word, MaxBytes: 64 << 10})
	switch {
	case err == nil:
		return res.Status == 0 && strings.TrimSpace(string(res.Stdout)) == word, nil
	case fault.Is(err, fault.Refused), fault.Is(err, fault.TooLarge):
		return false, nil
	default:
		return false, err
	}
}

// session is a device.Session. shell is nil with a bash login.
type session struct {
	dev    *device.Device
	def    *device.Definition
	conn   device.Conn
	shell  device.Shell
	closed atomic.Bool
}

func (s *session) Device() *device.Device         { return s.dev }
func (s *session) Definition() *device.Definition { return s.def }
func (s *session) Conn() device.Conn              { return s.conn }

func (s *session) Close() error {
	s.closed.Store(true)
	if s.shell == nil {
		return nil
	}
	return s.shell.Close()
}

func (s *session) Run(ctx context.Context, cmd device.Command) (device.Output, error) {
	if s.closed.Load() {
		return device.Output{Command: cmd.Line}, device.SessionClosed(s.dev, cmd)
	}
	asked := cmd.Line
	cmd, err := s.prepare(cmd)
	if err != nil {
		return device.Output{Command: asked}, err
	}
	var out device.Output
	if s.shell == nil {
		out, err = s.exec(ctx, cmd)
	} else {
		out, err = s.interact(ctx, cmd)
		err = device.Asked(err, asked)
	}
	out.Command, out.Prompt = asked, ""
	return out, err
}

// prepare fills in the mode. A line that names tmsh is taken without the name, as
// tmsh itself does not know it.
func (s *session) prepare(cmd device.Command) (device.Command, error) {
	if cmd.Mode == "" {
		cmd.Mode = ModeTmsh
	}
	if rest, ok := strings.CutPrefix(cmd.Line, "tmsh "); ok && cmd.Mode == ModeTmsh {
		cmd.Line = strings.TrimLeft(rest, " ")
	}
	cmd, err := s.def.CheckCommand(cmd)
	if err == nil && cmd.NewMode != "" && cmd.NewMode != cmd.Mode {
		err = s.invalid(cmd, "commands on a BIG-IP leave no mode behind")
	}
	return cmd, err
}

func (s *session) invalid(cmd device.Command, why string) error {
	return &fault.Error{Kind: fault.Invalid, Act: "run " + cmd.Line, Device: s.dev.Name, Stage: "command", Err: errors.New(why)}
}

// exec runs a command of a bash login.
func (s *session) exec(ctx context.Context, cmd device.Command) (device.Output, error) {
	if cmd.Mode == ModeBash {
		return device.RunExec(ctx, s.conn, s.dev, cmd, device.ExecRequest{Raw: cmd.Line})
	}
	// -q keeps tmsh from asking back.
	out, err := device.RunExec(ctx, s.conn, s.dev, cmd, device.ExecRequest{Args: []string{"tmsh", "-q", "-c", cmd.Line}})
	if err == nil {
		if said := s.def.Refusal(out.Text); said != "" {
			err = device.Refused(s.dev, cmd, "", said)
		}
	}
	return out, err
}

// interact runs a command of a tmsh login.
func (s *session) interact(ctx context.Context, cmd device.Command) (device.Output, error) {
	if cmd.Mode == ModeBash {
		quoted, ok := tmshQuote(cmd.Line)
		if !ok {
			return device.Output{}, s.invalid(cmd, "a line with both kinds of quotation marks, or with a single one beside $, ` or \\, cannot be passed through tmsh")
		}
		cmd.Line, cmd.Mode, cmd.NewMode = "run /util bash -c "+quoted, ModeTmsh, ""
	}
	return s.shell.Run(ctx, cmd)
}

// tmshQuote makes one argument of a line for bash. How tmsh takes escapes inside
// quotation marks is not known, so what would need them is left alone.
func tmshQuote(line string) (string, bool) {
	switch {
	case !strings.Contains(line, "'"):
		return "'" + line + "'", true
	case !strings.ContainsAny(line, "\"$`\\"):
		return `"` + line + `"`, true
	default:
		return "", false
	}
}
