package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tcpdump of a Linux host, of a BIG-IP (its interfaces, levels of detail and --f5),
// and of long ago, without -U. It compiles filters, lists interfaces, and captures
// traffic that the simulator makes; what it writes is real pcap.

type tcpdump struct {
	c           *call
	iface       string
	noise       string // of a BIG-IP: n, nn, nnn, with p
	f5          string
	file        string
	rotation    rotation
	count       int64
	snap        int
	list, code  bool
	unbuffered  bool
	filter      string
	match       expression
	received    int64
	captured    int64
	out         io.Writer
	held        bytes.Buffer // without -U: written by the block
	interrupted chan struct{}
}

const (
	oldHelp = "tcpdump version 3.9.4\nlibpcap version 0.9.4\n" +
		"Usage: tcpdump [-aAdDeflLnNOpqRStuvxX] [-c count] [ -C file_size ]\n" +
		"\t\t[ -E algo:secret ] [ -F file ] [ -i interface ] [ -M secret ]\n" +
		"\t\t[ -r file ] [ -s snaplen ] [ -T type ] [ -w file ]\n" +
		"\t\t[ -W filecount ] [ -y datalinktype ] [ -Z user ]\n\t\t[ expression ]\n"
	newHelp = "tcpdump version 4.99.3\nlibpcap version 1.10.3 (with TPACKET_V3)\n" +
		"Usage: tcpdump [-AbdDefhHIJKlLnNOpqStuUvxX#] [ -B size ] [ -c count ] [--count]\n" +
		"\t\t[ -C file_size ] [ -E algo:secret ] [ -F file ] [ -G seconds ]\n" +
		"\t\t[ -i interface ] [ --immediate-mode ] [ -j tstamptype ]\n" +
		"\t\t[ -M secret ] [ --number ] [ --print ] [ -Q in|out|inout ]\n" +
		"\t\t[ -r file ] [ -s snaplen ] [ -T type ] [ --version ]\n" +
		"\t\t[ -V file ] [ -w file ] [ -W filecount ] [ -y datalinktype ]\n" +
		"\t\t[ -z postrotate-command ] [ -Z user ] [ expression ]\n"
	f5Help = "tcpdump version 4.9.0\nlibpcap version 1.8.1\n" +
		"Usage: tcpdump [-aAbdDefhHIJKlLnNOpqStuUvxX#] [ -B size ] [ -c count ]\n" +
		"\t\t[ -C file_size ] [ -F file ] [ -G seconds ] [ -i interface ] [ --f5 options ]\n" +
		"\t\t[ -r file ] [ -s snaplen ] [ -w file ] [ -W filecount ] [ expression ]\n"
)

func runTcpdump(c *call) int {
	t := &tcpdump{c: c, snap: 262144, interrupted: make(chan struct{})}
	if c.dev().ordered.Load().noTcpdump {
		_, _ = fmt.Fprintf(c.err, "-bash: tcpdump: command not found\n")
		return 127
	}
	if status, done := t.options(c.args[1:]); done {
		return status
	}
	if t.list {
		for i, name := range t.interfaces() {
			c.printf("%d.%s [Up, Running]\n", i+1, name)
		}
		return 0
	}
	if uid(c) != 0 && !c.sudo && c.dev().ordered.Load().captureDenied {
		return t.die("%s: You don't have permission to capture on that device\n(socket: Operation not permitted)", t.iface)
	}
	if !t.known() {
		return t.die("%s: No such device exists\n(SIOCGIFHWADDR: No such device)", t.iface)
	}
	var err error
	if t.match, err = parseExpression(t.filter); err != nil {
		return t.die("can't parse filter expression: %v", err)
	}
	if t.code {
		c.printf("(000) ret      #%d\n", t.snap)
		return 0
	}
	return t.capture()
}

// die prints an error as tcpdump does.
func (t *tcpdump) die(format string, args ...any) int {
	_, _ = fmt.Fprintf(t.c.err, "tcpdump: "+format+"\n", args...)
	return 1
}

func (t *tcpdump) old() bool { return t.c.dev().ordered.Load().oldTcpdump }

