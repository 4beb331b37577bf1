package transfer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Upload is a file to bring to a device.
type Upload struct {
	// Source is read by offset, some of it more than once. It must not change.
	Source io.ReaderAt
	Size   int64  // bytes
	SHA256 string // of the source; 64 hexadecimal digits
	// MD5 of the source, where it is known; devices that have no SHA-256 use it.
	MD5 string
	// Path on the device. Its directory must be there.
	Path string
	// Tools are what the platform has for files (Definition.Files). Without any the
	// content is verified by reading it back.
	Tools device.FilesDefinition
	// Buffers are shared with other transfers; nil is some of its own.
	Buffers *Buffers
	// Progress is told how much is on the device and confirmed; it may be nil. It is
	// called from one goroutine.
	Progress func(done, total int64)
}

// Result of an Upload.
type Result struct {
	// Unchanged says that the device had the file already; nothing was sent.
	Unchanged bool
	// Sent are the bytes given to the connection, some perhaps twice.
	Sent int64
	// Resumed are the bytes found on the device, verified, and not sent again.
	Resumed int64
	// Cuts is how often the connection broke and the upload went on.
	Cuts int
	// Verified says how the whole content was compared with the source.
	Verified string
	// SpaceUnknown says that the device does not tell how much is free.
	SpaceUnknown bool
}

// ReadBack is the Verified of a file that was read back over SFTP.
const ReadBack = "read back"

// Send uploads over one connection. A cut is an error of kind
// fault.Disconnected; the next call goes on where the device's content ends.
// fault.Conflict means that there is no room, or that the source is not what its
// digest says.
func Send(ctx context.Context, conn device.Conn, u Upload) (Result, error) {
	s, err := newSender(u)
	if err != nil {
		return Result{}, err
	}
	err = s.attempt(ctx, conn)
	return s.result, s.failure(err)
}

// Check tells whether the device has the file under its name with the right
// content, and how that was seen. It changes nothing.
func Check(ctx context.Context, conn device.Conn, u Upload) (there bool, how string, err error) {
	s, err := newSender(u)
	if err != nil {
		return false, "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	files, err := conn.Files(ctx)
	if err != nil {
		return false, "", s.failure(err)
	}
	defer func() { _ = files.Close() }()
	there, err = s.present(ctx, conn, files)
	return there, s.result.Verified, s.failure(err)
}

// TempName is the hidden name that a file has until it is whole.
func TempName(target, sha256 string) string {
	const digits = 16
	dir, base := path.Split(target)
	return dir + "." + base + "." + sha256[:digits] + ".part"
}

// sender is an upload over any number of connections.
type sender struct {
	Upload
	temp    string
	account account
	result  Result

	tool   *tool
	probed bool // tool is known

	// sure is how much of the temporary file is right, seen by this sender: the
	// device confirmed each write or gave the bytes back. sums are of that much, nil
	// where nobody asks for them.
	sure  int64
	sums  *digests
	high  int64 // the end of what was sent
	told  int64 // of progress
	moved int64 // the most that sure has been; see Deliver
	// believed says that sure is known, be it 0.
	believed bool
}

func newSender(u Upload) (*sender, error) {
	fail := func(format string, args ...any) (*sender, error) {
		return nil, &fault.Error{Kind: fault.Invalid, Act: "upload " + u.Path, Err: fmt.Errorf(format, args...)}
	}
	u.SHA256, u.MD5 = strings.ToLower(u.SHA256), strings.ToLower(u.MD5)
	if raw, err := hex.DecodeString(u.SHA256); err != nil || len(raw) != 32 {
		return fail("%q is no SHA-256", u.SHA256)
	}
	if raw, err := hex.DecodeString(u.MD5); err != nil || len(raw) != 16 && len(raw) != 0 {
		return fail("%q is no MD5", u.MD5)
	}
	switch base := path.Base(u.Path); {
	case u.Source == nil:
		return fail("there is no source")
	case u.Size < 0:
		return fail("a size of %d bytes", u.Size)
	case u.Path == "" || strings.HasSuffix(u.Path, "/") || base == "." || base == ".." || strings.ContainsAny(u.Path, "\x00\n"):
		return fail("%q is no path of a file", u.Path)
	}
	if u.Buffers == nil {
		u.Buffers = NewBuffers(maxUnderWay)
	}
	return &sender{Upload: u, temp: TempName(u.Path, u.SHA256), account: account{size: u.Size}}, nil
}

// failure names the act in an error.
func (s *sender) failure(err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Internal, "upload "+path.Base(s.Path), err)
}

// attempt does what is missing over one connection.
func (s *sender) attempt(ctx context.Context, conn device.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the session lives as long
	files, err := conn.Files(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = files.Close() }()
	if err := s.probe(ctx, conn); err != nil {
		return err
	}
	there, err := s.present(ctx, conn, files)
	if err != nil {
		return err
	}
	if there {
		s.result.Unchanged = s.result.Sent == 0
		s.tell(s.Size)
		return s.tidy(files)
	}
	if err := s.prepare(ctx, conn, files); err != nil {
		return err
	}
	if err := s.send(ctx, conn, files); err != nil {
		return err
	}
	return s.finish(ctx, conn, files)
}

