// Package info sums a capture up: the figures of capinfos, a hash of the file,
// and what in the packets does not add up below the transport layer.
//
// The packets are authoritative; what the file says about itself (interfaces,
// comments, drops) is passed on as it stands.
package info

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/layers"
)

// Summary is what a capture amounts to. Sizes are bytes, times UTC, durations
// seconds.
type Summary struct {
	// Format is pcap or pcapng; empty for what is no capture.
	Format     pcap.Format `json:"format"`
	Compressed bool        `json:"compressed"`
	// Encapsulation is the link type, "mixed" when packets have several.
	Encapsulation string `json:"encapsulation"`
	// FileBytes is the size of what was read, before unpacking: of a damaged file
	// without a hash less than the file has.
	FileBytes int64  `json:"file_bytes"`
	SHA256    string `json:"sha256,omitempty"`

	Packets uint64 `json:"packets"`
	// DataBytes is what the packets had on the wire, CapturedBytes what is there.
	DataBytes     uint64 `json:"data_bytes"`
	CapturedBytes uint64 `json:"captured_bytes"`
	// First and Last are the earliest and the latest time, wherever they stand.
	First    *time.Time `json:"first_time"`
	Last     *time.Time `json:"last_time"`
	Duration *float64   `json:"duration_seconds"`
	// StrictOrder reports whether no packet is earlier than the one before it; nil
	// when packets without a time leave that open.
	StrictOrder        *bool    `json:"strict_time_order"`
	PacketsWithoutTime uint64   `json:"packets_without_time"`
	BytesPerSecond     *float64 `json:"bytes_per_second"`
	BitsPerSecond      *float64 `json:"bits_per_second"`
	PacketsPerSecond   *float64 `json:"packets_per_second"`
	AveragePacketBytes *float64 `json:"average_packet_bytes"`
	SmallestPacket     *uint32  `json:"smallest_packet_bytes"`
	LargestPacket      *uint32  `json:"largest_packet_bytes"`
	// CutPackets were not captured in full; to how many bytes is in the other two.
	CutPackets  uint64  `json:"cut_packets"`
	SmallestCut *uint32 `json:"smallest_cut_bytes"`
	LargestCut  *uint32 `json:"largest_cut_bytes"`

	Interfaces []Interface `json:"interfaces"`
	Sections   []Section   `json:"sections"`
	// PacketComments counts the comments on packets.
	PacketComments       uint64   `json:"packet_comments"`
	NameResolutionBlocks uint64   `json:"name_resolution_blocks"`
	SecretsBlocks        uint64   `json:"secrets_blocks"`
	CustomBlocks         uint64   `json:"custom_blocks"`
	OtherBlocks          uint64   `json:"other_blocks"`
	Oddities             []Oddity `json:"oddities"`
}

// Interface is an interface of the capture.
type Interface struct {
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	Filter         string   `json:"filter"`
	OS             string   `json:"os"`
	Hardware       string   `json:"hardware"`
	Encapsulation  string   `json:"encapsulation"`
	LinkType       uint32   `json:"link_type"`
	SnapLength     uint32   `json:"snap_length"`
	TicksPerSecond uint64   `json:"ticks_per_second"`
	OffsetSeconds  int64    `json:"time_offset_seconds"`
	Packets        uint64   `json:"packets"`
	Statistics     int      `json:"statistics_blocks"`
	Received       *uint64  `json:"received"`
	Dropped        *uint64  `json:"dropped"`
	Comments       []string `json:"comments"`
}

// Section is a section of a pcapng file.
type Section struct {
	BigEndian   bool     `json:"big_endian"`
	Version     string   `json:"version"`
	Hardware    string   `json:"hardware"`
	OS          string   `json:"os"`
	Application string   `json:"application"`
	Comments    []string `json:"comments"`
}

