package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"capfleet/internal/leaktest"
	"capfleet/internal/secret"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestAStringNeverShowsItself(t *testing.T) {
	t.Parallel()
	const value = "hunter2-very-secret"
	s := secret.New(value)
	holder := struct {
		Password secret.String `json:"password"`
		inner    secret.String
	}{s, s}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", holder)
		fmt.Fprintf(&out, verb+"\n", &holder)
	}
	fmt.Fprintln(&out, fmt.Errorf("login with %v", s))
	js, err := json.Marshal(map[string]any{"a": s, "b": holder})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(js)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "password", s, "holder", holder)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "password", s, "holder", holder)

	for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value), value[:7]} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the value shows as %q in\n%s", form, out.String())
		}
	}
	if s.Reveal() != value {
		t.Error("Reveal must give the value")
	}
}
