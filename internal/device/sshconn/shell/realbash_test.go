package shell_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
)

const bashDefinition = `platform: bash_box
description: bash behind OpenSSH
transport: shell
shell:
  modes:
    - name: user
      pattern: 'lon-box-01 # ?'
      examples: ['lon-box-01 # ']
    - name: deeper
      pattern: 'lon-box-01 \(deeper\) # ?'
      examples: ['lon-box-01 (deeper) # ']
      from: user
      enter: "PS1='lon-box-01 (deeper) # '"
      leave: "PS1='lon-box-01 # '"
  working_mode: user
  varying: ' \(deeper\)'
  errors: ['^bash: ']
  questions:
    - {name: sure, pattern: 'Sure\? \z', safe: 'no', 'yes': 'yes'}
  logout: exit
`

// A real line editor and a real terminal driver, neither of them written by us:
// bash, behind OpenSSH's sshd. While a command runs the terminal echoes what is
// typed by itself, and the editor shows it once more when it comes to read it.
func TestRealBash(t *testing.T) {
	t.Parallel()
	def, err := device.LoadDefinition([]byte(bashDefinition), "bash.yaml")
	if err != nil {
		t.Fatal(err)
	}
	srv := sshdtest.Start(t, sshdtest.Options{Config: []string{
		`ForceCommand env -i TERM=vt100 PATH=/usr/bin:/bin PS1='lon-box-01 # ' HISTFILE= bash --norc --noprofile -i`}})
	dialer := sshconn.NewDialer(sshconn.Options{})
	t.Cleanup(func() { _ = dialer.Close() })
	conn, err := dialer.Dial(t.Context(), srv.Device("lon-box-01"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	sh, err := conn.Shell(t.Context(), def)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, sh) })

	p := "printf 'lon-box-01 # '; "
	for _, c := range []struct{ line, want string }{
		{"echo one; echo two", "one\ntwo\n"},
		{"true", ""},
		{"printf 'no end of line'", "no end of line"},
		{p + "sleep .3; echo; echo two", "lon-box-01 # \ntwo\n"},
		{"echo one; " + p + "sleep .2; echo; " + p + "sleep .2; echo; echo two", "one\nlon-box-01 # \nlon-box-01 # \ntwo\n"},
		{"echo one; " + p + "sleep .2; echo", "one\nlon-box-01 # \n"},
		{"echo one; " + p + "echo; echo two", "one\nlon-box-01 # \ntwo\n"},
		{`for i in 1 2 3; do printf '\033[1m%s\033[0m  \n' $i; done`, "1  \n2  \n3  \n"},
		{"for i in 1 2 3 4; do " + p + "sleep .1; echo; done", strings.Repeat("lon-box-01 # \n", 4)},
		{"echo " + strings.Repeat("very long ", 100), strings.TrimSpace(strings.Repeat("very long ", 100)) + "\n"},
		{`printf 'a\tb   \n\n'`, "a\tb   \n\n"},
	} {
		out, err := sh.Run(t.Context(), device.Command{Line: c.line})
		if err != nil {
			t.Fatalf("%s: %v\n%q", c.line, err, out.Text)
		}
		if diff := cmp.Diff(c.want, out.Text); diff != "" {
			t.Errorf("%s: output (-want +got):\n%s", c.line, diff)
		}
	}
	out, err := sh.Run(t.Context(), device.Command{Line: "seq 1 200000"})
	if err != nil || len(out.Text) != 1288895 {
		t.Errorf("%d bytes, %v", len(out.Text), err)
	}
	_, err = sh.Run(t.Context(), device.Command{Line: "no-such-command"})
	wantKind(t, err, fault.Refused)
	out, err = sh.Run(t.Context(), device.Command{Line: "read -p 'Sure? ' a; echo got $a"})
	if !fault.Is(err, fault.Refused) || !strings.HasSuffix(out.Text, "got no\n") {
		t.Errorf("output %q, %v", out.Text, err)
	}
	out = run(t, sh, device.Command{Line: "read -p 'Sure? ' a; echo got $a", Answers: map[string]string{"sure": "yes"}})
	if !strings.HasSuffix(out.Text, "got yes\n") {
		t.Errorf("output %q", out.Text)
	}
	for range 3 {
		for _, mode := range []string{"deeper", "user"} {
			out := run(t, sh, device.Command{Line: "echo $PS1", Mode: mode})
			if got := strings.TrimSpace(out.Text); got != out.Prompt {
				t.Errorf("mode %s: PS1 is %q, prompt %q", mode, got, out.Prompt)
			}
		}
	}
}
