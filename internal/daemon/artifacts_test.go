package daemon

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// An upload ends where the reserve begins, not where the disk ends.
func TestUploadLeavesTheReserve(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	for name, tc := range map[string]struct {
		size, room, want int // bytes; there is room for the first so many questions
		err              error
	}{
		"fits":             {size: 3 * roomEvery / 2, room: 2, want: 3 * roomEvery / 2},
		"empty":            {room: 1},
		"none from start":  {size: 10, err: full},
		"none after a bit": {size: 3 * roomEvery, room: 2, want: 2 * roomEvery, err: full},
	} {
		asked := 0
		r := &roomy{from: strings.NewReader(strings.Repeat("x", tc.size)), room: func() error {
			if asked++; asked > tc.room {
				return full
			}
			return nil
		}}
		n, err := io.Copy(io.Discard, r)
		if int(n) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
}
