package transfer_test

import (
	"context"
	"errors"
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

func create(tb testing.TB, content []byte) *os.File {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "into"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(content); err != nil {
		tb.Fatal(err)
	}
	return f
}

// over uses one connection for everything.
func over(conn device.Conn) transfer.Connect {
	return func(context.Context) (device.Conn, error) { return conn, nil }
}

func TestDownload(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := newHost(t, srv, srv.Device("probe")).dial(t)
	source := content(t, 6<<20+5)
	raw, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(raw))
	md := device.FilesDefinition{Hash: []device.HashCommand{{Algorithm: device.HashMD5, Command: []string{"md5sum"}}}}
	for name, c := range map[string]struct {
		have     []byte
		tools    device.FilesDefinition
		resumed  int64
		verified string
	}{
		"nothing there":     {nil, tools(t), 0, "sha256 on the device (openssl)"},
		"only MD5":          {raw[:5<<20], md, 5 << 20, "md5 on the device (md5sum)"},
		"a part there":      {raw[:5<<20], tools(t), 5 << 20, "sha256 on the device (openssl)"},
		"all of it there":   {raw, tools(t), size, "sha256 on the device (openssl)"},
		"something else":    {make([]byte, 5<<20), tools(t), 0, "sha256 on the device (openssl)"},
		"more than it is":   {append(raw[:size:size], 1), tools(t), 0, "sha256 on the device (openssl)"},
		"not to be checked": {raw[:5<<20], device.FilesDefinition{}, 0, transfer.ByTransport},
	} {
		t.Run(name, func(t *testing.T) {
			f := create(t, c.have)
			got, err := transfer.Receive(t.Context(), over(conn), transfer.Download{Path: source, Into: f, Have: int64(len(c.have)), Tools: c.tools})
			if err != nil {
				t.Fatal(err)
			}
			if got.Size != size || got.Resumed != c.resumed || got.Received != size-c.resumed || got.Verified != c.verified || got.SHA256 != sum(t, source) {
				t.Errorf("%+v", got)
			}
			if sum(t, f.Name()) != got.SHA256 {
				t.Error("the file is another one")
			}
		})
	}
}

func TestDownloadOverCuts(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	const size = 16 << 20
	source := content(t, size)
	dice := rand.New(rand.NewPCG(5, 6))
	p := newLine(t, srv.Addr, func() (int64, int64) { return -1, 10<<10 + dice.Int64N(size/5) })
	f := create(t, nil)
	got, err := transfer.Receive(t.Context(), newHost(t, srv, p.through(t, srv)).connect(t), transfer.Download{Path: source, Into: f, Tools: tools(t)})
	if err != nil {
		t.Fatal(err)
	}
	if got.Cuts < 3 || got.Received != size || sum(t, f.Name()) != sum(t, source) {
		t.Errorf("%+v", got)
	}
}

// full is a disk without room.
type full struct{ *os.File }

var errFull = errors.New("no space left")

func (full) WriteAt([]byte, int64) (int, error) { return 0, errFull }

func TestDownloadRefuses(t *testing.T) {
	t.Parallel()
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := newHost(t, srv, srv.Device("probe")).dial(t)
	for name, c := range map[string]struct {
		change func(d *transfer.Download)
		kind   fault.Kind
		want   string
	}{
		"not there":  {func(d *transfer.Download) { d.Path += ".none" }, fault.NotFound, ""},
		"directory":  {func(d *transfer.Download) { d.Path = "/" }, "", ""}, // an OpenSSH server opens it, another refuses
		"too large":  {func(d *transfer.Download) { d.MaxSize = 1 << 20 }, fault.TooLarge, "3145728 bytes"},
		"local disk": {func(d *transfer.Download) { d.Into = full{create(t, nil)} }, fault.Storage, "no space left"},
		"no path":    {func(d *transfer.Download) { d.Path = "" }, fault.Invalid, ""},
		"changing": {func(d *transfer.Download) {
			d.Progress = func(done, _ int64) {
				if done > 1<<20 {
					f, err := os.OpenFile(d.Path, os.O_APPEND|os.O_WRONLY, 0)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = f.WriteString("more")
					_ = f.Close()
				}
			}
		}, fault.Conflict, "changed on the device"},
	} {
		t.Run(name, func(t *testing.T) {
			d := transfer.Download{Path: content(t, 3<<20), Into: create(t, nil), Tools: tools(t)}
			c.change(&d)
			_, err := transfer.Receive(t.Context(), over(conn), d)
			if err == nil || c.kind != "" && !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (%s)", err, fault.KindOf(err))
			}
		})
	}
}
