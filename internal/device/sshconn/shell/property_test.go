package shell_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"capfleet/internal/device"
)

// Whatever a device prints, in whatever parts and with whatever pauses, its output
// comes back whole, and so does the next command's.
func TestAnyOutputInAnyParts(t *testing.T) {
	t.Parallel()
	piece := rapid.SampledFrom([]string{
		"lon-probe-01 # ", "lon-probe-01 #", "lon-probe-01 > ", "(maintenance) lon-probe-01 (config) # ", "lon-probe-01 # show next",
		"lon-probe-01", " # ", "\r\n", "\r\n", "\r\n", "\r\r\n", "\r", "  ", "x", "Bytes Free 3", "\x1b[1m", "\x1b[", "K", "% odd", "é", "    ",
	})
	rapid.Check(t, func(rt *rapid.T) {
		parts := rapid.SliceOfN(piece, 0, 14).Draw(rt, "output")
		// A CR at the very end would overwrite the prompt, an open sequence eat it.
		sent := strings.Join(parts, "") + "\r\n"
		var cuts []string
		for rest := sent; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "cut")
			cuts = append(cuts, rest[:n])
			rest = rest[n:]
		}
		pauses := rapid.SliceOfN(rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 3 * time.Second}), len(cuts), len(cuts)).Draw(rt, "pauses")
		synctest.Test(t, func(t *testing.T) {
			sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
				"show it": func(_ *cli, b *box) {
					for i, c := range cuts {
						b.write(c)
						if pauses[i] > 0 {
							time.Sleep(pauses[i])
						}
					}
				},
				"show next": prints("next\n"),
			}})
			want := device.CleanText([]byte(sent))
			out, err := sh.Run(t.Context(), device.Command{Line: "show it", Timeout: time.Hour})
			if err != nil && !strings.Contains(err.Error(), "the device answers") { // "% odd" is a refusal
				rt.Fatalf("%q in %q: %v", sent, cuts, err)
			}
			if out.Text != want {
				rt.Fatalf("%q in %q gave %q", sent, cuts, out.Text)
			}
			if out, err := sh.Run(t.Context(), device.Command{Line: "show next"}); err != nil || out.Text != "next\n" {
				rt.Fatalf("behind %q in %q: next gave %q, %v", sent, cuts, out.Text, err)
			}
		})
	})
}
