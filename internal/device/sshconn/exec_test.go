package sshconn_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
)

func TestExecInputAndOutput(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	t.Run("arguments arrive as they are", func(t *testing.T) {
		args := []string{"", " ", "$HOME", "`id`", "$(reboot)", "a'b", `"`, "*", "~", "a\nb", "\\", "-n", "é", ";", "!x", "#"}
		res, err := conn.Exec(t.Context(), device.ExecRequest{Args: append([]string{"printf", `%s\0`}, args...)})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSuffix(string(res.Stdout), "\x00"), "\x00"); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", args) {
			t.Errorf("got %q\nwant %q", got, args)
		}
	})
	t.Run("a raw line is the shell's", func(t *testing.T) {
		res, err := conn.Exec(t.Context(), device.ExecRequest{Raw: "echo $((6*7)) | tr 4 5"})
		if err != nil || string(res.Stdout) != "52\n" {
			t.Errorf("%q, %v", res.Stdout, err)
		}
	})
	t.Run("binary through standard input", func(t *testing.T) {
		data := bytes.Repeat([]byte("\x00\r\n\x1b\xff\x04\x03 abc"), 200_000)
		sum := sha256.New()
		res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"cat"}, Stdin: bytes.NewReader(data), Stdout: sum})
		if err != nil {
			t.Fatal(err)
		}
		if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
			t.Error("the bytes came back changed")
		}
		if res.Stdout != nil {
			t.Error("streamed output was kept as well")
		}
	})
	t.Run("input that the command does not read", func(t *testing.T) {
		res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"false"}, Stdin: bytes.NewReader(make([]byte, 8<<20))})
		if err != nil || res.Status != 1 {
			t.Errorf("status %d, %v", res.Status, err)
		}
	})
	t.Run("ended by a signal", func(t *testing.T) {
		res, err := conn.Exec(t.Context(), device.ExecRequest{Raw: "echo before; kill -KILL $$"})
		wantFault(t, err, fault.Refused, "command", "ended by signal KILL")
		if res.Status != 137 || string(res.Stdout) != "before\n" {
			t.Errorf("status %d, stdout %q", res.Status, res.Stdout)
		}
	})
	t.Run("a command that is not there", func(t *testing.T) {
		res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"/nonexistent"}})
		if err != nil || res.Status != 127 {
			t.Errorf("status %d, %v", res.Status, err)
		}
	})
	for name, req := range map[string]device.ExecRequest{
		"nothing":     {},
		"both":        {Args: []string{"a"}, Raw: "b"},
		"NUL":         {Args: []string{"echo", "a\x00b"}},
		"NUL in line": {Raw: "echo \x00"},
	} {
		t.Run("refused beforehand: "+name, func(t *testing.T) {
			_, err := conn.Exec(t.Context(), req)
			wantFault(t, err, fault.Invalid, "command")
		})
	}
}

// talker prints its process number and goes on printing. OpenSSH does not pass
// signals on to root's commands: there the closed pipes have to end it.
const talker = "echo $$; while echo tick; do sleep 0.05; done"

func TestExecCancelEndsTheCommandOnly(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	pid := &firstWrite{seen: make(chan struct{})}
	_, err := conn.Exec(cancelOn(t, pid.seen), device.ExecRequest{Raw: talker, Stdout: pid})
	wantFault(t, err, fault.Canceled, "command", "run echo $$; while", "on probe")

	res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"echo", "still here"}})
	if err != nil || string(res.Stdout) != "still here\n" {
		t.Fatalf("the connection is not usable: %q, %v", res.Stdout, err)
	}
	wantGone(t, pid.String())
}

