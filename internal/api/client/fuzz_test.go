package client

import (
	"strings"
	"testing"
)

// Whatever is given as a server, ssh gets one host after its options, and the
// far side's shell one word for the socket.
func FuzzServer(f *testing.F) {
	for _, s := range []string{"/run/s", "unix:///run/s", "ssh://joe@hub:22/run/s", "ssh://-oProxyCommand=id@h", "ssh://[::1%25eth0]/a'b", "ssh://h/%0a", "ssh://a:b@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, server string) {
		at, err := parse(server)
		if err != nil {
			return
		}
		s, ok := at.(*sshServer)
		if !ok {
			return
		}
		args := s.args()
		n := len(args)
		if args[n-3] != "--" || args[n-2] != s.host || strings.HasPrefix(s.host, "-") || strings.HasPrefix(s.user, "-") {
			t.Errorf("%q gives %q", server, args)
		}
		for _, word := range []string{s.host, s.user, s.port} {
			if strings.ContainsAny(word, " \t\r\n\x00'\"`$;&|<>()\\") {
				t.Errorf("%q lets %q through", server, word)
			}
		}
		if strings.ContainsAny(args[n-1], "\x00\r\n") {
			t.Errorf("%q gives the command %q", server, args[n-1])
		}
		if rest, given := strings.CutPrefix(args[n-1], "fleetctl proxy --server "); given {
			if word := strings.ReplaceAll(rest, `'\''`, ""); strings.Count(word, "'") != 2 || word[0] != '\'' || word[len(word)-1] != '\'' {
				t.Errorf("%q gives the command %q", server, args[n-1])
			}
		}
	})
}
