package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// The captures of a path: so many places, packets at the first of them, and
// connections.
const (
	pathPlaces  = 5
	pathPackets = 1_000_000
	pathFlows   = 2000

	pathTime   = 10 * time.Second
	pathMemory = 1 << 30
)

// benchPath measures how long it takes to follow the packets of five captures of a
// million packets each. There is no peer; the ratio is to the goal.
func benchPath(ctx context.Context, o options, log io.Writer) ([]result, error) {
	dir, err := os.MkdirTemp("", "fleet-path-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	args := []string{"pcap", "path", "-o", "json", "--write", filepath.Join(dir, "result.json")}
	files, err := writePath(dir)
	if err != nil {
		return nil, err
	}
	for i, name := range files {
		args = append(args, fmt.Sprintf("place%d=%s", i, name))
	}
	var walls [][2]float64
	var peak int64
	for range o.rounds {
		u, err := took(ctx, filepath.Join(o.bin, "fleetctl"), args...)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(log, "   path: %v (cpu %v), %d MiB\n", u.wall.Round(time.Millisecond), u.cpu.Round(time.Millisecond), u.peak>>20)
		walls = append(walls, [2]float64{u.wall.Seconds(), pathTime.Seconds()})
		peak = max(peak, u.peak)
	}
	r := compare("packets followed through 5 captures of 1,000,000", walls, 1.0)
	r.peer, r.goal = "none", fmt.Sprintf("at most %v", pathTime)
	return []result{r, {name: "its memory", ours: strconv.FormatInt(peak>>20, 10) + " MiB", peer: "none", ratio: float64(peak) / pathMemory,
		spread: "the most", goal: "at most 1 GiB", ok: peak <= pathMemory}}, nil
}

// writePath writes what each place saw: connections whose data goes both ways, of
// which one link loses a thousandth.
func writePath(dir string) (files []string, err error) {
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	var out []*bufio.Writer
	for i := range pathPlaces {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%d.pcap", i)))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w := bufio.NewWriterSize(f, 1<<20)
		defer func() { err = errors.Join(err, w.Flush()) }()
		h := binary.LittleEndian.AppendUint32(nil, 0xa1b23c4d)
		h = append(h, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
		if _, err := w.Write(h); err != nil {
			return nil, err
		}
		files, out = append(files, f.Name()), append(out, w)
	}
	numbers := make([][2]uint32, pathFlows)
	for n := range pathPackets {
		flow, away := rng.IntN(pathFlows), rng.IntN(2)
		size := []int{0, 0, 100, 1000}[rng.IntN(4)]
		frame := make([]byte, 54+size)
		copy(frame[12:], []byte{8, 0, 0x45, 0})
		binary.BigEndian.PutUint16(frame[16:], uint16(40+size)) //nolint:gosec // below 2000
		binary.BigEndian.PutUint16(frame[18:], uint16(n))       //nolint:gosec // wraps, as it does
		frame[23] = 6
		ends := [2][]byte{{10, byte(flow >> 8), byte(flow), 1}, {192, 0, 2, 9}} //nolint:gosec // parts of a number
		ports := [2]uint16{4000, 443}
		copy(frame[26:], ends[1-away])
		copy(frame[30:], ends[away])
		binary.BigEndian.PutUint16(frame[34:], ports[1-away])
		binary.BigEndian.PutUint16(frame[36:], ports[away])
		binary.BigEndian.PutUint32(frame[38:], numbers[flow][1-away])
		binary.BigEndian.PutUint32(frame[42:], numbers[flow][away])
		frame[46], frame[47] = 0x50, 0x10
		for i := range min(size, 32) {
			frame[54+i] = byte(rng.Uint32()) //nolint:gosec // any byte
		}
		numbers[flow][1-away] += uint32(size) //nolint:gosec // below 2000
		for hop := range pathPlaces {
			place := hop
			if away == 0 {
				place = pathPlaces - 1 - hop
			}
			if place == 3 && rng.IntN(1000) == 0 {
				break // lost before it, in either direction
			}
			frame[22] = byte(64 - hop) //nolint:gosec // below 64
			at := int64(n)*20_000 + int64(hop)*100_000 + rng.Int64N(5000)
			h := binary.LittleEndian.AppendUint32(nil, uint32(1_700_000_000+at/1e9)) //nolint:gosec // below 2^32
			h = binary.LittleEndian.AppendUint32(h, uint32(at%1e9))                  //nolint:gosec // below 10^9
			h = binary.LittleEndian.AppendUint32(h, uint32(len(frame)))              //nolint:gosec // below 2000
			h = binary.LittleEndian.AppendUint32(h, uint32(len(frame)))              //nolint:gosec // below 2000
			if _, err := out[place].Write(append(h, frame...)); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}