// wantGone waits for the talker that printed text to be gone.
func wantGone(tb testing.TB, text string) {
	tb.Helper()
	process, _, _ := strings.Cut(text, "\n")
	if _, err := strconv.Atoi(process); err != nil {
		tb.Fatalf("no process number: %q", text)
	}
	eventually(tb, "the command ends", func() bool {
		_, err := os.Stat("/proc/" + process)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestExecTimeoutTellsTheCommandToEnd(t *testing.T) {
	srv := newServer(t)
	signals := make(chan string, 1)
	srv.session = func(s *serverSession) {
		_, _ = s.Write([]byte("partial"))
		for r := range s.requests {
			if r.Type == "signal" {
				var msg struct{ Name string }
				_ = ssh.Unmarshal(r.Payload, &msg)
				signals <- msg.Name
			}
		}
	}
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
	res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"tcpdump"}, Timeout: 200 * time.Millisecond})
	wantFault(t, err, fault.Timeout, "command", "no answer within 200ms (the command's timeout)", "told to end")
	if string(res.Stdout) != "partial" {
		t.Errorf("stdout %q", res.Stdout)
	}
	if got := <-signals; got != "TERM" {
		t.Errorf("signal %q", got)
	}
}

// firstWrite is a buffer that tells of its first write.
type firstWrite struct {
	bytes.Buffer
	seen chan struct{}
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.Len() == 0 {
		defer close(w.seen)
	}
	return w.Buffer.Write(p)
}

// eventually polls for something that another process does.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Errorf("%s: not within 5 s", what)
			return
		}
	}
}

func TestExecCancelIsQuick(t *testing.T) {
	hang := newServer(t)
	hang.session = func(s *serverSession) {
		_, _ = s.Write([]byte("started"))
		// It ignores signals and does not answer a close.
		_, _ = io.Copy(io.Discard, s)
		<-t.Context().Done()
	}
	conn := dial(t, newDialer(t, sshconn.Options{}), hang.start(t).device(t, "probe"))
	for name, req := range map[string]device.ExecRequest{
		"silent command": {Args: []string{"x"}},
		"blocked stdin":  {Args: []string{"x"}, Stdin: blockedReader{t}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		started := &firstWrite{seen: make(chan struct{})}
		req.Stdout = started
		result := make(chan error, 1)
		go func() {
			_, err := conn.Exec(ctx, req)
			result <- err
		}()
		<-started.seen
		cancel()
		soon(t, 100*time.Millisecond, "cancelling a "+name, func() { wantFault(t, <-result, fault.Canceled, "command") })
	}
}

// blockedReader blocks until the test is over.
type blockedReader struct{ t testing.TB }

func (r blockedReader) Read([]byte) (int, error) {
	<-r.t.Context().Done()
	return 0, io.EOF
}

// stuckWriter blocks in its first Write.
type stuckWriter struct {
	entered, release chan struct{}
	after            int // writes after release
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	select {
	case <-w.release:
		w.after++
	default:
		close(w.entered)
		<-w.release
	}
	return len(p), nil
}

func TestStalledReaderHoldsNobodyElse(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	writer := &stuckWriter{entered: make(chan struct{}), release: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, device.ExecRequest{Args: []string{"cat", "/dev/zero"}, Stdout: writer, Timeout: -1})
		result <- err
	}()
	<-writer.entered
	for range 3 {
		res, err := conn.Exec(t.Context(), device.ExecRequest{Raw: "head -c 8000000 /dev/zero | wc -c"})
		if err != nil || strings.TrimSpace(string(res.Stdout)) != "8000000" {
			t.Fatalf("%q, %v", res.Stdout, err)
		}
	}
	cancel()
	// The caller's own Writer is stuck; Exec leaves it behind.
	soon(t, 150*time.Millisecond, "cancelling with a stuck Writer", func() { wantFault(t, <-result, fault.Canceled, "command") })
	close(writer.release)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if writer.after > 0 {
		t.Errorf("%d writes after Exec returned", writer.after)
	}
}

