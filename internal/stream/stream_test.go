package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestReaderAndWriterMeet(t *testing.T) {
	t.Parallel()
	for name, readerFirst := range map[string]bool{"reader first": true, "writer first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h Hub
			wrote := make(chan error, 1)
			write := func() {
				w, err := h.Write(t.Context(), "a")
				if err == nil {
					_, err = w.Write([]byte("hello"))
					err = errors.Join(err, w.Close())
				}
				wrote <- err
			}
			if !readerFirst {
				go write()
			}
			r, err := h.Read("a")
			if err != nil {
				t.Fatal(err)
			}
			if readerFirst {
				go write()
			}
			got, err := io.ReadAll(r)
			if string(got) != "hello" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if err := <-wrote; err != nil {
				t.Error(err)
			}
			_, _ = r.Close(), r.Close()
			if len(h.slots) != 0 {
				t.Errorf("%d streams are left", len(h.slots))
			}
		})
	}
}

func TestReaderGoes(t *testing.T) {
	t.Parallel()
	var h Hub
	r, err := h.Read("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Read("a"); !fault.Is(err, fault.Conflict) {
		t.Errorf("second reader: %v", err)
	}
	w, err := h.Write(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Write(t.Context(), "a"); !fault.Is(err, fault.Conflict) {
		t.Errorf("second writer: %v", err)
	}
	blocked := make(chan error, 1)
	go func() {
		_, err := w.Write(make([]byte, 2*maxPending)) // nobody reads this
		blocked <- err
	}()
	_ = r.Close()
	<-w.Gone()
	if err := <-blocked; !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	_ = w.Close()
	if len(h.slots) != 0 {
		t.Errorf("%d streams are left", len(h.slots))
	}
}

func TestNobodyReads(t *testing.T) {
	t.Parallel()
	var h Hub
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Write(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if len(h.slots) != 0 {
		t.Errorf("%d streams are left", len(h.slots))
	}
}

// A reader that goes before the writer comes is not waited for, and how many of
// them are remembered is bounded.
func TestReaderGoesFirst(t *testing.T) {
	t.Parallel()
	var h Hub
	for i := range 2 * maxLeft {
		r, err := h.Read(strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
	}
	if len(h.slots) != maxLeft {
		t.Errorf("%d are remembered", len(h.slots))
	}
	again, err := h.Read(strconv.Itoa(2*maxLeft - 1))
	if err != nil {
		t.Error(err)
	}
	_ = again.Close()
	w, err := h.Write(t.Context(), strconv.Itoa(2*maxLeft-1))
	if err != nil {
		t.Fatal(err)
	}
	<-w.Gone()
	if _, err := w.Write([]byte("x")); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	_ = w.Close()
}

// Whatever the pieces on both sides, what comes out is what went in.
func TestBytesComeInOrder(t *testing.T) {
	t.Parallel()
	want := make([]byte, 2*maxPending+maxPending/2)
	for i := range want {
		want[i] = byte(i*7 + i>>9)
	}
	for _, in := range []int{32 << 10, maxPending, 2 * maxPending} {
		for _, out := range []int{4<<10 + 1, 256 << 10, 2 * maxPending} {
			var h Hub
			r, err := h.Read("a")
			if err != nil {
				t.Fatal(err)
			}
			w, err := h.Write(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			wrote := make(chan error, 1)
			go func() {
				var err error
				for rest := want; len(rest) > 0 && err == nil; rest = rest[min(in, len(rest)):] {
					_, err = w.Write(rest[:min(in, len(rest))])
				}
				wrote <- errors.Join(err, w.Close())
			}()
			var got bytes.Buffer
			_, err = io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, out))
			if err = errors.Join(err, <-wrote, r.Close()); err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("in by %d and out by %d: %d bytes of %d, %v", in, out, got.Len(), len(want), err)
			}
		}
	}
}
