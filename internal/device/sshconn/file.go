package sshconn

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"

	"github.com/pkg/sftp"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Sizes of the data in one SFTP packet. Every server takes the small one
// (draft-ietf-secsh-filexfer-02, section 3). The large one is what OpenSSH's
// server names in its answer to limits@openssh.com (its PROTOCOL file, section
// 4.8); a server that offers the extension is taken at that.
const (
	smallPacket = 32 << 10
	largePacket = 255 << 10
)

// Names of the extensions that OpenSSH's PROTOCOL file defines.
const (
	extPosixRename = "posix-rename@openssh.com"
	extStatVFS     = "statvfs@openssh.com"
	extLimits      = "limits@openssh.com"
)

func (f *files) offers(extension string) bool {
	_, ok := f.client.HasExtension(extension)
	return ok
}

// OpenFile opens a file; see device.Files.
func (f *files) OpenFile(name string, flag int) (device.File, error) {
	h, err := ask(f, "open", name, func() (*sftp.File, error) { return f.client.OpenFile(name, flag) })
	if err != nil {
		return nil, err
	}
	packet := smallPacket
	if f.offers(extLimits) {
		packet = largePacket
	}
	return &file{files: f, handle: h, name: name, packet: packet}, nil
}

// Rename replaces newName where there is one; see device.Files.
func (f *files) Rename(oldName, newName string) error {
	_, err := ask(f, "rename to "+foreign(newName)+":", oldName, func() (struct{}, error) {
		if f.offers(extPosixRename) {
			return struct{}{}, f.client.PosixRename(oldName, newName)
		}
		// SFTP's own rename does not replace.
		if _, err := f.client.Lstat(newName); err == nil {
			if err := f.removeFile(newName); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, f.client.Rename(oldName, newName)
	})
	return err
}

// Remove removes a file.
func (f *files) Remove(name string) error {
	_, err := ask(f, "remove", name, func() (struct{}, error) { return struct{}{}, f.removeFile(name) })
	return err
}

var errDirectory = errors.New("it is a directory")

// removeFile keeps the library from removing an empty directory instead.
func (f *files) removeFile(name string) error {
	info, err := f.client.Lstat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errDirectory
	}
	return f.client.Remove(name)
}

// Mkdir makes one directory.
func (f *files) Mkdir(name string) error {
	_, err := ask(f, "make directory", name, func() (struct{}, error) { return struct{}{}, f.client.Mkdir(name) })
	return err
}

// StatVFS tells the space; see device.Files.
func (f *files) StatVFS(name string) (device.Space, error) {
	const verb = "ask for the space at"
	if !f.offers(extStatVFS) {
		return device.Space{}, &fault.Error{Kind: fault.Unsupported, Act: verb + " " + foreign(name), Device: f.conn.dev.Name, Stage: stageFiles,
			Err: errors.New("the SFTP server does not offer " + extStatVFS)}
	}
	return ask(f, verb, name, func() (device.Space, error) {
		st, err := f.client.StatVFS(name)
		if err != nil {
			return device.Space{}, err
		}
		unit := st.Frsize
		if unit == 0 {
			unit = st.Bsize
		}
		return device.Space{Total: product(st.Blocks, unit), Available: product(st.Bavail, unit)}, nil
	})
}

// product is a times b, at most what an int64 holds: the numbers are a device's.
func product(a, b uint64) int64 {
	hi, lo := bits.Mul64(a, b)
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}

// file is an open file of an SFTP session.
type file struct {
	files  *files
	handle *sftp.File
	name   string
	packet int
}

// MaxPacket is the largest read or write of one packet.
func (f *file) MaxPacket() int { return f.packet }

// ReadAt reads packet after packet; see device.File.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	return f.each(p, "read", off, f.handle.ReadAt)
}

// WriteAt writes packet after packet; see device.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.each(p, "write", off, f.handle.WriteAt)
}

// each does p in pieces of a packet.
func (f *file) each(p []byte, verb string, off int64, do func([]byte, int64) (int, error)) (int, error) {
	done := 0
	for done < len(p) {
		piece := p[done:min(done+f.packet, len(p))]
		at := off + int64(done)
		n, err := ask(f.files, verb, f.name, func() (part, error) {
			n, err := do(piece, at)
			if !errors.Is(err, io.EOF) {
				return part{n, false}, err
			}
			// The end of the file, if the server still answers: a channel that is closed
			// gives the same error.
			_, err = f.handle.Stat()
			return part{n, err == nil}, err
		})
		done += n.bytes
		switch {
		case err != nil:
			return done, err
		case n.end:
			return done, io.EOF
		case n.bytes < len(piece):
			return done, fmt.Errorf("%s %s: %w", verb, foreign(f.name), io.ErrNoProgress)
		}
	}
	return done, nil
}

// part is how far one packet came.
type part struct {
	bytes int
	end   bool
}

// Stat is of the open file.
func (f *file) Stat() (fs.FileInfo, error) {
	return ask(f.files, "stat", f.name, f.handle.Stat)
}

// Close ends the use of the file.
func (f *file) Close() error {
	_, err := ask(f.files, "close", f.name, func() (struct{}, error) {
		err := f.handle.Close()
		if errors.Is(err, fs.ErrClosed) {
			err = nil
		}
		return struct{}{}, err
	})
	return err
}
