package client

import (
	"context"
	"errors"
	"io"
	"strings"

	"capfleet/internal/fault"
)

// Proxy is the far side of ssh://: it joins in and out to the socket of the fleetd
// on this machine until either ends, and returns nil then. A socket that cannot be
// opened is fault.Unavailable, before anything was written; fleetd sees the user
// that runs this process.
//
// A read of in that waits cannot be interrupted: where in is a process's input the
// process has to end after Proxy, else in has to be closed.
func Proxy(ctx context.Context, server string, in io.Reader, out io.Writer) error {
	if strings.HasPrefix(server, "ssh://") {
		return &fault.Error{Kind: fault.Invalid, Act: "the far side of ssh:// leads to a socket of its own host, not on to " + server,
			Next: "name that one directly, with a jump host in ssh's configuration"}
	}
	socket, err := parseUnix(server)
	if err != nil {
		return err
	}
	conn, err := socket.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	// On a line of its own, whatever a login script has left unfinished.
	if _, err := io.WriteString(out, "\n"+greeting+"\n"); err != nil {
		return fault.Wrap(fault.Disconnected, "greet the other side", err)
	}
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(conn, in)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(out, conn)
		ended <- err
	}()
	// HTTP's two directions end together: no half of it is of use alone.
	err = <-ended
	if cause := ctx.Err(); cause != nil {
		return fault.Wrap(fault.Canceled, "join fleetd", cause)
	}
	var have *fault.Error
	if err != nil && !errors.As(err, &have) {
		err = fault.Wrap(fault.Disconnected, "join fleetd at "+socket.String(), err)
	}
	return err
}
