package sim

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/pkg/sftp"
)

// runSFTP serves one SFTP session.
func (s *session) runSFTP() int {
	if s.silent() || s.turn(s.ctx) != nil {
		return statusKilled
	}
	h := &sftpFiles{s: s}
	server := sftp.NewRequestServer(sftpChannel{s.ch, wire{s, s.ch}}, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h},
		sftp.WithStartDirectory(s.dev.persona.home(s.user)))
	err := server.Serve()
	if err = errors.Join(ignoreEOF(err), ignoreEOF(server.Close())); err != nil {
		s.dev.fleet.log.Debug("simulated SFTP session ended", "device", s.dev.name, "err", err)
		return 1
	}
	return 0
}

// sftpChannel keeps the channel open when the server closes it: the exit status
// is still to come.
type sftpChannel struct {
	io.Reader
	io.Writer
}

func (sftpChannel) Close() error { return nil }

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// sftpFiles serves a device's tree to one session.
type sftpFiles struct{ s *session }

var (
	_ sftp.OpenFileWriter       = (*sftpFiles)(nil)
	_ sftp.PosixRenameFileCmder = (*sftpFiles)(nil)
	_ sftp.StatVFSFileCmder     = (*sftpFiles)(nil)
	_ sftp.LstatFileLister      = (*sftpFiles)(nil)
	_ sftp.ReadlinkFileLister   = (*sftpFiles)(nil)
	_ sftp.NameLookupFileLister = (*sftpFiles)(nil)
	_ sftp.TransferError        = (*upload)(nil)
)

func (h *sftpFiles) tree() *tree { return h.s.dev.files }

// Fileread opens a file for reading.
func (h *sftpFiles) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	if live := h.s.dev.persona.live(h.s.dev, r.Filepath); live != nil {
		return liveFile(live), nil
	}
	return h.tree().openFile(r.Filepath, os.O_RDONLY, 0)
}

// liveFile is a snapshot of a file that changes by itself.
type liveFile []byte

