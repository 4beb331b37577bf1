package transfer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// TestFlow: whatever fails where, done is told of a whole prefix in order, no
// memory stays reserved, and no more is under way than is allowed.
func TestFlow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, 2<<20).Draw(t, "size")
		from := rapid.Int64Range(0, size).Draw(t, "from")
		large := rapid.SampledFrom([]int{smallChunk, 255 << 10}).Draw(t, "large")
		allowed := rapid.Int64Range(1, maxUnderWay).Draw(t, "allowed")
		shared := rapid.Int64Range(0, 1<<20).Draw(t, "shared")
		failAt := rapid.Int64Range(0, 4<<20).Draw(t, "failAt")
		where := rapid.SampledFrom([]string{"fill", "move", "done", "none"}).Draw(t, "where")
		seed := rapid.Uint64().Draw(t, "seed")

		errHere := errors.New("here")
		fails := func(at string, p []byte, off int64) error {
			if at == where && off <= failAt && failAt < off+int64(len(p)) {
				return errHere
			}
			return nil
		}
		b := &Buffers{left: shared}
		var moving atomic.Int64
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(seed, 1))
		due := from
		f := flow{buffers: b, large: large, allowed: func() int64 { return allowed },
			fill: func(p []byte, off int64) error { return fails("fill", p, off) },
			move: func(p []byte, off int64) error {
				if n := moving.Add(int64(len(p))); n > max(allowed, smallChunk) {
					t.Errorf("%d bytes under way, %d are allowed", n, allowed)
				}
				mu.Lock()
				spins := dice.IntN(50)
				mu.Unlock()
				for range spins {
					mu.Lock()
					mu.Unlock() //nolint:staticcheck // lets others go first
				}
				moving.Add(-int64(len(p)))
				return fails("move", p, off)
			},
			done: func(p []byte, off int64) error {
				if off != due {
					t.Fatalf("told of %d, %d is due", off, due)
				}
				if err := fails("done", p, off); err != nil {
					return err
				}
				due += int64(len(p))
				return nil
			}}
		err := f.run(context.Background(), from, size)
		wantErr := where != "none" && failAt >= from && failAt < size
		if (err != nil) != wantErr || err == nil && due != size || wantErr && due > failAt {
			t.Fatalf("got %v, told up to %d of %d", err, due, size)
		}
		if b.left != shared || f.underWay != 0 || f.taken != 0 {
			t.Errorf("%d of %d left, %d under way, %d taken", b.left, shared, f.underWay, f.taken)
		}
	})
}

func TestFlowEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("because")
	f := flow{buffers: NewBuffers(0), large: smallChunk, allowed: func() int64 { return maxUnderWay },
		move: func([]byte, int64) error { cancel(because); return nil },
		done: func([]byte, int64) error { return nil }}
	if err := f.run(ctx, 0, 100<<20); !errors.Is(err, because) {
		t.Errorf("got %v", err)
	}
}

// TestMemoryOfMany: two hundred uploads that all hang hold no more than what each
// has of its own and what they share.
func TestMemoryOfMany(t *testing.T) {
	t.Parallel()
	const uploads, shared = 200, 8 << 20
	b := NewBuffers(shared)
	var held atomic.Int64
	release := make(chan struct{})
	full := make(chan struct{}, uploads)
	var all sync.WaitGroup
	for range uploads {
		all.Go(func() {
			own := int64(0)
			var mu sync.Mutex
			f := flow{buffers: b, large: 255 << 10, allowed: func() int64 { return maxUnderWay },
				move: func(p []byte, _ int64) error {
					held.Add(int64(cap(p)))
					mu.Lock()
					own += int64(cap(p))
					if own >= ownChunks*smallChunk && own-int64(cap(p)) < ownChunks*smallChunk {
						full <- struct{}{}
					}
					mu.Unlock()
					<-release
					return nil
				},
				done: func([]byte, int64) error { return nil }}
			if err := f.run(t.Context(), 0, 3<<20); err != nil {
				t.Error(err)
			}
		})
	}
	for range uploads {
		<-full // each has its own, whatever the others hold
	}
	if n := held.Load(); n > uploads*ownChunks*smallChunk+shared {
		t.Errorf("%d bytes are held", n)
	}
	close(release)
	all.Wait()
}

// TestAccount: however often and wherever it is cut, and however much of what was
// under way is lost, less than two per cent is.
func TestAccount(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(160<<20, 2<<30).Draw(t, "size")
		a := account{size: size}
		lost := int64(0)
		for range 100 {
			a.arrived = min(size, a.arrived+rapid.Int64Range(0, size/50).Draw(t, "arrived"))
			n := min(a.allowed(), rapid.Int64Range(0, maxUnderWay).Draw(t, "under way"))
			lost += n
			a.cut(n)
		}
		if lost > size/50 {
			t.Fatalf("%d of %d bytes were sent twice", lost, size)
		}
	})
}
