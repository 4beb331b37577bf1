package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
	"capfleet/internal/transfer"
)

func TestUpload(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := newHost(t, srv, srv.Device("probe")).dial(t)
	for name, size := range map[string]int64{"empty": 0, "one byte": 1, "one packet": 32 << 10, "odd": 5<<20 + 17} {
		t.Run(name, func(t *testing.T) {
			source := content(t, size)
			target := filepath.Join(t.TempDir(), "an odd 'name' $(x).end")
			u := upload(t, source, target)
			told := int64(-1)
			u.Progress = func(done, total int64) {
				if done < told || total != size {
					t.Errorf("progress went from %d to %d of %d", told, done, total)
				}
				told = done
			}
			got, err := transfer.Send(t.Context(), conn, u)
			if err != nil {
				t.Fatal(err)
			}
			if got.Sent != size || got.Resumed != 0 || got.Unchanged || !strings.Contains(got.Verified, "sha256 on the device") || got.SpaceUnknown || told != size && size > 0 {
				t.Errorf("%+v, told of %d", got, told)
			}
			sameFile(t, target, source)

			again, err := transfer.Send(t.Context(), conn, u)
			if err != nil {
				t.Fatal(err)
			}
			if !again.Unchanged || again.Sent != 0 {
				t.Errorf("the second time: %+v", again)
			}
		})
	}
}

// The server of an appliance may offer less than OpenSSH's, and its shell may
// have no command that hashes.
func TestVerified(t *testing.T) {
	t.Parallel()
	plain := sshdtest.Start(t, sshdtest.Options{Config: []string{"Subsystem sftp internal-sftp -P posix-rename,statvfs,limits"}})
	conn := newHost(t, plain, plain.Device("probe")).dial(t)
	sha := device.HashCommand{Algorithm: device.HashSHA256, Command: []string{"sha256sum"}}
	md := device.HashCommand{Algorithm: device.HashMD5, Command: []string{"md5sum"}}
	for name, c := range map[string]struct {
		tools device.FilesDefinition
		want  string
		known bool
	}{
		"first that works":  {device.FilesDefinition{Hash: []device.HashCommand{{Algorithm: device.HashSHA256, Command: []string{"no-such-command"}}, sha}}, "sha256 on the device (sha256sum)", false},
		"only MD5":          {device.FilesDefinition{Hash: []device.HashCommand{md}}, "md5 on the device (md5sum)", false},
		"none":              {device.FilesDefinition{}, transfer.ReadBack, false},
		"none that works":   {device.FilesDefinition{Hash: []device.HashCommand{{Algorithm: device.HashSHA256, Command: []string{"no-such-command"}}}}, transfer.ReadBack, false},
		"one that lies":     {device.FilesDefinition{Hash: []device.HashCommand{{Algorithm: device.HashMD5, Command: []string{"echo", strings.Repeat("ab", 16)}}}}, transfer.ReadBack, false},
		"another algorithm": {device.FilesDefinition{Hash: []device.HashCommand{{Algorithm: device.HashSHA256, Command: []string{"md5sum"}}}}, transfer.ReadBack, false},
		"space by df":       {device.FilesDefinition{DF: []string{"df", "-P", "-k"}}, transfer.ReadBack, true},
	} {
		t.Run(name, func(t *testing.T) {
			source := content(t, 3<<20+5)
			target := filepath.Join(t.TempDir(), "file")
			// Something else of that size is in the way.
			if err := os.WriteFile(target, make([]byte, 3<<20+5), 0o600); err != nil {
				t.Fatal(err)
			}
			u := upload(t, source, target)
			u.Tools = c.tools
			got, err := transfer.Send(t.Context(), conn, u)
			if err != nil {
				t.Fatal(err)
			}
			if got.Verified != c.want || got.SpaceUnknown == c.known || got.Unchanged {
				t.Errorf("%+v", got)
			}
			sameFile(t, target, source)
			there, how, err := transfer.Check(t.Context(), conn, u)
			if !there || how != c.want || err != nil {
				t.Errorf("check: %v %q %v", there, how, err)
			}
			u.MD5 = md5sum(t, source)
			if again, err := transfer.Send(t.Context(), conn, u); err != nil || !again.Unchanged {
				t.Errorf("the second time: %+v, %v", again, err)
			}
		})
	}
}

