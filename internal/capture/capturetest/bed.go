//go:build linux

// Package capturetest is the test bed for captures: a network namespace with a
// link to it, OpenSSH's sshd inside, the machine's own tcpdump, and traffic that
// the tests make. What stays behind on the "device" can be looked for exactly,
// because its processes are those of the namespace.
//
// It needs root, iproute2, openssh-server and tcpdump; without them a test fails.
package capturetest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
)

// Interface is the name of the bed's interface inside.
const Interface = "eth0"

// Bed is one simulated capture host made of real parts.
type Bed struct {
	Server *sshdtest.Server
	// Name of the namespace.
	Name string
	// Outer and Inner are the addresses at the two ends of the link.
	Outer, Inner netip.Addr

	link string // the outer interface
	net  uint64 // inode of the namespace
}

// New makes a bed that lasts as long as the test. Config are lines of sshd_config.
func New(tb testing.TB, config ...string) *Bed {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Fatal("captures are tested in network namespaces, which takes root")
	}
	for _, program := range []string{"ip", "tcpdump"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Fatalf("%v (Debian packages iproute2, tcpdump)", err)
		}
	}
	b := &Bed{}
	for try := 0; ; try++ {
		err := b.lay(tb)
		if err == nil {
			break
		}
		if try == 5 {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(b.remove)
	b.Server = sshdtest.Start(tb, sshdtest.Options{
		Listener: b.Listen(tb, 0),
		Within:   []string{"ip", "netns", "exec", b.Name},
		Config:   config,
	})
	return b
}

// lay makes namespace and link under names and addresses that nobody has.
func (b *Bed) lay(tb testing.TB) error {
	tb.Helper()
	var r [4]byte
	if _, err := rand.Read(r[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(r[:])
	b.Name = fmt.Sprintf("cf%08x", n)
	b.link = b.Name
	base := 0x0a800000 | n&0x007ffffc // 10.128.0.0/9, a /30 of it
	addr := func(i uint32) netip.Addr {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], base+i)
		return netip.AddrFrom4(a)
	}
	b.Outer, b.Inner = addr(1), addr(2)
	for _, args := range [][]string{
		{"netns", "add", b.Name},
		{"link", "add", b.link, "type", "veth", "peer", "name", Interface, "netns", b.Name},
		{"addr", "add", b.Outer.String() + "/30", "dev", b.link},
		{"link", "set", b.link, "up"},
		{"-n", b.Name, "addr", "add", b.Inner.String() + "/30", "dev", Interface},
		{"-n", b.Name, "link", "set", Interface, "up"},
		{"-n", b.Name, "link", "set", "lo", "up"},
	} {
		if out, err := exec.CommandContext(tb.Context(), "ip", args...).CombinedOutput(); err != nil {
			b.remove()
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	info, err := os.Stat(b.path())
	if err != nil {
		return err
	}
	b.net = inode(info)
	return nil
}

func (b *Bed) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = exec.CommandContext(ctx, "ip", "netns", "del", b.Name).Run() // the link goes with it
}

func (b *Bed) path() string { return "/run/netns/" + b.Name }

// Device is an inventory entry for the bed.
func (b *Bed) Device(name string) *device.Device { return b.Server.Device(name) }

// Dial connects to the bed's sshd; the connection is closed at the end of the test.
func (b *Bed) Dial(tb testing.TB) device.Conn {
	tb.Helper()
	d := sshconn.NewDialer(sshconn.Options{})
	tb.Cleanup(func() { _ = d.Close() })
	conn, err := d.Dial(tb.Context(), b.Device("bed"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Cut takes the link away, so that nothing gets through any more in either
// direction and no side is told.
func (b *Bed) Cut(tb testing.TB) { b.run(tb, "link", "set", b.link, "down") }

// Join gives the link back.
func (b *Bed) Join(tb testing.TB) { b.run(tb, "link", "set", b.link, "up") }

func (b *Bed) run(tb testing.TB, args ...string) {
	tb.Helper()
	if out, err := exec.CommandContext(tb.Context(), "ip", args...).CombinedOutput(); err != nil {
		tb.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// Command prepares a program to run inside.
func (b *Bed) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", b.Name}, args...)...)
}

// Wire connects the bed with another one by a link of their own: an interface with an
// address in each.
func (b *Bed) Wire(tb testing.TB, name string, addr netip.Prefix, other *Bed, otherName string, otherAddr netip.Prefix) {
	tb.Helper()
	b.run(tb, "-n", b.Name, "link", "add", name, "type", "veth", "peer", "name", otherName, "netns", other.Name)
	for _, end := range []struct {
		bed  *Bed
		name string
		addr netip.Prefix
	}{{b, name, addr}, {other, otherName, otherAddr}} {
		b.run(tb, "-n", end.bed.Name, "addr", "add", end.addr.String(), "dev", end.name)
		b.run(tb, "-n", end.bed.Name, "link", "set", end.name, "up")
	}
}

// Inside calls a function whose sockets are then inside. It must not start goroutines
// that open some.
func (b *Bed) Inside(do func() error) error {
	done := make(chan error)
	go func() {
		// The thread is left in the namespace and ends with this goroutine.
		runtime.LockOSThread()
		done <- func() error {
			fd, err := unix.Open(b.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return err
			}
			return do()
		}()
	}()
	return <-done
}

// Listen opens a TCP port inside; 0 chooses one.
func (b *Bed) Listen(tb testing.TB, port uint16) net.Listener {
	tb.Helper()
	var l net.Listener
	err := b.Inside(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(tb.Context(), "tcp", netip.AddrPortFrom(b.Inner, port).String())
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l
}

// Send sends n UDP packets of size bytes from outside to a port inside, pause
// apart, and stops early with ctx.
func (b *Bed) Send(ctx context.Context, port uint16, n, size int, pause time.Duration) error {
	return b.SendFrom(ctx, port, 0, n, size, pause)
}

// SendFrom is Send with a first number.
func (b *Bed) SendFrom(ctx context.Context, port uint16, first, n, size int, pause time.Duration) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", netip.AddrPortFrom(b.Inner, port).String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	payload := make([]byte, size)
	for i := range n {
		if size >= 8 {
			binary.BigEndian.PutUint64(payload, uint64(first+i))
		}
		// Nobody listens there: the answer of an earlier packet may come as the error of
		// this one, which is not sent then.
		if _, err := conn.Write(payload); err != nil {
			_, _ = conn.Write(payload)
		}
		if pause == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
	return nil
}

// Processes gives the PIDs of the processes inside that run a program of a name.
func (b *Bed) Processes(tb testing.TB, name string) []int {
	tb.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		tb.Fatal(err)
	}
	var pids []int
	for _, dir := range dirs {
		// Processes come and go while we look.
		comm, err := os.ReadFile(dir + "/comm")
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		info, err := os.Stat(dir + "/ns/net")
		if err != nil || inode(info) != b.net {
			continue
		}
		if stat, err := os.ReadFile(dir + "/stat"); err != nil || strings.Contains(string(stat), ") Z ") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		pids = append(pids, pid)
	}
	return pids
}

// WaitGone waits until no process of a name is left inside.
func (b *Bed) WaitGone(tb testing.TB, name string) {
	tb.Helper()
	b.wait(tb, name, func(n int) bool { return n == 0 })
}

// WaitRuns waits until n processes of a name run inside.
func (b *Bed) WaitRuns(tb testing.TB, name string, n int) {
	tb.Helper()
	b.wait(tb, name, func(have int) bool { return have == n })
}

func (b *Bed) wait(tb testing.TB, name string, good func(int) bool) {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(90 * time.Second)
	defer late.Stop()
	for {
		pids := b.Processes(tb, name)
		if good(len(pids)) {
			return
		}
		select {
		case <-tick.C:
		case <-late.C:
			tb.Fatalf("%s in %s: %v", name, b.Name, pids)
		}
	}
}

func inode(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
