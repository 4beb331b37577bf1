package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// prepare finds out how much of the temporary file is right and whether there is
// room for the rest. Afterwards s.sure is where to go on.
func (s *sender) prepare(ctx context.Context, conn device.Conn, files device.Files) error {
	have := int64(0)
	info, err := files.Stat(s.temp)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() > s.Size:
		// Not ours, or damaged. It is not cut shorter: somebody may have it open.
		if err := files.Remove(s.temp); err != nil {
			return err
		}
	default:
		have = info.Size()
	}
	known, err := s.room(ctx, conn, files, s.Size-have)
	if err != nil {
		return err
	}
	s.result.SpaceUnknown = !known
	if !s.believed || have < s.sure {
		if err := s.believe(ctx, conn, have); err != nil {
			return err
		}
	}
	before := s.sure
	if s.sure < have {
		end, err := s.compare(ctx, files, s.temp, s.sure, have, s.sums)
		s.advance(end)
		if err != nil {
			return err
		}
	}
	if s.high > 0 {
		s.account.cut(s.high - s.sure)
	}
	s.result.Resumed += s.sure - before
	s.high = s.sure
	return nil
}

// believe sets s.sure by the device's hash of what it has, for a file that this
// sender knows nothing of. What may have holes in it is not asked for: it is read
// back.
func (s *sender) believe(ctx context.Context, conn device.Conn, have int64) error {
	s.sure, s.sums, s.high, s.believed = 0, s.asked(), 0, false
	s.account.arrived = 0
	front := have - maxUnderWay
	if s.tool == nil || front <= 0 {
		s.believed = true
		return nil
	}
	sums := newDigests()
	if s.tool.Algorithm != device.HashMD5 {
		sums.withoutMD5()
	}
	got, err := s.tool.prefix(ctx, conn, s.temp, front)
	if err != nil {
		return err
	}
	if err := feed(ctx, sums, s.Source, front); err != nil {
		return s.unreadable(err)
	}
	if got == sums.of(s.tool.Algorithm) {
		if s.sums != nil {
			s.sums = sums
		}
		s.advance(front)
		s.result.Resumed += front
	}
	s.believed = true
	return nil
}

// advance says that the device has all up to end.
func (s *sender) advance(end int64) {
	s.account.arrived += end - s.sure
	s.moved = max(s.moved, end)
	s.sure = end
	s.tell(end)
}

// send writes what is missing.
func (s *sender) send(ctx context.Context, conn device.Conn, files device.Files) error {
	f, err := files.OpenFile(s.temp, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	s.high = max(s.high, s.sure)
	pipe := flow{buffers: s.Buffers, large: f.MaxPacket(), allowed: s.account.allowed,
		fill: func(p []byte, off int64) error {
			if _, err := readFull(s.Source, p, off); err != nil {
				return s.unreadable(err)
			}
			s.result.Sent += int64(len(p))
			s.high = off + int64(len(p))
			return nil
		},
		move: func(p []byte, off int64) error {
			_, err := f.WriteAt(p, off)
			return err
		},
		done: func(p []byte, off int64) error {
			_, _ = s.sums.Write(p)
			s.advance(off + int64(len(p)))
			return nil
		}}
	err = pipe.run(ctx, s.sure, s.Size)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if fault.Is(err, fault.Refused) && ctx.Err() == nil {
		// SFTP has no word for a full disk.
		if _, full := s.room(ctx, conn, files, s.Size-s.sure); fault.Is(full, fault.Conflict) {
			return full
		}
	}
	return err
}

// errDiffers means that the device does not hold what it confirmed.
var errDiffers = errors.New("the file on the device differs from the source")

// finish verifies the whole and gives it its name.
func (s *sender) finish(ctx context.Context, conn device.Conn, files device.Files) error {
	same, err := s.verify(ctx, conn, files, s.temp)
	if err == nil && !same {
		err = s.unchanged(ctx)
	}
	if errors.Is(err, errChanged) {
		err = errors.Join(err, s.tidy(files))
	}
	if err != nil {
		return err
	}
	if !same {
		s.believed = false
		err := &fault.Error{Kind: fault.Refused, Act: "verify " + path.Base(s.temp), Stage: "verify",
			Err: fmt.Errorf("%w (%s)", errDiffers, s.result.Verified), Next: "look at the device's disk; the next upload begins anew"}
		return errors.Join(err, files.Remove(s.temp))
	}
	return files.Rename(s.temp, s.Path)
}
