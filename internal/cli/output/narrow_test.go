package output

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestNarrowTerminal: on a terminal that is too narrow columns that say nothing are left
// out, then texts are cut; neither on one that is wide enough nor in a pipe.
func TestNarrowTerminal(t *testing.T) {
	now := time.Date(2026, 5, 1, 6, 0, 0, 0, time.UTC)
	rows := []json.RawMessage{
		[]byte(`{"device":"lon-probe-01","name":"Main","state":"full","used_percent":100,"retention_seconds":1123200,"limit_seconds":604800,
			"crossed_at":"2026-06-01T00:00:00Z","reason":null,"forecast_retention_seconds":null}`),
		[]byte(`{"device":"lon-probe-01","name":"Overflow","state":"filling","used_percent":77,"retention_seconds":null,"full_at":"2026-05-20T00:00:00Z"}`),
		[]byte(`{"device":"lon-probe-01","name":"a name of a file system that goes on and on","state":"unknown","reason":"the device does not print its size and its use"}`),
	}
	table := func(view View, rows []json.RawMessage, screen Screen) string {
		t.Helper()
		var b bytes.Buffer
		if err := Write(&b, Table, view, rows, nil, screen); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	view := ReportView("capacity")
	narrow := table(view, rows, Screen{Terminal: true, Width: 80, Now: now})
	for line := range strings.Lines(narrow) {
		if n := len([]rune(line)) - 1; n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"2026-06-01 <7d", "2026-05-20 full", "13d 0h", "…"} {
		if !strings.Contains(narrow, want) {
			t.Errorf("no %q in\n%s", want, narrow)
		}
	}
	if strings.Contains(narrow, "FORECAST") {
		t.Errorf("a column that says nothing:\n%s", narrow)
	}
	if plain := table(view, rows, Screen{Terminal: true, Width: 80, Now: now, ASCII: true}); strings.Contains(plain, "…") || !strings.Contains(plain, "...") {
		t.Errorf("not every locale has these:\n%s", plain)
	}
	for name, screen := range map[string]Screen{"a pipe": {}, "a wide terminal": {Terminal: true, Width: 200, Now: now}} {
		if text := table(view, rows, screen); !strings.Contains(text, "FORECAST") || strings.Contains(text, "…") {
			t.Errorf("%s:\n%s", name, text)
		}
	}

	next := View{Table: []Column{{Key: "name", Head: "NAME"}, {Key: "next_at", Head: "NEXT", Kind: Age}}}
	at := []json.RawMessage{[]byte(`{"name":"a","next_at":"2026-05-01T09:30:10Z"}`), []byte(`{"name":"b","next_at":"2026-05-01T05:59:58Z"}`), []byte(`{"name":"c","next_at":"2026-05-01T06:00:00Z"}`)}
	if got, want := table(next, at, Screen{Terminal: true, Width: 80, Now: now}), "NAME  NEXT\na     in 3h 30m\nb     2s ago\nc     0s ago\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
