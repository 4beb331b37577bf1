package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

// Notify says how a service manager wants to be told about the state of this
// process: the protocol of sd_notify(3), that of systemd units of Type=notify.
type Notify struct {
	// Socket is a datagram socket's path, or with @ before it an abstract name; ""
	// tells nobody. It is the environment's NOTIFY_SOCKET.
	Socket string
	// Watchdog is the time after which the manager takes this process for stuck if it
	// says nothing; 0 is never. It is the environment's WATCHDOG_USEC.
	Watchdog time.Duration
}

// maxStatus bounds the text for people in a message: a datagram has to fit.
const maxStatus = 1 << 10

// notifier tells the service manager. The zero notifier tells nobody.
type notifier struct {
	conn net.Conn
	log  *slog.Logger
}

func newNotifier(ctx context.Context, socket string, log *slog.Logger) (notifier, error) {
	if socket == "" {
		return notifier{}, nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixgram", socket) // a name with @ is an abstract one
	if err != nil {
		return notifier{}, &fault.Error{Kind: fault.Invalid, Act: "reach the service manager at NOTIFY_SOCKET " + socket, Err: err}
	}
	return notifier{conn, log}, nil
}

// tell sends assignments, such as READY=1, and a line for people. A manager that
// does not listen is no reason to stop working.
func (n notifier) tell(status string, assignments ...string) {
	if n.conn == nil {
		return
	}
	if status != "" {
		status, _, _ = strings.Cut(status, "\n")
		if len(status) > maxStatus {
			status = strings.ToValidUTF8(status[:maxStatus], "")
		}
		assignments = append(assignments, "STATUS="+status)
	}
	if _, err := n.conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		n.log.Warn("service manager not told", "message", assignments[0], "err", err)
	}
}

func (n notifier) close() error {
	if n.conn == nil {
		return nil
	}
	return n.conn.Close()
}

// serving is the status while everything is well.
func (d *Daemon) serving() string {
	return fmt.Sprintf("serving %d devices on %s", len(d.inventory.Load().Devices()), d.opts.Socket)
}

// watchdog tells the service manager, twice in its time, that this process works,
// until ctx ends. It works when the ledger answers; one that hangs keeps the
// message away.
func (d *Daemon) watchdog(ctx context.Context) {
	if d.opts.Notify.Watchdog <= 0 || d.notifier.conn == nil {
		return
	}
	tick := time.NewTicker(d.opts.Notify.Watchdog / 2)
	defer tick.Stop()
	for {
		_, _, err := d.engine.List(ctx, jobs.ListOptions{Limit: 1})
		switch {
		case err == nil:
			d.notifier.tell("", "WATCHDOG=1")
		case ctx.Err() == nil:
			d.log.Error("ledger does not answer; the watchdog is not told", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
