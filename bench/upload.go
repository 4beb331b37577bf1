package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"capfleet/internal/device"
	"capfleet/internal/device/linux"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/transfer"
)

const gigabyte = 1_000_000_000

// benchUpload measures one file to OpenSSH's server against its own sftp, which
// does not look at what arrived: login, upload, the whole compared by hash and
// renamed on our side.
func benchUpload(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	s, err := startSSHD(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	m, err := newMover(s, gigabyte)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	var hashing, whole []float64
	r, err := paired(ctx, log, "upload of 1 GB / sftp put", o.rounds, 1.0,
		func(ctx context.Context) (time.Duration, error) {
			begin := time.Now()
			arrived := begin
			m.up.Progress = func(done, total int64) {
				if done == total {
					arrived = time.Now()
				}
			}
			if err := m.send(ctx, "file"); err != nil {
				return 0, err
			}
			whole = append(whole, time.Since(begin).Seconds())
			hashing = append(hashing, time.Since(arrived).Seconds())
			return arrived.Sub(begin), nil
		},
		func(ctx context.Context) (time.Duration, error) { return m.put(ctx) })
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(log, "   upload: %.3f s with the whole compared by hash on the device, which takes %.3f s\n", median(whole), median(hashing))
	return []result{r}, nil
}

// benchMemory uploads one file to many at once, and compares what this process
// has of the system then with what it had before.
func benchMemory(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	s, err := startSSHD(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	const size = 4_000_000
	m, err := newMover(s, size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	conns := make([]device.Conn, o.devices)
	defer func() {
		for _, c := range conns {
			if c != nil {
				err = errors.Join(err, c.Close())
			}
		}
	}()
	logins, lctx := errgroup.WithContext(ctx)
	logins.SetLimit(8)
	for i := range conns {
		logins.Go(func() (err error) {
			conns[i], err = m.dialer.Dial(lctx, s.dev)
			return err
		})
	}
	if err := logins.Wait(); err != nil {
		return nil, err
	}
	if err := forgetPeak(); err != nil {
		return nil, err
	}
	uploads, uctx := errgroup.WithContext(ctx)
	for i, conn := range conns {
		uploads.Go(func() error { return m.sendOver(uctx, conn, "file-"+strconv.Itoa(i)) })
	}
	if err := uploads.Wait(); err != nil {
		return nil, err
	}
	peak, err := peakMemory()
	if err != nil {
		return nil, err
	}
	const most = 200_000_000
	return []result{{name: fmt.Sprintf("memory, %d uploads at once of one file", o.devices), ours: fmt.Sprintf("%.0f MB", float64(peak)/1e6), peer: "200 MB",
		ratio: float64(peak) / most, spread: "one run", goal: "at most 1", ok: peak <= most}}, nil
}

// mover is a local file and the ways to move it.
type mover struct {
	host   *sshd
	dialer *sshconn.Dialer
	source *os.File
	up     transfer.Upload
}

func newMover(s *sshd, size int64) (*mover, error) {
	f, err := os.Create(s.path("source"))
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), rand.Reader, size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	driver, err := linux.New("")
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &mover{host: s, dialer: sshconn.NewDialer(sshconn.Options{}), source: f, up: transfer.Upload{
		Source: f, Size: size, SHA256: hex.EncodeToString(h.Sum(nil)), Tools: driver.Definition().Files,
		Buffers: transfer.NewBuffers(0),
	}}, nil
}

func (m *mover) close() error { return errors.Join(m.dialer.Close(), m.source.Close()) }

// send uploads over a connection of its own and removes the file again.
func (m *mover) send(ctx context.Context, name string) error {
	conn, err := m.dialer.Dial(ctx, m.host.dev)
	if err != nil {
		return err
	}
	return errors.Join(m.sendOver(ctx, conn, name), conn.Close())
}

func (m *mover) sendOver(ctx context.Context, conn device.Conn, name string) error {
	u := m.up
	u.Path = m.host.path(name)
	if _, err := transfer.Deliver(ctx, func(context.Context) (device.Conn, error) { return conn, nil }, u); err != nil {
		return err
	}
	return os.Remove(u.Path)
}

// put uploads with OpenSSH's sftp.
func (m *mover) put(ctx context.Context) (time.Duration, error) {
	batch := m.host.path("batch")
	if err := os.WriteFile(batch, []byte("put "+m.source.Name()+" "+m.host.path("peer")+"\n"), 0o600); err != nil {
		return 0, err
	}
	args := append([]string{"-q", "-b", batch, "-P", strconv.Itoa(m.host.dev.Port)}, m.host.args...)
	begin := time.Now()
	out, err := exec.CommandContext(ctx, "sftp", append(args, m.host.dev.Credentials.Username+"@"+m.host.dev.Host)...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("sftp: %w: %s", err, out)
	}
	return time.Since(begin), os.Remove(m.host.path("peer"))
}
