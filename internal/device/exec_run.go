package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"capfleet/internal/fault"
)

// CheckCommand refuses a command that no driver could type: an empty line, one
// with control characters, a mode that the platform does not have. It returns the
// command with its mode filled in.
func (d *Definition) CheckCommand(cmd Command) (Command, error) {
	if cmd.Mode == "" {
		cmd.Mode = d.Shell.WorkingMode
	}
	fail := func(err error) (Command, error) {
		return cmd, &fault.Error{Kind: fault.Invalid, Act: "run " + cmd.Line, Stage: "command", Err: err}
	}
	for _, m := range []string{cmd.Mode, cmd.NewMode} {
		if m == "" || d.Shell.modeIndex(m) >= 0 {
			continue
		}
		if len(d.Shell.Modes) == 0 {
			return fail(fmt.Errorf("unknown mode %q: %s has no modes", m, d.Platform))
		}
		return fail(fmt.Errorf("unknown mode %q (known: %s)", m, strings.Join(d.ModeNames(), ", ")))
	}
	if strings.TrimSpace(cmd.Line) == "" {
		return fail(errors.New("the command is empty"))
	}
	if err := oneLine(cmd.Line); err != nil {
		return fail(err)
	}
	for name, text := range cmd.Answers {
		if !slices.ContainsFunc(d.Shell.Questions, func(q Question) bool { return q.Name == name }) {
			return fail(fmt.Errorf("%s has no question %q to answer", d.Platform, name))
		}
		if err := oneLine(text); err != nil {
			return fail(fmt.Errorf("answer to %s: %w", name, err))
		}
	}
	return cmd, nil
}

// maxLine bounds a command line: a terminal in line mode takes 4095 bytes.
const maxLine = 4000

func oneLine(text string) error {
	switch {
	case len(text) > maxLine:
		return fmt.Errorf("longer than %d bytes, which a terminal does not take as one line", maxLine)
	case !printable(text):
		return errors.New("a line break or control character cannot be part of one line")
	default:
		return nil
	}
}

// RunExec runs a command of a session over SSH exec: req says how the line is
// sent, cmd what it is, for how long and how much. A status other than 0 is
// fault.Refused and gives what was written to either stream. There is no prompt.
func RunExec(ctx context.Context, conn Conn, dev *Device, cmd Command, req ExecRequest) (Output, error) {
	out := Output{Command: cmd.Line}
	req.Timeout, req.MaxBytes = cmd.Timeout, cmd.MaxBytes
	res, err := conn.Exec(ctx, req)
	out.Elapsed = res.Elapsed
	out.Text = CleanText(res.Stdout)
	if err != nil {
		out.Truncated = fault.Is(err, fault.TooLarge)
		return out, Asked(err, cmd.Line)
	}
	if res.Status == 0 {
		return out, nil
	}
	if said := CleanText(res.Stderr); said != "" {
		if out.Text != "" && !strings.HasSuffix(out.Text, "\n") {
			out.Text += "\n"
		}
		out.Text += said
		out.Stderr = said
	}
	return out, Refused(dev, cmd, fmt.Sprintf("exit status %d", res.Status), out.Text)
}

// Refused is the error for a command that the device answered with an error. The
// first line of what it said is in the text.
func Refused(dev *Device, cmd Command, how, said string) error {
	const most = 200
	line, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "..."
	}
	e := &fault.Error{Kind: fault.Refused, Act: "run " + cmd.Line, Device: dev.Name, Stage: "command"}
	switch {
	case how == "":
		e.Err = fmt.Errorf("the device answers %q", line)
	case line == "":
		e.Err = errors.New(how)
	default:
		e.Err = fmt.Errorf("%s: %q", how, line)
	}
	return e
}

// Asked makes an error speak of the line that was asked for, where a driver had
// to send another one in its place.
func Asked(err error, line string) error {
	var e *fault.Error
	if !errors.As(err, &e) {
		return err
	}
	asked := *e
	asked.Act = "run " + line
	return &asked
}

// SessionClosed is the error for a command given to a session after its Close.
func SessionClosed(dev *Device, cmd Command) error {
	return &fault.Error{Kind: fault.Disconnected, Act: "run " + cmd.Line, Device: dev.Name, Stage: "session",
		Err: errors.New("the session is closed")}
}
