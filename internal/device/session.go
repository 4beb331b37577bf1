package device

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// Conn is one authenticated SSH connection to a device. Every session it opens
// counts against the device's session limit; opening one more waits for a free
// place until the context ends (fault.Busy names the limit then).
//
// All methods may be called from several goroutines. After an error of kind
// fault.Disconnected the connection is dead and every later call says so.
// Cancelling a call's context ends that call within 100 ms and leaves the
// connection usable for others.
type Conn interface {
	// Shell opens an interactive shell and brings it to its first prompt.
	Shell(ctx context.Context, def *Definition) (Shell, error)
	// Exec runs one command without a PTY. Args are quoted for a POSIX shell in
	// one place (Quote); a Raw line is sent as it is.
	Exec(ctx context.Context, req ExecRequest) (ExecResult, error)
	// Files opens an SFTP session.
	Files(ctx context.Context) (Files, error)
	// Facts tells what was learned while connecting.
	Facts() ConnFacts
	// Close ends all sessions and the connection. It may be called twice.
	Close() error
}

// ConnFacts is what a connection learned about the other side.
type ConnFacts struct {
	ServerVersion string // SSH identification string, cleaned
	HostKeyType   string
	HostKeySHA256 string // SHA256:... as ssh-keygen -l prints it
	LocalAddress  string // our address as this side sees it
	DialTime      time.Duration
	LoginTime     time.Duration
}

// Shell is an interactive command line that a platform's definition describes.
// It is used by one goroutine at a time; a second caller waits. After a timeout
// or a cancelled command the shell is discarded: every later call fails with
// fault.Disconnected, because a late answer could be taken for the next one's.
type Shell interface {
	// Run brings the shell to the command's mode, types the line and returns the
	// complete output. Output that is not complete is never returned without an
	// error. Output over the cap gives what was read with fault.TooLarge.
	Run(ctx context.Context, cmd Command) (Output, error)
	// Mode is the mode of the last prompt seen, by its name in the definition.
	Mode() string
	// Prompt is the last prompt seen, without trailing space.
	Prompt() string
	// Close ends the shell's session, not the connection. It may be called twice.
	Close() error
}

// Command is one line for a Shell.
type Command struct {
	Line string
	// Mode to run it in, by its name in the definition; "" is the definition's
	// working mode.
	Mode string
	// NewMode, when set, is the mode whose prompt ends this command's output (for
	// "maintenance-mode noconfirm" and the like); "" accepts the prompt of Mode.
	NewMode string
	// Answers are replies to questions that this command may ask, by the name of
	// the question in the definition. A question without an answer here gets the
	// definition's safe answer, and the command ends with fault.Refused.
	Answers map[string]string
	// Timeout for the whole command; 0 is the device's command timeout.
	Timeout time.Duration
	// MaxBytes caps the output; 0 is DefaultMaxOutput.
	MaxBytes int
}

// DefaultMaxOutput caps one command's output.
const DefaultMaxOutput = 32 << 20

// Output is a command's complete answer: CR LF and runs of CR before LF become
// LF, terminal escapes are gone, the echo of the command and the final prompt
// are not part of it. Bytes are otherwise untouched.
type Output struct {
	Command string
	// Prompt is the prompt that the command was typed at, without trailing space;
	// "" for exec, where there is none.
	Prompt string
	Text   string
	// Stderr is the end of Text, what the command wrote to its standard error before it
	// ended with a status other than 0. Only commands over exec have one.
	Stderr string
	// Truncated is set when the cap cut the text; the call then returns an error too.
	Truncated bool
	// Questions names what the device asked while the command ran.
	Questions []string
	Elapsed   time.Duration
}

// Transcript is the output as a terminal would show it: the prompt with the
// command, then the text. It is what templates are run on, what samples hold
// and what is kept when a template does not match. Without a prompt it is the
// text alone.
func (o Output) Transcript() string {
	if o.Prompt == "" {
		return o.Text
	}
	return o.Prompt + " " + o.Command + "\n" + o.Text
}