func TestExecOutputIsCapped(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	for _, stream := range []string{"", " >&2"} {
		res, err := conn.Exec(t.Context(), device.ExecRequest{Raw: "cat /dev/zero" + stream, MaxBytes: 100_000, Timeout: -1})
		wantFault(t, err, fault.TooLarge, "command", "larger than 100000 bytes")
		if got := len(res.Stdout) + len(res.Stderr); got != 100_000 {
			t.Errorf("kept %d bytes", got)
		}
	}
	res, err := conn.Exec(t.Context(), device.ExecRequest{Raw: "head -c 100000 /dev/zero", MaxBytes: 100_000})
	if err != nil || len(res.Stdout) != 100_000 {
		t.Errorf("just at the cap: %d bytes, %v", len(res.Stdout), err)
	}
}

func TestExecWithoutProofOfCompleteness(t *testing.T) {
	t.Run("no exit status", func(t *testing.T) {
		srv := newServer(t)
		srv.session = func(s *serverSession) { _, _ = s.Write([]byte("half of it")) }
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"df"}})
		wantFault(t, err, fault.Refused, "command", "without an exit status")
		if string(res.Stdout) != "half of it" {
			t.Errorf("stdout %q", res.Stdout)
		}
	})
	t.Run("the connection is cut", func(t *testing.T) {
		srv := newServer(t)
		half := &firstWrite{seen: make(chan struct{})}
		srv.session = func(s *serverSession) {
			_, _ = s.Write([]byte("half of it"))
			<-half.seen
			_ = s.wire.Close()
		}
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"df"}, Stdout: half})
		wantFault(t, err, fault.Disconnected, "command", "run df on probe")
		_, err = conn.Exec(t.Context(), device.ExecRequest{Args: []string{"df"}})
		wantFault(t, err, fault.Disconnected, "session")
		_, err = conn.Files(t.Context())
		wantFault(t, err, fault.Disconnected, "session")
		_, err = conn.Shell(t.Context(), linuxDefinition(t))
		wantFault(t, err, fault.Disconnected, "session")
	})
	t.Run("a status and no close", func(t *testing.T) {
		srv := newServer(t)
		srv.session = func(s *serverSession) {
			_, _ = s.Write([]byte("all of it"))
			_, _ = s.SendRequest("exit-status", false, ssh.Marshal(struct{ S uint32 }{0}))
			_ = s.CloseWrite()
			_, _ = io.Copy(io.Discard, s)
		}
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"df"}})
		if err != nil || string(res.Stdout) != "all of it" {
			t.Errorf("%q, %v", res.Stdout, err)
		}
	})
	t.Run("dripping is not the end", func(t *testing.T) {
		srv := newServer(t)
		const text = "Filesystem 1024-blocks\n"
		srv.session = func(s *serverSession) {
			for i := range len(text) {
				_, _ = s.Write([]byte(text[i : i+1]))
			}
			s.exit(0)
		}
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		res, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"df"}})
		if err != nil || string(res.Stdout) != text {
			t.Errorf("%q, %v", res.Stdout, err)
		}
	})
	t.Run("exec is not offered", func(t *testing.T) {
		srv := newServer(t)
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		_, err := conn.Exec(t.Context(), device.ExecRequest{Args: []string{"df"}})
		wantFault(t, err, fault.Refused, "session", `refused the request "exec"`)
	})
}

func TestExecAgainstOpenSSHClient(t *testing.T) {
	// The same line through our client and through OpenSSH's gives the same bytes.
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	line := sshconn.Quote([]string{"printf", `%s|%s\n`, "it's", "$HOME `x` \\ \"y\""})
	theirs, err := exec.Command("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile="+srv.KnownHosts,
		"-i", srv.ClientKey, "-p", strconv.Itoa(srv.Port), srv.User+"@"+srv.Host, line).Output()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := conn.Exec(t.Context(), device.ExecRequest{Raw: line})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours.Stdout, theirs) {
		t.Errorf("ours %q, ssh's %q", ours.Stdout, theirs)
	}
}