// Oddity is something that does not add up, and in how many packets.
type Oddity struct {
	Kind    string `json:"kind"`
	Packets uint64 `json:"packets"`
	// First is the number of the first such packet.
	First uint64 `json:"first_packet"`
}

// Options of Read.
type Options struct {
	// Hash says to hash the file, which needs all of it even where it is damaged.
	Hash   bool
	Reader pcap.ReaderOptions
}

// Read reads a capture to its end. With an error the summary is of what was read
// before it; a damaged capture is a *pcap.Error.
func Read(ctx context.Context, src io.Reader, opts Options) (*Summary, error) {
	if file, size := regular(src); file != nil {
		return readFile(ctx, file, size, opts)
	}
	file := &stored{ctx: ctx, src: src}
	sum := sha256.New()
	if opts.Hash {
		file.sink = sum
	}
	t := &tally{}
	reader, err := pcap.Scan(ctx, file, opts.Reader, t)
	s := t.summary(reader)
	if opts.Hash && !errors.Is(err, pcap.ErrNotCapture) {
		drained := file.drain()
		if drained == nil {
			s.SHA256 = hex.EncodeToString(sum.Sum(nil))
		}
		err = cmp.Or(err, drained)
	}
	s.FileBytes = file.n
	return s, err
}

// regular gives src as a regular file and its size; nil when it is none or does not
// stand at its beginning.
func regular(src io.Reader) (*os.File, int64) {
	file, ok := src.(*os.File)
	if !ok {
		return nil, 0
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, 0
	}
	if at, err := file.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		return nil, 0
	}
	return file, info.Size()
}

// readFile reads a file that can be read in two places at once: it is hashed while
// its packets are counted.
func readFile(ctx context.Context, file *os.File, size int64, opts Options) (*Summary, error) {
	whole := &stored{ctx: ctx, src: io.NewSectionReader(file, 0, math.MaxInt64)}
	sum := sha256.New()
	var hashing errgroup.Group
	if opts.Hash {
		whole.sink = sum
		hashing.Go(whole.drain)
	}
	t := &tally{}
	reader, err := pcap.Scan(ctx, file, opts.Reader, t)
	s := t.summary(reader)
	s.FileBytes = size
	hashed := hashing.Wait()
	if opts.Hash && !errors.Is(err, pcap.ErrNotCapture) {
		if hashed == nil {
			s.SHA256 = hex.EncodeToString(sum.Sum(nil))
			s.FileBytes = whole.n
		}
		err = cmp.Or(err, hashed)
	}
	return s, err
}

// stored is the file as it is stored: counted, hashed, and ended by the context.
type stored struct {
	ctx  context.Context //nolint:containedctx // an io.Reader is called without one
	src  io.Reader
	sink io.Writer
	n    int64
}

func (f *stored) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.src.Read(p)
	f.n += int64(n)
	if f.sink != nil {
		_, _ = f.sink.Write(p[:n]) // a hash takes everything
	}
	return n, err
}

// drain reads what the reader left, for size and hash.
func (f *stored) drain() error {
	if _, err := io.Copy(io.Discard, f); err != nil {
		return fmt.Errorf("read the rest of the file: %w", err)
	}
	return nil
}

// tally is what is counted.
type tally struct {
	count, wire, captured, untimed, cut, comments uint64

	// The earliest and latest time, that of the last packet, and of the first.
	first, last, before, begin pcap.Timestamp
	timed, disorder            bool
	smallest, largest          uint32
	smallestCut, largestCut    uint32
	perInterface               []uint64
	link                       pcap.LinkType
	mixed                      bool
	oddities                   [len(oddityNames)]Oddity
}

// Packet counts a packet.
func (t *tally) Packet(p *pcap.Packet) {
	var f layers.Frame
	t.packet(p)
	layers.Decode(p.Link, p.Data, p.Length, &f)
	t.odd(p, f.Oddity)
}

