package transfer

import (
	"sync"
)

// Sizes of what is under way.
const (
	smallChunk = 32 << 10 // what every SFTP server takes as one packet
	ownChunks  = 4        // small chunks that a transfer has without asking
	leastChunk = 8 << 10  // what may always be under way
	// maxUnderWay bounds one transfer. OpenSSH's window for a channel is 2 MiB; more
	// under way only waits on our side.
	maxUnderWay = 2 << 20
	// DefaultBuffers is the shared part of a Buffers that is not given a size.
	DefaultBuffers = 32 << 20
)

// Buffers is the memory that the transfers of a process share beyond the little
// that each has of its own. It is safe for concurrent use.
type Buffers struct {
	mu    sync.Mutex
	left  int64
	small sync.Pool
	large sync.Pool
}

// NewBuffers gives transfers that much memory to share, in bytes; 0 is
// DefaultBuffers.
func NewBuffers(size int64) *Buffers {
	if size <= 0 {
		size = DefaultBuffers
	}
	return &Buffers{left: size}
}

// reserve takes n bytes out of what is shared, without waiting.
func (b *Buffers) reserve(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < n {
		return false
	}
	b.left -= n
	return true
}

func (b *Buffers) unreserve(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}

// get gives a chunk of n bytes, used before or new.
func (b *Buffers) get(n int) []byte {
	if n == smallChunk {
		if p, ok := b.small.Get().(*[]byte); ok {
			return *p
		}
		return make([]byte, n)
	}
	if p, ok := b.large.Get().(*[]byte); ok && len(*p) == n {
		return *p
	}
	return make([]byte, n)
}

// put takes a chunk back that nobody uses any more.
func (b *Buffers) put(p []byte) {
	p = p[:cap(p)]
	if len(p) == smallChunk {
		b.small.Put(&p)
		return
	}
	b.large.Put(&p)
}