// ExecRequest is one command for a Conn's Exec.
type ExecRequest struct {
	Args []string // quoted for a POSIX shell
	Raw  string   // sent as it is instead of Args; for shells that are not POSIX (tmsh)
	// Stdin may be nil. Stdout and Stderr, when set, receive the bytes unchanged as
	// they arrive and nothing is kept; otherwise both are kept up to MaxBytes.
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Timeout  time.Duration // 0 is the device's command timeout; negative is none
	MaxBytes int           // 0 is DefaultMaxOutput
}

// ExecResult is how a command ended. End of file and an exit status are the
// proof that the output is complete; without a status Exec returns an error.
type ExecResult struct {
	Stdout  []byte
	Stderr  []byte
	Status  int
	Elapsed time.Duration
}

// Files is an SFTP session. Paths are the device's own and are never built from
// device output. It may be used from several goroutines. Errors keep what
// errors.Is knows of them (fs.ErrNotExist, fs.ErrExist, fs.ErrPermission).
type Files interface {
	// Stat follows links.
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.FileInfo, error)
	// RealPath resolves a path on the device; "." is the login directory.
	RealPath(name string) (string, error)
	// OpenFile opens a file; flag is of os.O_RDONLY, O_WRONLY, O_RDWR, O_CREATE,
	// O_EXCL and O_TRUNC.
	OpenFile(name string, flag int) (File, error)
	// Rename replaces newName where there is one: in one act where the server can
	// (posix-rename@openssh.com), else by removing it first.
	Rename(oldName, newName string) error
	// Remove removes a file; a directory is fault.Refused.
	Remove(name string) error
	Mkdir(name string) error
	// StatVFS tells the space of the file system that name is on; fault.Unsupported
	// where the server does not say (statvfs@openssh.com).
	StatVFS(name string) (Space, error)
	Close() error
}

// File is an open file on a device. ReadAt and WriteAt may be called from several
// goroutines; that is how to have more than one packet under way. Each call of at
// most MaxPacket bytes is one packet. After an error of a ReadAt or WriteAt the
// buffer given to it may still be in use and must not be used again.
type File interface {
	io.ReaderAt
	io.WriterAt
	// MaxPacket is the largest read or write that the server is known to take at once.
	MaxPacket() int
	// Stat is of the open file, also after a rename.
	Stat() (fs.FileInfo, error)
	// Close ends the use of the file. It may be called twice.
	Close() error
}

// Space is what a file system of a device has, in bytes.
type Space struct {
	Total     int64
	Available int64 // to the user who is logged in
}

// Session is a device ready for work: what an operation gets. One Session
// belongs to one task.
type Session interface {
	// Device is the appliance this session is with.
	Device() *Device
	// Definition is the platform's definition in force.
	Definition() *Definition
	// Run runs one command of the platform's command line, by whatever way suits
	// the platform (its shell, or exec where an exit status proves completeness).
	// A command that the device answered with an error gives the Output and
	// fault.Refused.
	Run(ctx context.Context, cmd Command) (Output, error)
	// Conn is the connection below, for exec and SFTP.
	Conn() Conn
	Close() error
}

// Driver opens sessions for one platform. Implementations are stateless and
// safe for concurrent use. The contract suite is in package drivertest.
type Driver interface {
	// Platform is the name that the inventory uses.
	Platform() string
	// Definition is the definition in force (built in, or overridden).
	Definition() *Definition
	// Open makes conn usable: login questions answered, paging off, working mode
	// reached. Closing the session leaves conn open; the caller owns it.
	Open(ctx context.Context, dev *Device, conn Conn) (Session, error)
}

// Dialer makes connections. sshconn has the real one.
type Dialer interface {
	Dial(ctx context.Context, dev *Device) (Conn, error)
}

// HostKey is a public host key as a device presented it.
type HostKey struct {
	Device    string `json:"device"`
	Host      string `json:"host"` // as known_hosts names it: host, or [host]:port
	Type      string `json:"type"`
	SHA256    string `json:"sha256"`     // SHA256:..., as ssh-keygen -l prints it
	PublicKey string `json:"public_key"` // authorized_keys form without comment
}

// KeyScanner reads host keys without logging in: no credential is sent.
type KeyScanner interface {
	ScanHostKeys(ctx context.Context, dev *Device) ([]HostKey, error)
}
