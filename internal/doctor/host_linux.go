package doctor

import "golang.org/x/sys/unix"

// HostSpace gives what is free for this process where dir is.
func HostSpace(dir string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Space{}, err
	}
	block := uint64(max(st.Bsize, 0))
	return Space{Free: st.Bavail * block, Total: st.Blocks * block}, nil
}

// HostSynchronized asks the kernel whether its clock is kept right.
func HostSynchronized() (yes, known bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, false
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, true
}