// An upload of a fleetd that was killed is gone on with by another one. Length is
// not believed: what was under way may have left holes.
func TestResumeBehindWhatIsRight(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := newHost(t, srv, srv.Device("probe")).dial(t)
	const size = 8 << 20
	source := content(t, size)
	raw, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	hole := func(from, to int) []byte {
		b := bytes.Clone(raw)
		clear(b[from:to])
		return b
	}
	for name, c := range map[string]struct {
		there []byte
		sent  int64
	}{
		"a prefix":             {raw[:5<<20+3], 3<<20 - 3},
		"all of it":            {raw, 0},
		"a hole near the end":  {hole(7<<20+100, 7<<20+200)[:7<<20+500], 1<<20 - 100},
		"a hole far in front":  {hole(100, 300), size - 100},
		"nothing right":        {make([]byte, 6<<20), size},
		"longer than it is":    {append(bytes.Clone(raw), 1), size},
		"an empty file":        {nil, size},
		"a hole up to its end": {hole(6<<20, size), 2 << 20},
	} {
		for way, tools := range map[string]device.FilesDefinition{"by hash": tools(t), "by reading": {}} {
			t.Run(name+" "+way, func(t *testing.T) {
				target := filepath.Join(t.TempDir(), "file")
				u := upload(t, source, target)
				u.Tools = tools
				if err := os.WriteFile(transfer.TempName(target, u.SHA256), c.there, 0o600); err != nil {
					t.Fatal(err)
				}
				got, err := transfer.Send(t.Context(), conn, u)
				if err != nil {
					t.Fatal(err)
				}
				if got.Sent != c.sent || got.Resumed != size-c.sent {
					t.Errorf("sent %d, resumed %d, want %d and %d", got.Sent, got.Resumed, c.sent, size-c.sent)
				}
				sameFile(t, target, source)
			})
		}
	}
}

// A hundred cuts at random places cost less than two per cent.
func TestHundredCuts(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	const size, cuts = 160 << 20, 100
	source := content(t, size)
	target := filepath.Join(t.TempDir(), "file")
	u := upload(t, source, target)
	dice := rand.New(rand.NewPCG(1, 2)) // calls are under the line's lock
	done := 0
	p := newLine(t, srv.Addr, func() (int64, int64) {
		if done++; done > cuts {
			return -1, -1
		}
		const login = 8 << 10
		return login + dice.Int64N(2*size/(cuts+30)), -1
	})
	got, err := transfer.Deliver(t.Context(), newHost(t, srv, p.through(t, srv)).connect(t), u)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, cut %d times", got, p.count())
	if p.count() != cuts {
		t.Errorf("the line was cut %d times", p.count())
	}
	if got.Sent > size+size/50 {
		t.Errorf("%d bytes were sent, %.4f times the file", got.Sent, float64(got.Sent)/size)
	}
	sameFile(t, target, source)
}

