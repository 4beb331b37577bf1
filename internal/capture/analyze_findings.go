package capture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"capfleet/internal/capture/capturejob"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/info"
	"capfleet/internal/pcap/tlsaudit"
	"capfleet/internal/pcap/tlshello"
	"capfleet/internal/pcap/xff"
)

// scan has the analysis read a capture to its end.
func (a *analyze) scan(ctx context.Context, r io.Reader, place, iface string, out *findings) error {
	ctx = context.WithoutCancel(ctx) // the end of the capture ends it
	dev := a.dev.Name
	switch a.spec.Analysis {
	case capturejob.TLSAudit:
		weak, _ := tlshello.ParseVersion(a.spec.Weak) // it was looked at before
		audit := tlsaudit.New(func(s *tlsaudit.Session) {
			out.add(capturejob.TLSRow{Device: dev, Interface: iface, Row: s.Row(place, weak)})
		})
		_, err := pcap.Scan(ctx, r, pcap.ReaderOptions{}, &flushing{Audit: audit})
		audit.Close()
		return err
	case capturejob.XFF:
		address, err := netip.ParseAddr(a.spec.IP)
		if err != nil {
			return err
		}
		_, err = pcap.Scan(ctx, r, pcap.ReaderOptions{}, xff.New(address, append(xff.Headers(), a.spec.Headers...), func(h xff.Hit) {
			out.add(capturejob.XFFRow{Device: dev, Interface: iface, Row: h.Row(place)})
		}))
		return err
	}
	sum, err := info.Read(ctx, r, info.Options{})
	if sum != nil && sum.Format != "" {
		row := capturejob.InfoRow{Device: dev, Interface: iface, File: place, Summary: sum}
		for _, o := range sum.Oddities {
			row.OddPackets += o.Packets
		}
		out.add(row)
	}
	return err
}

// flushing has an audit tell now and then what it knows of connections that go on, so
// that it is written down.
type flushing struct {
	*tlsaudit.Audit
	last pcap.Timestamp
}

// flushPause is between two times, by the clock of the packets.
const flushPause = 60 // seconds

// Packet implements pcap.Analysis.
func (f *flushing) Packet(p *pcap.Packet) {
	f.Audit.Packet(p)
	if past := p.Time.Since(f.last); past > flushPause || past < 0 {
		f.last = p.Time
		f.Flush()
	}
}

// findings are the rows of a device, a line each in a file until they are all there.
type findings struct {
	most int

	mu   sync.Mutex
	file *os.File
	rows int
	left uint64 // beyond the most
	err  error  // the first
}

const (
	// A file that nothing was written to for longer than a capture can be is of a job
	// that was canceled.
	staleFindings = maxLimit + 24*time.Hour
	// Findings that were handed over are kept for as long as fleetd may need to write a
	// result down, or to be started again before it has.
	handedFindings = 24 * time.Hour
)

func (a *analyze) file() string { return filepath.Join(a.spool, a.state.Run+".jsonl") }

// open goes on with the findings of earlier attempts.
func (a *analyze) open() (*findings, error) {
	if err := os.MkdirAll(a.spool, 0o700); err != nil {
		return nil, fault.Wrap(fault.Storage, "make a folder for the findings", err)
	}
	a.tidy()
	rows, err := a.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Storage, "read the findings", err)
	}
	size := int64(0)
	for _, row := range rows {
		size += int64(len(row)) + 1
	}
	file, err := os.OpenFile(a.file(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		// A line that a crash cut off goes.
		if err = file.Truncate(size); err == nil {
			_, err = file.Seek(size, io.SeekStart)
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Storage, "write the findings", err)
	}
	return &findings{most: a.spec.MaxRows, file: file, rows: len(rows)}, nil
}

// tidy removes files that nobody will ask for any more.
func (a *analyze) tidy() {
	for ending, age := range map[string]time.Duration{"": staleFindings, handed: handedFindings} {
		old, _ := filepath.Glob(filepath.Join(a.spool, "analyze-*.jsonl"+ending)) // the pattern is a good one
		for _, name := range old {
			if at, err := os.Stat(name); err == nil && time.Since(at.ModTime()) > age {
				_ = os.Remove(name)
			}
		}
	}
}

// handed ends the name of a file whose rows the job was given.
const handed = ".handed"

// add writes a row down.
func (f *findings) add(row any) {
	raw, err := json.Marshal(row)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
	case err != nil:
		f.err = err
	case f.rows >= f.most:
		f.left++
	default:
		f.rows++
		_, f.err = f.file.Write(append(raw, '\n'))
	}
}

func (f *findings) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fault.Wrap(fault.Storage, "write the findings", errors.Join(f.err, f.file.Close()))
}

// read gives the whole lines that are there.
func (a *analyze) read() ([]json.RawMessage, error) {
	file, err := os.Open(a.file())
	if errors.Is(err, fs.ErrNotExist) {
		file, err = os.Open(a.file() + handed)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var rows []json.RawMessage
	r := bufio.NewReader(file)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil || !json.Valid(line) {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return rows, err
		}
		rows = append(rows, bytes.TrimSuffix(line, []byte{'\n'}))
	}
}

// report gives the findings to the job, which writes them down when this step is over.
func (a *analyze) report(env operation.Env) (operation.Observation, error) {
	rows, err := a.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return operation.Observation{}, fault.Wrap(fault.Storage, "read the findings", err)
	}
	for _, row := range rows {
		env.Row(a.dev, row)
	}
	if err := os.Rename(a.file(), a.file()+handed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		env.Logger().Warn("findings stay where they are", "device", a.dev.Name, "err", err)
	}
	if a.state.Left > 0 {
		env.Warn(a.dev, "%d more rows are left out: a device keeps %d (--max-rows)", a.state.Left, a.spec.MaxRows)
	}
	return operation.Observation{Verdict: operation.Done, Detail: fmt.Sprintf("%d rows", len(rows))}, nil
}
