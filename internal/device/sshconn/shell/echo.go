package shell

import "bytes"

type echoState int

const (
	echoPartial echoState = iota // so far it fits; more is to come
	echoWhole                    // the line was echoed
	echoOther                    // something else came first
)

// matchEcho looks for the echo of a line typed at a prompt at the start of what
// came back and gives the offset behind it. White space does not count, since a
// device may break a line. Where that does not fit, the line is drawn as the
// terminal of the given width would show it: line editors overwrite what they
// have written, with backspaces, or with CR and the prompt, or to force a line of
// the screen to end.
func matchEcho(got []byte, line, prompt string, width int) (int, echoState) {
	// Nothing but white space may go on for ever.
	if most := 4*(len(line)+len(prompt)) + maxPrompt; len(got) > most {
		if n, state := matchEcho(got[:most], line, prompt, width); state != echoPartial {
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
			return matchDrawn(got, line, prompt, width)
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
			return matchDrawn(got, line, prompt, width)
		}
	}
	return 0, echoPartial
}

func matchDrawn(got []byte, line, prompt string, width int) (int, echoState) {
	end := bytes.IndexByte(got, '\n')
	if end < 0 {
		return 0, echoPartial
	}
	if bytes.Equal(squeeze(draw(prompt, got[:end], width)), squeeze([]byte(prompt+line))) {
		return end + 1, echoWhole
	}
	return 0, echoOther
}

// draw gives what a terminal shows after a prompt and what was written behind it,
// its lines joined. Behind the last column it wraps when the next character
// comes. A width of 0 is endless.
func draw(prompt string, written []byte, width int) []byte {
	cells := []byte(prompt)
	at := len(cells)
	for _, x := range written {
		switch x {
		case '\r':
			if width == 0 {
				at = 0
			} else {
				at = max(at-1, 0) / width * width
			}
		case '\b':
			at = max(at-1, 0)
		default:
			if at < len(cells) {
				cells[at] = x
			} else {
				cells = append(cells, x)
			}
			at++
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
