package transfer

import (
	"context"
	"crypto/md5" //nolint:gosec // some devices have nothing better; it is a check against accidents
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// slowestHash is how slowly a device is believed to read and hash a file, in bytes
// a second; hashStart is what it has beside.
const (
	slowestHash = 4 << 20
	hashStart   = 2 * time.Minute
)

// digests are the running hashes of a content. Both are kept, because which of
// them a device can work out is known only later.
type digests struct {
	sha256, md5 hash.Hash
}

func newDigests() *digests { return &digests{sha256.New(), md5.New()} } //nolint:gosec // see above

// withoutMD5 is for where nobody will ask for it: it takes longer than the other.
func (d *digests) withoutMD5() { d.md5 = nil }

// Write implements io.Writer. Nil is nobody who asks.
func (d *digests) Write(p []byte) (int, error) {
	if d == nil {
		return len(p), nil
	}
	d.sha256.Write(p)
	if d.md5 != nil {
		d.md5.Write(p)
	}
	return len(p), nil
}

func (d *digests) of(algorithm string) string {
	if algorithm == device.HashMD5 {
		if d.md5 == nil {
			return ""
		}
		return hex.EncodeToString(d.md5.Sum(nil))
	}
	return hex.EncodeToString(d.sha256.Sum(nil))
}

// tool is a command that hashes on a device. A nil tool is none.
type tool struct {
	device.HashCommand
}

func (t *tool) String() string {
	return fmt.Sprintf("%s on the device (%s)", t.Algorithm, t.Command[0])
}

// findTool gives the first of the platform's commands that works on the device:
// it has to know the hash of nothing. Nil when none does.
func findTool(ctx context.Context, conn device.Conn, commands []device.HashCommand) (*tool, error) {
	for _, c := range commands {
		t := &tool{c}
		got, err := t.run(ctx, conn, hashStart, []string{"sh", "-c", `exec "$@" </dev/null`, "sh"})
		if err != nil {
			return nil, err
		}
		if got == newDigests().of(t.Algorithm) {
			return t, nil
		}
	}
	return nil, nil //nolint:nilnil // no tool is an answer
}

// whole hashes a file; "" where the device does not say.
func (t *tool) whole(ctx context.Context, conn device.Conn, path string, size int64) (string, error) {
	return t.run(ctx, conn, patience(size), []string{"sh", "-c", `f=$1; shift; exec "$@" <"$f"`, "sh", path})
}

// prefix hashes the first n bytes of a file; "" where the device does not say.
func (t *tool) prefix(ctx context.Context, conn device.Conn, path string, n int64) (string, error) {
	return t.run(ctx, conn, patience(n), []string{"sh", "-c", `n=$1 f=$2; shift 2; head -c "$n" <"$f" | "$@"`, "sh", strconv.FormatInt(n, 10), path})
}

func patience(n int64) time.Duration {
	return hashStart + time.Duration(n/slowestHash)*time.Second
}

// run gives the digest that a command prints. A device that refuses, or prints
// something else, has given no answer; only a failure of the connection is an
// error.
func (t *tool) run(ctx context.Context, conn device.Conn, within time.Duration, line []string) (string, error) {
	const most = 4096
	res, err := conn.Exec(ctx, device.ExecRequest{Args: append(line, t.Command...), Timeout: within, MaxBytes: most})
	switch fault.KindOf(err) {
	case "":
	case fault.Refused, fault.TooLarge, fault.Unsupported:
		return "", nil
	default:
		return "", err
	}
	if res.Status != 0 {
		return "", nil
	}
	for _, word := range strings.Fields(string(res.Stdout)) {
		raw, err := hex.DecodeString(word)
		if err == nil && len(raw) == t.size() {
			return strings.ToLower(word), nil
		}
	}
	return "", nil
}

func (t *tool) size() int {
	if t.Algorithm == device.HashMD5 {
		return md5.Size
	}
	return sha256.Size
}

// feed hashes the first bytes of r, up to to.
func feed(ctx context.Context, into io.Writer, r io.ReaderAt, to int64) error {
	buf := make([]byte, 256<<10)
	for from := int64(0); from < to; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, err := readFull(r, buf[:min(int64(len(buf)), to-from)], from)
		if err != nil {
			return err
		}
		if _, err := into.Write(buf[:n]); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// readFull reads all of p, which must be there.
func readFull(r io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF { //nolint:errorlint // an io.ReaderAt gives io.EOF itself
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