// tidy removes a temporary file that is not needed any more.
func (s *sender) tidy(files device.Files) error {
	if err := files.Remove(s.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// present verifies what is at the target.
func (s *sender) present(ctx context.Context, conn device.Conn, files device.Files) (bool, error) {
	info, err := files.Stat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.IsDir():
		return false, &fault.Error{Kind: fault.Conflict, Act: "look at " + s.Path, Err: errors.New("it is a directory on the device")}
	case info.Size() != s.Size:
		return false, nil
	}
	return s.verify(ctx, conn, files, s.Path)
}

// probe finds the device's hash command once.
func (s *sender) probe(ctx context.Context, conn device.Conn) error {
	if s.probed {
		return nil
	}
	t, err := findTool(ctx, conn, s.Tools.Hash)
	if err != nil {
		return err
	}
	s.tool, s.probed = t, true
	if s.sure == 0 {
		s.sums = s.asked()
	}
	return nil
}

// asked gives the digests that are kept of what goes: those of a device that hashes
// with MD5, of which nothing is known beforehand. The whole is verified on the device,
// which costs this side nothing; what a busy sender has to hash it cannot send.
func (s *sender) asked() *digests {
	if s.tool != nil && s.tool.Algorithm == device.HashMD5 && s.MD5 == "" {
		return newDigests()
	}
	return nil
}

// verify compares a whole file on the device with the source.
func (s *sender) verify(ctx context.Context, conn device.Conn, files device.Files, name string) (bool, error) {
	if err := s.probe(ctx, conn); err != nil {
		return false, err
	}
	if s.tool != nil {
		want, err := s.expected(ctx)
		if err != nil {
			return false, err
		}
		got, err := s.tool.whole(ctx, conn, name, s.Size)
		if err != nil {
			return false, err
		}
		if got != "" {
			s.result.Verified = s.tool.String()
			return got == want, nil
		}
	}
	sums := newDigests()
	sums.withoutMD5()
	same, err := s.compare(ctx, files, name, 0, s.Size, sums)
	if err != nil {
		return false, err
	}
	s.result.Verified = ReadBack
	return same == s.Size && sums.of(device.HashSHA256) == s.SHA256, nil
}

// expected is the source's hash by the tool's algorithm.
func (s *sender) expected(ctx context.Context) (string, error) {
	switch {
	case s.tool.Algorithm == device.HashSHA256:
		return s.SHA256, nil
	case s.MD5 != "":
		return s.MD5, nil
	}
	sums := s.sums
	if sums == nil || s.sure < s.Size {
		sums = newDigests()
		if err := feed(ctx, sums, s.Source, s.Size); err != nil {
			return "", s.unreadable(err)
		}
	}
	if sums.of(device.HashSHA256) != s.SHA256 {
		return "", s.changed()
	}
	s.MD5 = sums.of(device.HashMD5)
	return s.MD5, nil
}

// unchanged looks whether the source is what its digest says.
func (s *sender) unchanged(ctx context.Context) error {
	sums := newDigests()
	sums.withoutMD5()
	if err := feed(ctx, sums, s.Source, s.Size); err != nil {
		return s.unreadable(err)
	}
	if sums.of(device.HashSHA256) != s.SHA256 {
		return s.changed()
	}
	return nil
}

// compare reads a file back from from up to to and gives the end of what is as in
// the source; sums is fed with that much. It stops at the first difference.
func (s *sender) compare(ctx context.Context, files device.Files, name string, from, to int64, sums *digests) (same int64, err error) {
	f, err := files.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return from, err
	}
	defer func() { _ = f.Close() }()
	own := s.Buffers.get(smallChunk)
	defer s.Buffers.put(own)
	same = from
	pipe := flow{buffers: s.Buffers, large: f.MaxPacket(), allowed: func() int64 { return maxUnderWay },
		move: func(p []byte, off int64) error {
			_, err := f.ReadAt(p, off)
			if errors.Is(err, io.EOF) {
				return errStop // shorter than it was
			}
			return err
		},
		done: func(p []byte, off int64) error {
			for len(p) > 0 {
				piece := own[:min(len(own), len(p))]
				if _, err := readFull(s.Source, piece, off); err != nil {
					return s.unreadable(err)
				}
				n := equal(p, piece)
				_, _ = sums.Write(p[:n])
				same = off + int64(n)
				if n < len(piece) {
					return errStop
				}
				p, off = p[n:], same
			}
			return nil
		}}
	err = pipe.run(ctx, from, to)
	if errors.Is(err, errStop) {
		err = nil
	}
	return same, err
}

// errStop ends a comparison at the first difference, or where the file ends.
var errStop = errors.New("differs here")

// equal is how many leading bytes of b are those of a, which is not shorter.
func equal(a, b []byte) int {
	if bytes.Equal(a[:len(b)], b) {
		return len(b)
	}
	n := 0
	for a[n] == b[n] {
		n++
	}
	return n
}

func (s *sender) tell(done int64) {
	const step = 1 << 20
	if s.Progress != nil && (done-s.told >= step || done == s.Size || done < s.told) {
		s.told = done
		s.Progress(done, s.Size)
	}
}

func (s *sender) unreadable(err error) error {
	return fault.Wrap(fault.Storage, "read the source", err)
}

// errChanged means that the source is not what it was.
var errChanged = errors.New("it changed since that was worked out")

func (s *sender) changed() error {
	return &fault.Error{Kind: fault.Conflict, Act: "read the source", Stage: "source",
		Err:  fmt.Errorf("it does not have the SHA-256 %s: %w", s.SHA256, errChanged),
		Next: "add the file again"}
}
