//go:build !unix

package cli

import "os"

// watchReader does nothing here: that the reader has gone shows in the next write.
func watchReader(*os.File, func()) (stop func()) { return func() {} }
