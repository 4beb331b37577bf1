package xff

import "golang.org/x/sys/cpu"

// hasVectors tells whether scanLines can be called.
func hasVectors() bool { return cpu.X86.HasAVX2 }

// scanLines gives the first place of the first limit ones, a multiple of vector, where
// a line ends and the next byte is, in either case, one of the letters; limit when there
// is none. It reads limit+1 bytes.
//
// Letters has for each lower half of a letter's code the letter in lower case or 0: at
// first those from a to o, then those from p on.
//
//go:noescape
func scanLines(b *byte, limit int, letters *[2 * 16]byte) int
