package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// controlFile is the socket by which a running fleet takes orders. Where the
// directory's path is too long for a socket address it is a symbolic link.
const controlFile = "control.sock"

// maxSocketPath is what every system takes (macOS has room for 104 bytes).
const maxSocketPath = 100

// controlTimeout bounds one exchange; an order is done in well under it.
const controlTimeout = 10 * time.Second

type controlRequest struct {
	Device string `json:"device"`
	Order  string `json:"order"`
}

type controlReply struct {
	Error   string `json:"error,omitempty"`
	Invalid bool   `json:"invalid,omitempty"` // the error is one of usage
}

type controlServer struct {
	fleet    *Fleet
	listener net.Listener
	link     string // set when the socket lives elsewhere
	tempDir  string

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// OrderRunning gives an order to the fleet that runs in dir, perhaps in another
// process. Errors wrap ErrInvalid or ErrNotRunning where they apply.
func OrderRunning(dir, device, fault string) error {
	conn, err := dialControl(context.Background(), dir)
	if err != nil {
		return fmt.Errorf("%w in %s: %w", ErrNotRunning, dir, err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return fmt.Errorf("order %s for %s: %w", fault, device, err)
	}
	if err := json.NewEncoder(conn).Encode(controlRequest{Device: device, Order: fault}); err != nil {
		return fmt.Errorf("order %s for %s: %w", fault, device, err)
	}
	var reply controlReply
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return fmt.Errorf("order %s for %s: %w", fault, device, err)
	}
	switch {
	case reply.Invalid:
		return &orderError{text: reply.Error, kind: ErrInvalid}
	case reply.Error != "":
		return errors.New(reply.Error)
	}
	return nil
}

// orderError is an error that came over the socket: its text already names its kind.
type orderError struct {
	text string
	kind error
}

func (e *orderError) Error() string { return e.text }
func (e *orderError) Unwrap() error { return e.kind }

func dialControl(ctx context.Context, dir string) (net.Conn, error) {
	path, err := filepath.Abs(filepath.Join(dir, controlFile))
	if err != nil {
		return nil, err
	}
	if target, err := os.Readlink(path); err == nil {
		path = target
	}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// openControl takes the directory for this fleet: a second one is refused while
// the first answers.
func openControl(f *Fleet) (*controlServer, error) {
	path := filepath.Join(f.dir, controlFile)
	if conn, err := dialControl(f.ctx, f.dir); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("simulated fleet: another one is running in %s", f.dir)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("simulated fleet: %w", err)
	}
	c := &controlServer{fleet: f, conns: map[net.Conn]struct{}{}}
	at := path
	if len(path) > maxSocketPath {
		tmp, err := os.MkdirTemp("", "sim")
		if err != nil {
			return nil, fmt.Errorf("simulated fleet: %w", err)
		}
		c.tempDir, c.link = tmp, path
		at = filepath.Join(tmp, controlFile)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(f.ctx, "unix", at)
	if err == nil {
		c.listener = l
		err = os.Chmod(at, 0o600)
	}
	if err == nil && c.link != "" {
		err = os.Symlink(at, c.link)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("simulated fleet: %w", err), c.close())
	}
	return c, nil
}

func (c *controlServer) serve() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		if !c.add(conn) || !c.fleet.spawn(func() { c.answer(conn) }) {
			_ = conn.Close() // the fleet is closing; the client sees the end
		}
	}
}

func (c *controlServer) add(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.conns[conn] = struct{}{}
	}
	return !c.closed
}

func (c *controlServer) answer(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		c.mu.Lock()
		delete(c.conns, conn)
		c.mu.Unlock()
	}()
	if conn.SetDeadline(time.Now().Add(controlTimeout)) != nil {
		return
	}
	var req controlRequest
	if json.NewDecoder(conn).Decode(&req) != nil {
		return // a probe by a second fleet, or a client that left
	}
	var reply controlReply
	if err := c.fleet.Order(req.Device, req.Order); err != nil {
		reply = controlReply{Error: err.Error(), Invalid: errors.Is(err, ErrInvalid)}
	}
	if err := json.NewEncoder(conn).Encode(reply); err != nil {
		c.fleet.log.Debug("order's sender left", "err", err)
	}
}

func (c *controlServer) close() error {
	var errs []error
	if c.listener != nil {
		errs = append(errs, c.listener.Close()) // removes the socket
	}
	c.mu.Lock()
	c.closed = true
	for conn := range c.conns {
		_ = conn.Close() // its goroutine sees it
	}
	c.mu.Unlock()
	if c.link != "" {
		if err := os.Remove(c.link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, os.RemoveAll(c.tempDir))
	}
	return errors.Join(errs...)
}