func (t *tcpdump) help() string {
	switch {
	case t.old():
		return oldHelp
	case t.c.dev().platform == platformBigIP:
		return f5Help
	default:
		return newHelp
	}
}

func (t *tcpdump) usage() (int, bool) {
	_, _ = io.WriteString(t.c.err, t.help())
	return 1, true
}

// options reads the command line; done with a status when there is nothing more to
// do.
func (t *tcpdump) options(args []string) (status int, done bool) {
	if len(t.interfaces()) > 0 {
		t.iface = t.interfaces()[0]
	}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name := args[0]
		args = args[1:]
		value := func() string {
			if len(args) == 0 {
				return ""
			}
			v := args[0]
			args = args[1:]
			return v
		}
		var err error
		switch name {
		case "--":
			t.filter = strings.Join(args, " ")
			return 0, false
		case "-h", "--version":
			_, _ = io.WriteString(t.c.out, t.help())
			return 0, true
		case "-D":
			t.list = true
		case "-d":
			t.code = true
		case "-U":
			if t.old() {
				_, _ = io.WriteString(t.c.err, "tcpdump: invalid option -- 'U'\n")
				return t.usage()
			}
			t.unbuffered = true
		case "--immediate-mode":
			if !strings.Contains(t.help(), name) {
				return t.usage()
			}
		case "-n", "-nn", "-p", "-q", "-l", "-K", "-e", "-v":
		case "-i":
			t.iface = value()
		case "-w":
			t.file = value()
		case "-B", "-G", "-Z":
			value()
		case "-C":
			t.rotation.size, err = strconv.ParseInt(value(), 10, 32)
			t.rotation.size *= 1_000_000
		case "-W":
			t.rotation.files, err = strconv.Atoi(value())
		case "-s", "-s0":
			if name == "-s" {
				t.snap, err = strconv.Atoi(value())
			} else {
				t.snap = 0
			}
			if t.snap == 0 {
				t.snap = 262144
			}
		case "-c":
			t.count, err = strconv.ParseInt(value(), 10, 64)
			if err == nil && t.count < 1 {
				return t.die("invalid packet count %d", t.count), true
			}
		case "--f5":
			if t.c.dev().platform != platformBigIP {
				return t.usage()
			}
			t.f5 = value()
		default:
			_, _ = fmt.Fprintf(t.c.err, "tcpdump: invalid option -- '%s'\n", strings.TrimLeft(name, "-"))
			return t.usage()
		}
		if err != nil || t.rotation.size < 0 || t.rotation.files < 0 {
			return t.die("invalid argument of %s", name), true
		}
	}
	t.filter = strings.Join(args, " ")
	return 0, false
}

func (t *tcpdump) interfaces() []string {
	if t.c.dev().platform == platformBigIP {
		return []string{"eth0", "mgmt", "internal", "external", "lo"}
	}
	return []string{"eth0", "any", "lo", "nflog"}
}

// known tells whether the interface exists. A BIG-IP has more than it lists.
func (t *tcpdump) known() bool {
	if t.c.dev().platform != platformBigIP {
		return slices.Contains(t.interfaces(), t.iface)
	}
	name, noise, _ := strings.Cut(t.iface, ":")
	t.noise = noise
	name = strings.TrimPrefix(name, "/Common/")
	return slices.Contains(append(t.interfaces(), "0.0", "1.1", "1.2"), name) &&
		slices.Contains([]string{"", "n", "nn", "nnn", "p", "np", "nnp", "nnnp"}, noise)
}

func (t *tcpdump) ssl() bool {
	return strings.Contains(t.f5, "ssl")
}

