package sim_test

import (
	"testing"

	"capfleet/internal/sim"
)

// A script without a terminal outlives its connection, as it does under sshd: what it
// reads comes to its end, and it can tidy up.
func TestScriptOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	f := startFleet(t, sim.Options{Devices: 12})
	c := login(t, f, "lon-cap-01")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(`sh -c 'echo ready; while read -r line; do :; done; echo "$2" > /tmp/after' name one two`); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("a line\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	c = login(t, f, "lon-cap-01")
	eventually(t, "what the script does last", func() bool {
		text, _, _ := execute(t, c, "cat /tmp/after")
		return text == "two\n"
	})
}
