package secret

// Waiting is how many wait for a reading that is under way.
func (r *Resolver) Waiting(ref Ref) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if read := r.reads[ref]; read != nil {
		return read.waiting
	}
	return 0
}