// Cuts of every stage: login, the questions before and behind, and the answers.
func TestCutsAnywhere(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	const size = 1 << 20
	source := content(t, size)
	for way, tools := range map[string]device.FilesDefinition{"by hash": tools(t), "by reading": {}} {
		t.Run(way, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "file")
			u := upload(t, source, target)
			u.Tools = tools
			dice := rand.New(rand.NewPCG(3, 4))
			n := 0
			p := newLine(t, srv.Addr, func() (int64, int64) {
				if n++; n%3 == 0 {
					return -1, -1
				}
				// What is asked and answered takes a few kilobytes.
				return -1, 3000 + dice.Int64N(4000)
			})
			h := newHost(t, srv, p.through(t, srv))
			for range 4 {
				got, err := transfer.Deliver(t.Context(), h.connect(t), u)
				if err != nil {
					t.Fatal(err)
				}
				sameFile(t, target, source)
				if got.Sent > 3*size { // half a megabyte may be under way each time
					t.Errorf("%+v", got)
				}
				if err := os.Remove(target); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// changing is a source of which a part is another one when it is read again.
type changing struct {
	io.ReaderAt
	at int64
}

func (c changing) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	if off <= c.at && c.at < off+int64(n) {
		p[c.at-off]++
	}
	return n, err
}

func TestUploadRefuses(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := newHost(t, srv, srv.Device("probe")).dial(t)
	source := content(t, 1<<20)
	for name, c := range map[string]struct {
		change func(u *transfer.Upload, dir string)
		kind   fault.Kind
		want   string
	}{
		"source that changed": {func(u *transfer.Upload, _ string) { u.Source = changing{u.Source, 5000} }, fault.Conflict, "add the file again"},
		"that changed, MD5": {func(u *transfer.Upload, _ string) {
			u.Source = changing{u.Source, 5000}
			u.Tools = device.FilesDefinition{Hash: []device.HashCommand{{Algorithm: device.HashMD5, Command: []string{"md5sum"}}}}
		}, fault.Conflict, "add the file again"},
		"that changed, read back": {func(u *transfer.Upload, _ string) {
			u.Source, u.Tools = changing{u.Source, 5000}, device.FilesDefinition{}
		}, fault.Conflict, "add the file again"},
		"source that is shorter": {func(u *transfer.Upload, _ string) { u.Size += 5 }, fault.Storage, "unexpected EOF"},
		"no digest":              {func(u *transfer.Upload, _ string) { u.SHA256 = "" }, fault.Invalid, "no SHA-256"},
		"bad MD5":                {func(u *transfer.Upload, _ string) { u.MD5 = "xy" }, fault.Invalid, "no MD5"},
		"no path":                {func(u *transfer.Upload, _ string) { u.Path = "" }, fault.Invalid, "no path"},
		"a directory's path":     {func(u *transfer.Upload, dir string) { u.Path = dir + "/" }, fault.Invalid, "no path"},
		"path with a line break": {func(u *transfer.Upload, dir string) { u.Path = dir + "/a\nb" }, fault.Invalid, "no path"},
		"a directory":            {func(u *transfer.Upload, dir string) { u.Path = dir }, fault.Conflict, "is a directory"},
		"no such directory":      {func(u *transfer.Upload, dir string) { u.Path = dir + "/none/file" }, fault.NotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			u := upload(t, source, filepath.Join(dir, "file"))
			c.change(&u, dir)
			_, err := transfer.Send(t.Context(), conn, u)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (%s)", err, fault.KindOf(err))
			}
			if _, err := os.Stat(filepath.Join(dir, "file")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is a file: %v", err)
			}
			if left, err := os.ReadDir(dir); c.want == "add the file again" && (err != nil || len(left) > 0) {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}

// A cancelled upload ends at once and is gone on with.
func TestCancelUpload(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := newHost(t, srv, srv.Device("probe")).dial(t)
	source := content(t, 24<<20)
	target := filepath.Join(t.TempDir(), "file")
	u := upload(t, source, target)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	u.Progress = func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	}
	first, err := transfer.Send(ctx, conn, u)
	if !fault.Is(err, fault.Canceled) {
		t.Fatalf("%+v, %v (%s)", first, err, fault.KindOf(err))
	}
	u.Progress = nil
	second, err := transfer.Send(t.Context(), conn, u)
	if err != nil {
		t.Fatal(err)
	}
	if second.Resumed < u.Size/2 || second.Sent > u.Size/2 {
		t.Errorf("went on with %+v", second)
	}
	sameFile(t, target, source)
}
