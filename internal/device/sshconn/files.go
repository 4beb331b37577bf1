package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/pkg/sftp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// files is an SFTP session. Calls take no context; the session ends with the
// context it was opened with, and calls under way end with it.
type files struct {
	conn    *Conn
	client  *sftp.Client
	session *session
	unwatch func() bool
	ended   func() *fault.Error // why the context ended; nil before

	once sync.Once
	shut chan struct{}
}

// Files opens an SFTP session; see device.Conn. The session lives as long as
// ctx, because its calls have none of their own: when ctx ends they fail with
// its kind (Canceled or Timeout) and the session is closed.
func (c *Conn) Files(ctx context.Context) (device.Files, error) {
	const act = "open SFTP"
	f := &files{conn: c, shut: make(chan struct{}), ended: func() *fault.Error {
		if ctx.Err() == nil {
			return nil
		}
		return ctxError(ctx)
	}}
	s, err := c.open(ctx, act, func(s *session) error {
		if err := s.request("subsystem", struct{ Name string }{"sftp"}); err != nil {
			return err
		}
		// What the server says about itself on the error stream has no reader.
		c.link.spawn(func() { pump(discard{}, s.ch.Stderr(), lineBuffer) })
		client, err := sftp.NewClientPipe(s.ch, channelStdin{s.ch}, sftp.MaxPacketUnchecked(largePacket))
		if err != nil {
			return &fault.Error{Kind: fault.Refused, Err: fmt.Errorf("the SFTP server did not start: %s", foreign(err.Error())),
				Next: "enable the SFTP subsystem on the device"}
		}
		f.client = client
		return nil
	})
	if err != nil {
		if have, ok := errors.AsType[*fault.Error](err); ok && have.Kind == fault.Refused {
			have.Stage = stageFiles
		}
		return nil, err
	}
	f.session = s
	f.unwatch = context.AfterFunc(ctx, f.end)
	return f, nil
}

// channelStdin gives pkg/sftp the end of input as its Close.
type channelStdin struct {
	ch interface {
		Write(p []byte) (int, error)
		CloseWrite() error
	}
}

func (w channelStdin) Write(p []byte) (int, error) { return w.ch.Write(p) }
func (w channelStdin) Close() error                { return w.ch.CloseWrite() }

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Close ends the session. The server's confirmation is not waited for.
func (f *files) Close() error {
	f.unwatch()
	f.end()
	return nil
}

func (f *files) end() {
	f.once.Do(func() {
		close(f.shut)
		f.conn.link.spawn(func() {
			f.session.stop()
			_ = f.client.Close()
		})
	})
}

// Stat follows links.
func (f *files) Stat(name string) (fs.FileInfo, error) {
	return ask(f, "stat", name, func() (fs.FileInfo, error) { return f.client.Stat(name) })
}

// ReadDir gives the entries in the server's order.
func (f *files) ReadDir(name string) ([]fs.FileInfo, error) {
	return ask(f, "list", name, func() ([]fs.FileInfo, error) { return f.client.ReadDir(name) })
}

func (f *files) RealPath(name string) (string, error) {
	return ask(f, "resolve", name, func() (string, error) { return f.client.RealPath(name) })
}

// ask runs one call so that the end of the session ends it, even when a frozen
// connection keeps the call itself.
func ask[T any](f *files, verb, name string, call func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	act := verb + " " + foreign(name)
	result := make(chan answer, 1)
	select {
	case <-f.shut:
		return none, f.over(act)
	default:
	}
	if !f.conn.link.spawn(func() {
		v, err := call()
		result <- answer{v, err}
	}) {
		return none, f.over(act)
	}
	select {
	case r := <-result:
		if r.err != nil {
			return none, f.failure(act, r.err)
		}
		return r.value, nil
	case <-f.shut:
	case <-f.conn.link.done:
	}
	return none, f.over(act)
}

// over is the error of a call on a session that ended.
func (f *files) over(act string) error {
	if end := f.ended(); end != nil {
		return &fault.Error{Kind: end.Kind, Act: act, Device: f.conn.dev.Name, Stage: stageFiles, Err: end.Err}
	}
	if f.conn.link.lost() {
		return f.conn.link.disconnected(act, stageFiles)
	}
	return &fault.Error{Kind: fault.Disconnected, Act: act, Device: f.conn.dev.Name, Stage: stageFiles,
		Err: fmt.Errorf("the SFTP session was closed: %w", fs.ErrClosed)}
}

// failure gives an SFTP status a kind. errors.Is with fs.ErrNotExist and
// fs.ErrPermission holds for the result.
func (f *files) failure(act string, err error) error {
	kind := fault.Refused
	switch {
	case errors.Is(err, os.ErrNotExist):
		kind = fault.NotFound
	case errors.Is(err, sftp.ErrSSHFxConnectionLost), errors.Is(err, io.EOF), f.conn.link.lost():
		// A channel that is closed takes nothing more and says so by io.EOF.
		return f.over(act)
	case errors.Is(err, sftp.ErrSSHFxOpUnsupported):
		kind = fault.Unsupported
	}
	if _, ok := errors.AsType[*sftp.StatusError](err); ok {
		// The message is the server's own.
		err = fmt.Errorf("%s%w", foreign(err.Error()), hidden{err})
	}
	return &fault.Error{Kind: kind, Act: act, Device: f.conn.dev.Name, Stage: stageFiles, Err: err}
}

// hidden keeps an error in the chain and its text out of it.
type hidden struct{ error }

func (hidden) Error() string   { return "" }
func (h hidden) Unwrap() error { return h.error }