// Sift counts the packets of a window by themselves, with numbers from 1.
func (t *tally) Sift(w *pcap.Window, _ any) any {
	part := &tally{}
	var f layers.Frame
	p := pcap.Packet{Link: w.Link(), HasTime: true}
	for _, run := range w.Runs() {
		for _, at := range run {
			p.Number++
			p.Data, p.Length = w.Frame(at)
			p.Time = w.Time(at)
			part.packet(&p)
			layers.Decode(p.Link, p.Data, p.Length, &f)
			part.odd(&p, f.Oddity)
		}
	}
	return part
}

// Take adds what Sift counted.
func (t *tally) Take(w *pcap.Window, sifted any) {
	part := sifted.(*tally) //nolint:forcetypeassert // what Sift gave
	if part.count == 0 {
		return
	}
	if t.count == 0 {
		t.smallest, t.largest, t.link = part.smallest, part.largest, part.link
	}
	for i := range part.oddities {
		o, more := &t.oddities[i], &part.oddities[i]
		if more.Packets > 0 && o.Packets == 0 {
			o.Kind, o.First = more.Kind, more.First+w.Before()
		}
		o.Packets += more.Packets
	}
	if part.cut > 0 {
		if t.cut == 0 {
			t.smallestCut, t.largestCut = part.smallestCut, part.largestCut
		}
		t.smallestCut, t.largestCut = min(t.smallestCut, part.smallestCut), max(t.largestCut, part.largestCut)
	}
	t.smallest, t.largest = min(t.smallest, part.smallest), max(t.largest, part.largest)
	t.mixed = t.mixed || part.link != t.link || part.mixed
	t.count, t.wire, t.captured, t.cut = t.count+part.count, t.wire+part.wire, t.captured+part.captured, t.cut+part.cut
	for len(t.perInterface) == 0 {
		t.perInterface = append(t.perInterface, 0)
	}
	t.perInterface[0] += part.count // a pcap file has no other
	t.times(part)
}

// times joins the times of packets that follow.
func (t *tally) times(part *tally) {
	if !t.timed {
		t.timed, t.begin, t.first, t.last, t.before, t.disorder = true, part.begin, part.first, part.last, part.before, part.disorder
		return
	}
	t.disorder = t.disorder || part.disorder || part.begin.Compare(t.before) < 0
	t.before = part.before
	if part.first.Compare(t.first) < 0 {
		t.first = part.first
	}
	if part.last.Compare(t.last) > 0 {
		t.last = part.last
	}
}

func (t *tally) packet(p *pcap.Packet) {
	size, captured := p.Length, uint32(len(p.Data)) //nolint:gosec // bounded by the reader
	if t.count == 0 {
		t.smallest, t.largest, t.link = size, size, p.Link
	}
	t.count++
	t.smallest, t.largest = min(t.smallest, size), max(t.largest, size)
	t.mixed = t.mixed || p.Link != t.link
	t.wire += uint64(size)
	t.captured += uint64(captured)
	if captured < size {
		if t.cut == 0 {
			t.smallestCut, t.largestCut = captured, captured
		}
		t.cut++
		t.smallestCut, t.largestCut = min(t.smallestCut, captured), max(t.largestCut, captured)
	}
	for len(t.perInterface) <= p.Interface {
		t.perInterface = append(t.perInterface, 0)
	}
	t.perInterface[p.Interface]++
	for range p.Options.Comments() {
		t.comments++
	}
	t.time(p)
}

func (t *tally) time(p *pcap.Packet) {
	if !p.HasTime {
		t.untimed++
		return
	}
	if !t.timed {
		t.timed = true
		t.first, t.last, t.before, t.begin = p.Time, p.Time, p.Time, p.Time
		return
	}
	if p.Time.Compare(t.before) < 0 {
		t.disorder = true
	}
	t.before = p.Time
	if p.Time.Compare(t.first) < 0 {
		t.first = p.Time
	}
	if p.Time.Compare(t.last) > 0 {
		t.last = p.Time
	}
}
