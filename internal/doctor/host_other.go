//go:build !linux

package doctor

import "errors"

// HostSpace is not told on this system.
func HostSpace(string) (Space, error) { return Space{}, errors.ErrUnsupported }

// HostSynchronized is not told on this system.
func HostSynchronized() (yes, known bool) { return false, false }