// capture writes packets until the count is reached, somebody interrupts it, or
// nobody reads it any more.
func (t *tcpdump) capture() int {
	c, d := t.c, t.c.dev()
	if t.ssl() && dbValue(d, "tcpdump.sslprovider") != "enable" {
		return t.die("\"ssl\" needs the db variable tcpdump.sslprovider to be enabled")
	}
	t.out = c.out
	if t.file != "" && t.file != "-" {
		f, err := t.rotation.open(d.files, c.path(t.file))
		if err != nil {
			return t.die("%s: %s", t.file, reason(err))
		}
		defer func() { _ = f.close() }()
		t.out = f
	}
	traffic, err := newTraffic(d) // now: it is there when the first packet is due
	if err != nil {
		return c.s.broken(err)
	}
	p := c.sh.process()
	defer p.catch("tcpdump", func(string) {
		select {
		case <-t.interrupted:
		default:
			close(t.interrupted)
		}
	})()
	d.note(eventCaptureStart, "pid=%d interface=%s filter=%q", p.pid, t.iface, t.filter)
	why := "interrupted"
	defer func() { d.note(eventCaptureStop, "pid=%d packets=%d why=%q", p.pid, t.captured, why) }()
	if t.ssl() {
		_, _ = io.WriteString(c.err, "tcpdump: WARNING: Using the \"ssl\" option captures additional information related to the SSL/TLS connections, such as master secrets.\n")
	}
	_, _ = fmt.Fprintf(c.err, "tcpdump: listening on %s, link-type EN10MB (Ethernet), capture size %d bytes\n", t.iface, t.snap)
	if err := t.put(t.header()); err != nil {
		why = t.unwritten(err)
		return 1
	}
	if d.platform == platformBigIP {
		// The first frame tells what was asked of which release.
		if err := t.packet(time.Now(), fileInfo(d, c.args)); err != nil {
			why = t.unwritten(err)
			return 1
		}
		t.captured = 0
	}
	tick := time.NewTicker(traffic.pause)
	defer tick.Stop()
	for t.count == 0 || t.captured < t.count {
		select {
		case <-c.ctx.Done():
			why = "killed"
			return 1
		case <-t.interrupted:
			return t.end()
		case now := <-tick.C:
			p := traffic.next()
			if !t.match(p.about) {
				continue
			}
			t.received++
			switch {
			case t.ssl():
				p.frame = append(p.frame, secretTrailer(p.secrets)...)
			case t.noise != "":
				p.frame = append(p.frame, trailer()...)
			}
			if err := t.packet(now, p.frame); err != nil {
				why = t.unwritten(err)
				return 1
			}
		}
	}
	why = "count"
	return t.end()
}

// unwritten says why nothing more can be written.
func (t *tcpdump) unwritten(err error) string {
	if errors.Is(err, syscall.ENOSPC) {
		t.die("Unable to write output: No space left on device")
		return "disk full"
	}
	return "output closed"
}

// header opens a pcap file.
func (t *tcpdump) header() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(t.snap)) //nolint:gosec // a length of ours
	return binary.LittleEndian.AppendUint32(b, 1)
}

// end writes what is held back and says the counts.
func (t *tcpdump) end() int {
	if _, err := t.out.Write(t.held.Bytes()); err != nil {
		return 1
	}
	_, _ = fmt.Fprintf(t.c.err, "%d packets captured\n%d packets received by filter\n0 packets dropped by kernel\n", t.captured, t.received)
	return 0
}

func (t *tcpdump) packet(at time.Time, frame []byte) error {
	kept := frame[:min(len(frame), t.snap)]
	b := binary.LittleEndian.AppendUint32(nil, uint32(at.Unix())) //nolint:gosec // until 2106
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Nanosecond()/1000))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(kept)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
	t.captured++
	if f, ok := t.out.(*rotated); ok && f.full(int64(t.held.Len())) {
		// A file has whole packets and a header of its own.
		if _, err := f.Write(t.held.Bytes()); err != nil {
			return err
		}
		t.held.Reset()
		if err := f.turn(); err != nil {
			return err
		}
		if err := t.put(t.header()); err != nil {
			return err
		}
	}
	return t.put(append(b, kept...))
}

// put writes at once with -U, and otherwise by the 4 KiB, as stdio does to a pipe.
func (t *tcpdump) put(b []byte) error {
	t.held.Write(b)
	if !t.unbuffered && t.held.Len() < 4096 {
		return nil
	}
	_, err := t.out.Write(t.held.Bytes())
	t.held.Reset()
	return err
}
