//go:build !linux

package replay

import "errors"

// Frames is for Linux alone.
func Frames(string) (Sender, error) {
	return nil, errors.New("frames are sent on Linux only; UDP payloads are sent from everywhere")
}
