//go:build unix

package hotread

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"capfleet/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// pair gives the two ends of a connection of the system's.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if far, err = (&net.Dialer{}).DialContext(t.Context(), "unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// made gives a connection that has just been busy.
func made(t *testing.T) (busy, far net.Conn) {
	t.Helper()
	near, far := pair(t)
	busy = Conn(near)
	if _, err := far.Write(make([]byte, 2*much)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := io.ReadFull(busy, make([]byte, much)); err != nil {
			t.Fatal(err)
		}
	}
	if c, ok := busy.(*conn); !ok || !c.busy {
		t.Fatal("the connection is not taken for a busy one")
	}
	return busy, far
}

// Whatever the pieces on both sides, what comes out is what went in, and then the end.
func TestReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		near, far := pair(t)
		defer func() { _ = near.Close() }()
		pieces := rapid.SliceOfN(rapid.IntRange(1, 4*much), 1, 8).Draw(rt, "pieces")
		ask := rapid.SliceOfN(rapid.IntRange(1, 4*much), 1, 4).Draw(rt, "ask")
		var want []byte
		for i, n := range pieces {
			want = append(want, bytes.Repeat([]byte{byte(i)}, n)...)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			rest := want
			for _, n := range pieces {
				if _, err := far.Write(rest[:n]); err != nil {
					t.Error(err)
				}
				rest = rest[n:]
			}
			_ = far.Close()
		})
		defer wg.Wait()
		var got []byte
		busy := Conn(near)
		for i := 0; ; i++ {
			p := make([]byte, ask[i%len(ask)])
			n, err := busy.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					rt.Fatal(err)
				}
				break
			}
		}
		if !bytes.Equal(got, want) {
			rt.Fatalf("%d bytes, want %d", len(got), len(want))
		}
	})
}

// A read that waits longer than by itself still gets what comes, and its connection is
// an idle one again after a little.
func TestWaitsOnAsAnyOther(t *testing.T) {
	t.Parallel()
	busy, far := made(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		<-time.After(10 * patience * time.Millisecond)
		if _, err := far.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	p := make([]byte, much)
	n, err := busy.Read(p)
	if string(p[:n]) != "hello" || err != nil {
		t.Errorf("%q, %v", p[:n], err)
	}
	if c, ok := busy.(*conn); !ok || c.busy {
		t.Error("it is busy with five bytes")
	}
}

func TestEndsAsAnyOther(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(busy, far net.Conn) error
		want error
	}{
		"other side": {func(_, far net.Conn) error { return far.Close() }, io.EOF},
		"closed":     {func(busy, _ net.Conn) error { return busy.Close() }, net.ErrClosed},
		"deadline":   {func(busy, _ net.Conn) error { return busy.SetReadDeadline(time.Now()) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			busy, far := made(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			got := make(chan error, 1)
			go func() {
				_, err := busy.Read(make([]byte, much))
				got <- err
			}()
			if err := c.end(busy, far); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-got:
				if !errors.Is(err, c.want) {
					t.Errorf("%v", err)
				}
			case <-ctx.Done():
				t.Error("the read does not end")
			}
		})
	}
}

// What is not of the system's stays as it is.
func TestLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	if Conn(near) != near {
		t.Error("a pipe was wrapped")
	}
}
