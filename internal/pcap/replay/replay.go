// Package replay sends the packets of a capture again: UDP payloads through a socket
// to any receiver, or whole frames on an interface.
//
// The capture is authoritative about what is sent and, unless a rate is given, when.
// Nothing here answers: only protocols without connections can be replayed to a
// receiver, and addresses within payloads stay as they are.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// Sender sends one datagram or frame. Send may keep nothing of data.
type Sender interface {
	Send(data []byte) error
	Close() error
}

// Pace says when packets are sent. The zero value is the capture's own timing.
type Pace struct {
	// Speed multiplies the capture's own timing; 0 means 1.
	Speed float64
	// PacketsPerSecond and BitsPerSecond, where one of them is set, replace it: a steady
	// rate of packets, or of what is sent.
	PacketsPerSecond float64
	BitsPerSecond    float64
	// Flat sends as fast as the sender takes it.
	Flat bool
}

func (p Pace) check() error {
	set := 0
	for _, v := range []float64{p.Speed, p.PacketsPerSecond, p.BitsPerSecond} {
		if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.New("a rate is a number above 0")
		}
		if v > 0 {
			set++
		}
	}
	if p.Flat {
		set++
	}
	if set > 1 {
		return errors.New("only one of speed, packets per second, bits per second and as fast as possible can be")
	}
	return nil
}

// Options say what is sent.
type Options struct {
	Pace Pace
	// Payloads sends what UDP carries, and skips the rest; otherwise whole frames are
	// sent, which must be Ethernet.
	Payloads bool
	// Port, with Payloads, is the destination port in the capture of what is sent; 0
	// is every port.
	Port uint16
	// Limit ends it after so many were sent; 0 is none.
	Limit uint64
	// Progress, when set, is called now and then from the sending goroutine.
	Progress func(Result)
}

// Result counts what was done.
type Result struct {
	Packets uint64 `json:"packets"` // read
	Sent    uint64 `json:"sent"`
	Bytes   uint64 `json:"sent_bytes"` // payloads, or frames
	Failed  uint64 `json:"failed"`
	// FirstFailure says why the first that failed did.
	FirstFailure string `json:"first_failure,omitempty"`
	// Other packets are not what is sent: not UDP, another port, not Ethernet.
	Other uint64 `json:"other"`
	// Cut packets were captured in part; sending less than there was would be a lie.
	Cut uint64 `json:"cut"`
	// Fragments are parts of datagrams, which are not put together.
	Fragments uint64 `json:"fragments"`
	// Seconds is the time from the first to the last that was sent; Late is the most
	// that one was sent after its time.
	Seconds     float64 `json:"duration_seconds"`
	LateSeconds float64 `json:"latest_seconds"`
}

// Run sends the packets of a capture until its end or the context's. What it did is
// in the result whatever the error; an error of the capture is a *pcap.Error. A
// packet that cannot be sent is counted, and the next one tried.
func Run(ctx context.Context, r *pcap.Reader, to Sender, opts Options) (Result, error) {
	if err := opts.Pace.check(); err != nil {
		return Result{}, err
	}
	if opts.Pace.Speed == 0 {
		opts.Pace.Speed = 1
	}
	s := sending{to: to, opts: opts}
	var p pcap.Packet
	var f layers.Frame
	for opts.Limit == 0 || s.result.Sent+s.result.Failed < opts.Limit {
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return s.ended(), err
		}
		s.result.Packets++
		data, ok := s.pick(&p, &f)
		if !ok {
			if s.result.Packets%1024 == 0 && ctx.Err() != nil {
				return s.ended(), context.Cause(ctx)
			}
			continue
		}
		if err := s.wait(ctx, &p, len(data)); err != nil {
			return s.ended(), err
		}
		s.send(data)
	}
	return s.ended(), nil
}

// sending is one run.
type sending struct {
	to     Sender
	opts   Options
	result Result

	began   time.Time      // when the first was sent
	first   pcap.Timestamp // of the capture
	last    time.Time
	credit  float64 // seconds after began at which the next is due at a steady rate
	started bool
}

// pick gives what is sent of a packet.
func (s *sending) pick(p *pcap.Packet, f *layers.Frame) ([]byte, bool) {
	if !s.opts.Payloads {
		switch {
		case p.Link != pcap.LinkEthernet, layers.IsF5FileInfo(p.Data):
			s.result.Other++
		case uint64(len(p.Data)) < uint64(p.Length):
			s.result.Cut++
		default:
			return p.Data, true
		}
		return nil, false
	}
	layers.Decode(p.Link, p.Data, p.Length, f)
	switch {
	case f.Protocol != layers.ProtoUDP || f.Version == 0:
		s.result.Other++
	case f.Fragment:
		s.result.Fragments++
	case !f.HasTransport:
		if f.Cut {
			s.result.Cut++
		} else {
			s.result.Other++
		}
	case s.opts.Port != 0 && f.DstPort != s.opts.Port:
		s.result.Other++
	case len(f.PayloadBytes()) < f.PayloadLength:
		s.result.Cut++
	default:
		return f.PayloadBytes(), true
	}
	return nil, false
}

// wait waits until a packet is due.
func (s *sending) wait(ctx context.Context, p *pcap.Packet, size int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !s.started {
		s.started, s.began, s.first = true, time.Now(), p.Time
	}
	due, err := s.due(p, size)
	if err != nil || s.opts.Pace.Flat {
		return err
	}
	left := time.Until(due)
	if left <= 0 {
		s.result.LateSeconds = max(s.result.LateSeconds, -left.Seconds())
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *sending) due(p *pcap.Packet, size int) (time.Time, error) {
	pace := s.opts.Pace
	seconds := s.credit
	switch {
	case pace.Flat:
	case pace.PacketsPerSecond > 0:
		s.credit += 1 / pace.PacketsPerSecond
	case pace.BitsPerSecond > 0:
		s.credit += 8 * float64(size) / pace.BitsPerSecond
	case !p.HasTime:
		return time.Time{}, fmt.Errorf("packet %d has no time: give a rate", p.Number)
	default:
		seconds = p.Time.Since(s.first) / pace.Speed
	}
	const longest = 1e9 // seconds: what a Duration holds, and nobody waits for
	return s.began.Add(time.Duration(min(max(seconds, 0), longest) * float64(time.Second))), nil
}

func (s *sending) send(data []byte) {
	if err := s.to.Send(data); err != nil {
		if s.result.Failed++; s.result.Failed == 1 {
			s.result.FirstFailure = err.Error()
		}
	} else {
		s.result.Sent++
		s.result.Bytes += uint64(len(data))
	}
	s.last = time.Now()
	if s.opts.Progress != nil {
		s.opts.Progress(s.ended())
	}
}

func (s *sending) ended() Result {
	if s.started && !s.last.IsZero() {
		s.result.Seconds = s.last.Sub(s.began).Seconds()
	}
	return s.result
}
