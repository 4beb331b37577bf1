package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Download is a file to fetch from a device.
type Download struct {
	Path string
	// Into takes the content, and gives back what it holds already.
	Into Sink
	// Have is how many bytes Into holds of an earlier download of this file. They are
	// used only where the device's own hash of them is the same.
	Have int64
	// MaxSize refuses a larger file with fault.TooLarge; 0 is no bound.
	MaxSize int64
	// Tools are what the platform has for files (Definition.Files).
	Tools device.FilesDefinition
	// Buffers are shared with other transfers; nil is some of its own.
	Buffers *Buffers
	// Progress is told how much is in Into; it may be nil. It is called from one
	// goroutine.
	Progress func(done, total int64)
}

// Sink is what a download needs of a local file; an *os.File is one.
type Sink interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Received is a file that was fetched.
type Received struct {
	Size     int64
	Modified time.Time // as the device says
	SHA256   string    // of what is in Into
	// Received are the bytes that came over the connection.
	Received int64
	// Resumed are the bytes of Have that were right.
	Resumed int64
	Cuts    int
	// Verified says how the content was compared with the device's; ByTransport where
	// the device cannot hash.
	Verified string
}

// ByTransport is the Verified of a file of which the size was compared, and
// nothing else beyond what SSH guarantees.
const ByTransport = "size and transport"

// Receive fetches a file that must not change meanwhile (fault.Conflict), over as
// many connections as it takes; see Deliver. After an error Into holds a part of
// the file.
func Receive(ctx context.Context, connect Connect, d Download) (Received, error) {
	if d.Path == "" || d.Into == nil || d.Have < 0 {
		return Received{}, &fault.Error{Kind: fault.Invalid, Act: "download " + d.Path, Err: errors.New("no path, no file to write to, or a negative length")}
	}
	if d.Buffers == nil {
		d.Buffers = NewBuffers(maxUnderWay)
	}
	r := &receiver{Download: d, sums: newDigests()}
	err := persist(ctx, connect, r.attempt, func() int64 { return r.result.Received + r.result.Resumed }, func() { r.result.Cuts++ })
	if err != nil {
		return r.result, fault.Wrap(fault.Internal, "download "+path.Base(d.Path), err)
	}
	return r.result, nil
}

// receiver is a download over any number of connections.
type receiver struct {
	Download
	result Received
	found  fs.FileInfo // the file as first seen
	tool   *tool
	sums   *digests
	at     int64 // Into holds that much
	told   int64
}

func (r *receiver) attempt(ctx context.Context, conn device.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	files, err := conn.Files(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = files.Close() }()
	f, err := files.OpenFile(r.Path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if r.found == nil {
		if err := r.begin(ctx, conn, info); err != nil {
			return err
		}
	} else if err := r.same(info); err != nil {
		return err
	}
	size := r.found.Size()
	pipe := flow{buffers: r.Buffers, large: f.MaxPacket(), allowed: func() int64 { return maxUnderWay },
		move: func(p []byte, off int64) error {
			_, err := f.ReadAt(p, off)
			if errors.Is(err, io.EOF) {
				return r.changed("it became shorter")
			}
			return err
		},
		done: r.store}
	if err := pipe.run(ctx, r.at, size); err != nil {
		return err
	}
	if info, err = f.Stat(); err != nil {
		return err
	}
	if err := r.same(info); err != nil {
		return err
	}
	return r.verify(ctx, conn)
}

// begin takes the file as first seen and what is there of it.
func (r *receiver) begin(ctx context.Context, conn device.Conn, info fs.FileInfo) error {
	size := info.Size()
	switch {
	case !info.Mode().IsRegular():
		return &fault.Error{Kind: fault.Conflict, Act: "open " + path.Base(r.Path), Err: errors.New("it is no regular file on the device")}
	case r.MaxSize > 0 && size > r.MaxSize:
		return &fault.Error{Kind: fault.TooLarge, Act: "open " + path.Base(r.Path), Err: fmt.Errorf("it has %d bytes, at most %d are taken", size, r.MaxSize)}
	}
	t, err := findTool(ctx, conn, r.Tools.Hash)
	if err != nil {
		return err
	}
	if t == nil || t.Algorithm != device.HashMD5 {
		r.sums.withoutMD5()
	}
	if t != nil && r.Have > 0 && r.Have <= size {
		if err := r.resume(ctx, conn, t); err != nil {
			return err
		}
	}
	if err := r.Into.Truncate(r.at); err != nil {
		return fault.Wrap(fault.Storage, "write the file", err)
	}
	r.tool, r.found = t, info
	r.result.Size, r.result.Modified, r.result.Resumed = size, info.ModTime(), r.at
	return nil
}

// resume looks whether what is there is the beginning of the device's file.
func (r *receiver) resume(ctx context.Context, conn device.Conn, t *tool) error {
	got, err := t.prefix(ctx, conn, r.Path, r.Have)
	if err != nil || got == "" {
		return err
	}
	sums := newDigests()
	if t.Algorithm != device.HashMD5 {
		sums.withoutMD5()
	}
	if err := feed(ctx, sums, r.Into, r.Have); err != nil {
		return fault.Wrap(fault.Storage, "read what is there", err)
	}
	if sums.of(t.Algorithm) == got {
		r.sums, r.at = sums, r.Have
	}
	return nil
}

// same refuses a file that changes.
func (r *receiver) same(now fs.FileInfo) error {
	if now.Size() != r.found.Size() || !now.ModTime().Equal(r.found.ModTime()) {
		return r.changed("size or time are not those from the beginning")
	}
	return nil
}

func (r *receiver) changed(how string) error {
	return &fault.Error{Kind: fault.Conflict, Act: "read the file", Stage: "source",
		Err: fmt.Errorf("it changed on the device meanwhile: %s", how), Next: "fetch it again when nothing writes to it"}
}

// store keeps what came.
func (r *receiver) store(p []byte, off int64) error {
	r.result.Received += int64(len(p))
	if _, err := r.Into.WriteAt(p, off); err != nil {
		return fault.Wrap(fault.Storage, "write the file", err)
	}
	_, _ = r.sums.Write(p)
	r.at = off + int64(len(p))
	const step = 1 << 20
	if r.Progress != nil && (r.at-r.told >= step || r.at == r.result.Size) {
		r.told = r.at
		r.Progress(r.at, r.result.Size)
	}
	return nil
}

func (r *receiver) verify(ctx context.Context, conn device.Conn) error {
	r.result.SHA256, r.result.Verified = r.sums.of(device.HashSHA256), ByTransport
	if r.tool == nil {
		return nil
	}
	got, err := r.tool.whole(ctx, conn, r.Path, r.result.Size)
	if err != nil || got == "" {
		return err
	}
	if got != r.sums.of(r.tool.Algorithm) {
		return r.changed("its hash is another one")
	}
	r.result.Verified = r.tool.String()
	return nil
}
