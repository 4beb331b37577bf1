package stream

import (
	"bytes"
	"context"
	"errors"
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
			var got bytes.Buffer
			if n, err := r.WriteTo(&got); got.String() != "hello" || n != 5 || err != nil {
				t.Errorf("%q, %d, %v", got.String(), n, err)
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
		_, err := w.Write(make([]byte, 1000)) // nobody reads this
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

// failing takes so many bytes.
type failing struct {
	room int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	n := min(f.room, len(p))
	if f.room -= n; n < len(p) {
		return n, f.err
	}
	return n, nil
}

// A place that cannot be written to ends the stream: its error is the reader's, and
// the writer hears that nobody reads.
func TestPlaceFails(t *testing.T) {
	t.Parallel()
	var h Hub
	r, err := h.Read("a")
	if err != nil {
		t.Fatal(err)
	}
	w, err := h.Write(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	type end struct {
		n   int64
		err error
	}
	took := make(chan end, 1)
	full := errors.New("full")
	go func() {
		n, err := r.WriteTo(&failing{room: 8, err: full})
		took <- end{n, err}
	}()
	if n, err := w.Write([]byte("12345")); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for range 2 {
		if _, err := w.Write([]byte("12345")); !errors.Is(err, ErrGone) {
			t.Errorf("%v", err)
		}
	}
	if got := <-took; got.n != 8 || !errors.Is(got.err, full) {
		t.Errorf("%+v", got)
	}
	_ = w.Close()
	_ = r.Close()
}

// stuck is a place where a write hangs until it is let go.
type stuck struct{ begun, free chan struct{} }

func (s *stuck) Write(p []byte) (int, error) {
	close(s.begun)
	<-s.free
	return len(p), nil
}

// The place is the reader's again only when nothing writes to it any more.
func TestReaderWaitsForTheWriteUnderWay(t *testing.T) {
	t.Parallel()
	var h Hub
	r, err := h.Read("a")
	if err != nil {
		t.Fatal(err)
	}
	w, err := h.Write(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	place := &stuck{begun: make(chan struct{}), free: make(chan struct{})}
	took := make(chan int64, 1)
	go func() {
		n, _ := r.WriteTo(place)
		took <- n
	}()
	wrote := make(chan error, 1)
	go func() {
		_, err := w.Write([]byte("hello"))
		wrote <- err
	}()
	<-place.begun
	_, _ = r.Close(), w.Close()
	<-w.Gone()
	select {
	case <-took:
		t.Error("WriteTo returns while a write is under way")
	default:
	}
	close(place.free)
	if n := <-took; n != 5 {
		t.Errorf("%d bytes", n)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
}
