package replay_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/replay"
)

// Frames arrive at the other end of a wire byte for byte: tcpdump, in a network
// namespace of the test's own, captures what was in the capture.
func TestFrames(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	dir := t.TempDir()
	go func() {
		// The namespace is the thread's, and goes with it: it is never unlocked.
		runtime.LockOSThread()
		failed <- replayOverWire(t, dir)
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	var want, got [][]byte
	read := func(r *pcap.Reader, keep func(*pcap.Packet) bool) (all [][]byte) {
		for {
			var p pcap.Packet
			if r.Next(&p) != nil {
				return all
			}
			if keep(&p) {
				all = append(all, bytes.Clone(p.Data))
			}
		}
	}
	want = read(capture(t, 0, 0, 0), func(p *pcap.Packet) bool { return int(p.Length) == len(p.Data) })
	f, err := os.Open(filepath.Join(dir, "wire.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := pcap.NewReader(f, pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got = read(r, func(*pcap.Packet) bool { return true })
	if len(got) != len(want) {
		t.Fatalf("%d frames arrived, %d were sent", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(want[i], got[i]) {
			t.Errorf("frame %d: %x, want %x", i, got[i], want[i])
		}
	}
}

func replayOverWire(t *testing.T, dir string) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare (the tests run as root)", err)
	}
	for _, args := range []string{"link add near type veth peer name far", "link set near up", "link set far up"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
	}
	// Only what is replayed: the kernel sends IPv6 discovery of its own.
	dump := exec.CommandContext(t.Context(), "tcpdump", "-i", "far", "-U", "-c", "7", "-w", filepath.Join(dir, "wire.pcap"), "ether src 02:00:00:00:00:02 or ether src 02:00:00:00:00:01")
	stderr, err := dump.StderrPipe()
	if err != nil {
		return err
	}
	if err := dump.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dump.Wait()) }()
	if err := listening(stderr); err != nil {
		return err
	}
	to, err := replay.Frames("near")
	if err != nil {
		return err
	}
	result, err := replay.Run(t.Context(), capture(t, 0, 0, 0), to, replay.Options{Pace: replay.Pace{PacketsPerSecond: 1000}})
	if err == nil && (result.Sent != 7 || result.Cut != 3) {
		err = errors.New("sent and cut are not 7 and 3")
	}
	if err != nil {
		_ = dump.Process.Kill()
	}
	return errors.Join(err, to.Close())
}

// listening waits until tcpdump says that it captures.
func listening(stderr interface{ Read([]byte) (int, error) }) error {
	var said []byte
	b := make([]byte, 1000)
	for !bytes.Contains(said, []byte("listening on")) {
		n, err := stderr.Read(b)
		said = append(said, b[:n]...)
		if err != nil {
			return errors.Join(err, errors.New(string(said)))
		}
	}
	return nil
}
