//go:build !linux

package jobs_test

import "errors"

// runOnFullDisk needs a limit on the size of files.
func runOnFullDisk(string) error { return errors.ErrUnsupported }
