package shell

import "bytes"

type echoState int

const (
	echoPartial echoState = iota // so far it fits; more is to come
	echoWhole                    // the line was echoed
	echoOther                    // something else came first
)

// matchEcho looks for the echo of a typed line at the start of what came back
// and gives the offset behind it. White space does not count, since a terminal
// that is too narrow breaks the line. An editor that draws its line again (with
// backspaces, or CR and the prompt) is followed by drawing the line as well.
func matchEcho(got []byte, line, prompt string) (int, echoState) {
	// Nothing but white space may go on for ever.
	if most := 4*(len(line)+len(prompt)) + maxPrompt; len(got) > most {
		if n, state := matchEcho(got[:most], line, prompt); state != echoPartial {
			return n, state
		}
		return 0, echoOther
	}
	want := squeeze([]byte(line))
	i := 0
	for ; len(want) > 0 && i < len(got); i++ {
		switch {
		case isSpace(got[i]):
		case got[i] == want[0]:
			want = want[1:]
		default:
			return matchDrawn(got, line, prompt)
		}
	}
	if len(want) > 0 {
		return 0, echoPartial
	}
	for ; i < len(got); i++ {
		switch {
		case got[i] == '\n':
			return i + 1, echoWhole
		case !isSpace(got[i]):
			return matchDrawn(got, line, prompt)
		}
	}
	return 0, echoPartial
}

func matchDrawn(got []byte, line, prompt string) (int, echoState) {
	end := bytes.IndexByte(got, '\n')
	if end < 0 {
		return 0, echoPartial
	}
	drawn := squeeze(draw(got[:end]))
	want := squeeze([]byte(line))
	if bytes.Equal(drawn, want) || bytes.Equal(drawn, append(squeeze([]byte(prompt)), want...)) {
		return end + 1, echoWhole
	}
	return 0, echoOther
}

// draw gives one line as it would stand on a screen.
func draw(b []byte) []byte {
	var cells []byte
	col := 0
	for _, x := range b {
		switch x {
		case '\r':
			col = 0
		case '\b':
			col = max(col-1, 0)
		default:
			if col < len(cells) {
				cells[col] = x
			} else {
				cells = append(cells, x)
			}
			col++
		}
	}
	return cells
}

func squeeze(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, x := range b {
		if !isSpace(x) {
			out = append(out, x)
		}
	}
	return out
}

func isSpace(x byte) bool { return x == ' ' || x == '\t' || x == '\r' || x == '\n' }
