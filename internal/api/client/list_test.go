package client

import (
	"strings"
	"testing"
)

// A list that is cut, or that is followed by something, is an error and no list.
func TestDecodeRows(t *testing.T) {
	t.Parallel()
	const whole = `{"next":{"rows":[1]},"rows":[{"n":1},
{"n":2}],"more":[]}` + "\n"
	type row struct{ N int }
	for text, want := range map[string]int{whole: 2, `{"rows":[]}`: 0, `{}`: 0, ` { "rows" : [ {"n":3} ] } `: 1} {
		if list, err := decodeRows[row](strings.NewReader(text)); err != nil || len(list) != want || list == nil {
			t.Errorf("%s: %v, %v", text, list, err)
		}
	}
	broken := []string{"", "[]", "null", `{"rows":{}}`, `{"rows":null}`, `{"rows":[1]}`, whole + "{}", strings.Replace(whole, "},", "}", 1)}
	for n := range len(whole) - 2 {
		broken = append(broken, whole[:n])
	}
	for _, text := range broken {
		if list, err := decodeRows[row](strings.NewReader(text)); err == nil || list != nil {
			t.Errorf("%q: %v, %v", text, list, err)
		}
	}
}
