package xff

import (
	"math/rand/v2"
	"testing"
)

// Lines are found alike with vectors and without, wherever they begin and whatever
// stands around them.
func TestNextAgreesWithoutVectors(t *testing.T) {
	t.Parallel()
	for _, headers := range [][]string{Headers(), {"A", "O", "P", "Z", "q", "Hy"}, {"x"}} {
		fast, plain := newNames(headers), newNames(headers)
		plain.vectors = false
		random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // the same bytes each time are wanted
		for range 3000 {
			b := make([]byte, random.IntN(200))
			for i := range b {
				if b[i] = byte(random.Uint32()); random.IntN(4) == 0 {
					b[i] = '\n'
				}
			}
			for from := 0; from >= 0; {
				want := plain.next(b, from)
				if got := fast.next(b, from); got != want {
					t.Fatalf("%v in %q from %d: %d, want %d", headers, b, from, got, want)
				}
				from = want
			}
		}
		// Each letter alone, at each place.
		for letter := range 256 {
			for at := range 70 {
				b := make([]byte, 72)
				b[at], b[at+1] = '\n', byte(letter)
				if got, want := fast.next(b, 0), plain.next(b, 0); got != want {
					t.Fatalf("%v: %#x at %d: %d, want %d", headers, letter, at, got, want)
				}
			}
		}
	}
}
