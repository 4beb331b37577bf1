package ledger

// For tests of what happens between two system calls, and on a full disk.

func WithCompactAbove(bytes int64) func(*Options) {
	return func(o *Options) { o.compactAbove = bytes }
}

func WithFree(free func(dir string) (uint64, bool, error)) func(*Options) {
	return func(o *Options) { o.free = free }
}

func At(reach func(point string)) func(*Options) {
	return func(o *Options) { o.at = reach }
}
