package parse

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// peer is Python's TextFSM in a process of its own. It is Debian's: the package
// python3-textfsm installs it for /usr/bin/python3.
type peer struct {
	in  io.WriteCloser
	out *bufio.Reader
}

type peerRequest struct {
	Template string   `json:"template"`
	Inputs   []string `json:"inputs,omitempty"`
	File     string   `json:"file,omitempty"`
}

type peerAnswer struct {
	Error   string   `json:"error"` // the template was refused
	Header  []string `json:"header"`
	Results []struct {
		Rows  [][]any `json:"rows"`
		Error string  `json:"error"`
	} `json:"results"`
	Rows    int     `json:"rows"`
	Seconds float64 `json:"seconds"`
}

func startPeer(tb testing.TB) *peer {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "/usr/bin/python3", "testdata/peer.py")
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start Python TextFSM (Debian package python3-textfsm): %v", err)
	}
	tb.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && tb.Context().Err() == nil {
			tb.Errorf("Python TextFSM (Debian package python3-textfsm): %v\n%s", err, stderr)
		}
	})
	return &peer{in: in, out: bufio.NewReaderSize(out, 1<<20)}
}

// Helper of rapid's T and testing's.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (p *peer) ask(tb failer, request peerRequest) peerAnswer {
	tb.Helper()
	line, err := json.Marshal(request)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		tb.Fatalf("ask Python TextFSM: %v", err)
	}
	reply, err := p.out.ReadBytes('\n')
	if err != nil {
		tb.Fatalf("hear from Python TextFSM: %v", err)
	}
	var answer peerAnswer
	if err := json.Unmarshal(reply, &answer); err != nil {
		tb.Fatalf("understand Python TextFSM: %v", err)
	}
	return answer
}
