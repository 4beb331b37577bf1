//go:build !amd64

package xff

func hasVectors() bool { return false }

// scanLines is not called where there are no vectors.
func scanLines(_ *byte, limit int, _ *[2 * 16]byte) int { return limit }
