package secret

import (
	"context"
	"errors"
	"sync"
	"time"
)

// hold is how long a Resolver keeps what a command or an age file gave, from when
// it was given.
//
// Sixty-four devices logged in to at a time are waves, not one crowd: sharing
// only what is under way would still start a program thousands of times for ten
// thousand devices, and a vault limits its callers. Ten seconds make that six
// times a minute however large the fleet is, and a renewed secret is in use ten
// seconds later. A failure is held as long, so that a program that hangs costs a
// job its time once and not once a wave.
const hold = 10 * time.Second

// Resolver reads secrets for many at once. What is cheap to read (env, file,
// credential) it reads each time; a command or an age file that several want is
// read once, and held for ten seconds. The zero Resolver works. It is safe for
// concurrent use.
type Resolver struct {
	mu     sync.Mutex
	reads  map[Ref]*reading
	closed bool
	wg     sync.WaitGroup
}

// reading is one reading of a secret, under way or held.
type reading struct {
	done   chan struct{} // closed when value and err are set
	value  String
	err    error
	cancel context.CancelFunc

	// Under Resolver.mu.
	waiting int
	drop    *time.Timer // nil while it is under way
}

// Resolve is Ref.Resolve, shared. It returns as soon as ctx ends; the reading
// goes on while somebody else waits for it.
func (r *Resolver) Resolve(ctx context.Context, ref Ref) (String, error) {
	if ref.Age == (Age{}) && ref.Command == "" {
		return ref.Resolve(ctx)
	}
	if ctx.Err() != nil {
		return String{}, context.Cause(ctx)
	}
	read, err := r.join(ref)
	if err != nil {
		return String{}, err
	}
	defer r.leave(ref, read)
	select {
	case <-read.done:
		return read.value, read.err
	case <-ctx.Done():
		return String{}, context.Cause(ctx)
	}
}

// join finds or starts a reading and counts the caller in.
func (r *Resolver) join(ref Ref) (*reading, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("secrets are not read any more: the program is ending")
	}
	if read := r.reads[ref]; read != nil {
		read.waiting++
		return read, nil
	}
	// Whoever comes first may leave first: the reading belongs to all who wait.
	ctx, cancel := context.WithCancel(context.Background())
	read := &reading{done: make(chan struct{}), cancel: cancel, waiting: 1}
	if r.reads == nil {
		r.reads = map[Ref]*reading{}
	}
	r.reads[ref] = read
	r.wg.Go(func() {
		defer cancel()
		read.value, read.err = ref.Resolve(ctx)
		close(read.done)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.reads[ref] == read {
			read.drop = time.AfterFunc(hold, func() { r.forget(ref, read) })
		}
	})
	return read, nil
}

// leave counts the caller out. A reading that nobody waits for is given up.
func (r *Resolver) leave(ref Ref, read *reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	read.waiting--
	if read.waiting > 0 || read.drop != nil {
		return
	}
	select {
	case <-read.done: // to be held
	default:
		read.cancel()
		if r.reads[ref] == read {
			delete(r.reads, ref)
		}
	}
}

func (r *Resolver) forget(ref Ref, read *reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reads[ref] == read {
		delete(r.reads, ref)
	}
}

// Close forgets what is held, ends what is under way and waits for it.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	for ref, read := range r.reads {
		read.cancel()
		if read.drop != nil {
			read.drop.Stop()
		}
		delete(r.reads, ref)
	}
	r.mu.Unlock()
	r.wg.Wait()
}