func (f liveFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f)) {
		return 0, io.EOF
	}
	n := copy(p, f[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Filewrite opens a file for writing.
func (h *sftpFiles) Filewrite(r *sftp.Request) (io.WriterAt, error) { return h.OpenFile(r) }

// OpenFile opens a file for writing, and for reading where that is asked for.
func (h *sftpFiles) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	p := r.Pflags()
	flag := os.O_WRONLY
	if p.Read {
		flag = os.O_RDWR
	}
	for bit, set := range map[int]bool{os.O_CREATE: p.Creat, os.O_TRUNC: p.Trunc, os.O_EXCL: p.Excl} {
		if set {
			flag |= bit
		}
	}
	before, _ := h.tree().stat(r.Filepath, true) // nil: there is none
	f, err := h.tree().openFile(r.Filepath, flag, 0o644)
	if err != nil {
		return nil, err
	}
	if p.Trunc && before != nil {
		h.s.dev.takeSpace(r.Filepath, -before.Size())
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &upload{File: f, s: h.s, path: r.Filepath, whole: info.Size(), ahead: map[int64]int64{}}, nil
}

// upload is a file being written. Its close is the event that the journal keeps.
type upload struct {
	*os.File
	s      *session
	path   string
	failed atomic.Bool

	mu      sync.Mutex // requests of one session are served side by side
	arrived int64      // bytes, in this session
	// whole is how far the file goes without a gap, and ahead what has arrived behind a
	// gap, by offset: a server that writes in order never has one.
	whole int64
	ahead map[int64]int64
}

// extend notes that a part has been written.
func (u *upload) extend(off, n int64) {
	u.ahead[off] = max(u.ahead[off], n)
	for n, ok := u.ahead[u.whole]; ok && n > 0; n, ok = u.ahead[u.whole] {
		delete(u.ahead, u.whole)
		u.whole += n
	}
}

// WriteAt takes one request's data, with the faults of uploads.
func (u *upload) WriteAt(p []byte, off int64) (int, error) {
	f := &u.s.dev.ordered.Load().change
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failed.Load() {
		return 0, errCut // it came behind the cut
	}
	if err := pause(u.s.ctx, f.pace(len(p))); err != nil {
		return 0, err
	}
	info, err := u.Stat()
	if err != nil {
		return 0, err
	}
	if grown := off + int64(len(p)) - info.Size(); grown > 0 && !u.s.dev.takeSpace(u.path, grown) {
		return 0, &fs.PathError{Op: "write", Path: u.path, Err: syscall.ENOSPC}
	}
	if f.corrupt && off == 0 && len(p) > 0 {
		p = append([]byte{p[0] ^ 0xff}, p[1:]...)
	}
	n, err := u.File.WriteAt(p, off)
	u.arrived += int64(n)
	u.extend(off, int64(n))
	if c := f.uploadCut; err == nil && c != nil && u.arrived >= c.after && takeOne(&c.left) {
		u.failed.Store(true)
		if len(u.ahead) > 0 {
			err = u.Truncate(u.whole)
		}
		u.s.conn.cut()
		return n, errors.Join(errCut, err)
	}
	return n, err
}

// TransferError is called when the session ends with the file open.
func (u *upload) TransferError(error) { u.failed.Store(true) }

// Close journals what has arrived.
func (u *upload) Close() error {
	info, err := u.Stat()
	if err == nil {
		state := "complete"
		if u.failed.Load() {
			state = "cut"
		}
		u.s.dev.arrivedFile(u.path)
		u.s.dev.note(eventUpload, "path=%q bytes=%d state=%s user=%s", u.path, info.Size(), state, u.s.user)
	}
	return errors.Join(err, u.File.Close())
}

// Filecmd changes names and attributes.
func (h *sftpFiles) Filecmd(r *sftp.Request) error {
	root, err := h.tree().open()
	if err != nil {
		return err
	}
	name, target := inside(r.Filepath), inside(r.Target)
	switch r.Method {
	case "Setstat":
		return h.setstat(root, name, r)
	case "Rename":
		if _, err := root.Lstat(target); err == nil {
			return fs.ErrExist // SFTP version 3: rename does not overwrite
		}
		h.s.dev.arrivedFile(r.Target)
		return root.Rename(name, target)
	case "Rmdir", "Remove":
		info, err := root.Lstat(name)
		if err != nil {
			return err
		}
		if info.IsDir() != (r.Method == "Rmdir") {
			return sftp.ErrSSHFxFailure
		}
		h.s.dev.takeSpace(r.Filepath, -info.Size())
		return root.Remove(name)
	case "Mkdir":
		return root.Mkdir(name, 0o755)
	case "Link":
		return root.Link(name, target)
	case "Symlink":
		return root.Symlink(r.Filepath, target)
	default:
		return sftp.ErrSSHFxOpUnsupported
	}
}

// PosixRename replaces the target.
func (h *sftpFiles) PosixRename(r *sftp.Request) error {
	root, err := h.tree().open()
	if err != nil {
		return err
	}
	h.s.dev.arrivedFile(r.Target)
	return root.Rename(inside(r.Filepath), inside(r.Target))
}

func (h *sftpFiles) setstat(root *os.Root, name string, r *sftp.Request) error {
	flags, attrs := r.AttrFlags(), r.Attributes()
	var errs []error
	if flags.Size {
		if attrs.Size > math.MaxInt64 {
			return fs.ErrInvalid
		}
		f, err := root.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		errs = append(errs, f.Truncate(int64(attrs.Size)), f.Close())
	}
	if flags.Permissions {
		// Owner rights stay, or the simulator itself could not go on.
		errs = append(errs, root.Chmod(name, attrs.FileMode().Perm()|0o700))
	}
	if flags.Acmodtime {
		errs = append(errs, root.Chtimes(name, attrs.AccessTime(), attrs.ModTime()))
	}
	return errors.Join(errs...)
}

// statfs is a personality's figures of the file system that a path is on.
func (d *device) statfs(name string) (total, free int64) {
	switch p := d.persona.(type) {
	case mounted:
		if m, ok := holding(p.mounts(d), name); ok {
			return m.size << 10, m.avail << 10
		}
	case *osmPersonality:
		return p.statfs(d, name)
	}
	return 1 << 30, 1 << 29
}

// StatVFS gives the room in the file system of a path, as OpenSSH does.
func (h *sftpFiles) StatVFS(r *sftp.Request) (*sftp.StatVFS, error) {
	if _, err := h.tree().stat(r.Filepath, true); err != nil {
		return nil, err
	}
	const block = 4096
	total, free := h.s.dev.statfs(path.Clean(r.Filepath))
	free = h.s.dev.ordered.Load().change.free(free)
	blocks, left := uint64(max(0, total))/block, uint64(max(0, free))/block
	return &sftp.StatVFS{Bsize: block, Frsize: block, Blocks: blocks, Bfree: left, Bavail: left,
		Files: 1 << 20, Ffree: 1 << 19, Favail: 1 << 19, Namemax: 255}, nil
}

// listing is a directory or a single entry.
type listing []fs.FileInfo

func (l listing) ListAt(out []fs.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(out, l[offset:])
	if n < len(out) {
		return n, io.EOF
	}
	return n, nil
}

// Filelist lists a directory, or describes one file.
func (h *sftpFiles) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method == "Stat" {
		return h.describe(r.Filepath, true)
	}
	if r.Method != "List" {
		return nil, sftp.ErrSSHFxOpUnsupported
	}
	entries, err := h.tree().readDir(r.Filepath)
	if err != nil {
		return nil, err
	}
	var out listing
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // else it has just gone
			out = append(out, info)
		}
	}
	return out, nil
}

// Lstat describes one file, not what it points to.
func (h *sftpFiles) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	return h.describe(r.Filepath, false)
}

func (h *sftpFiles) describe(name string, follow bool) (sftp.ListerAt, error) {
	info, err := h.tree().stat(name, follow)
	if err != nil {
		return nil, err
	}
	return listing{named{info, path.Base(name)}}, nil
}

// named gives the root its own name instead of the folder's.
type named struct {
	fs.FileInfo
	name string
}

func (n named) Name() string { return n.name }

// Readlink reads a symbolic link.
func (h *sftpFiles) Readlink(name string) (string, error) {
	root, err := h.tree().open()
	if err != nil {
		return "", err
	}
	return root.Readlink(inside(name))
}

// LookupUserName hides the owner of the simulator's files.
func (h *sftpFiles) LookupUserName(string) string { return h.s.user }

// LookupGroupName hides their group.
func (h *sftpFiles) LookupGroupName(string) string { return h.s.user }
