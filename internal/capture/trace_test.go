//go:build linux

package capture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"capfleet/internal/capture/capturetest"
	"capfleet/internal/device/sshconn/sshdtest"
)

// The addresses of a traced network: client and server, and the firewall between
// them.
const (
	clientAddr = "192.0.2.10"
	fwInAddr   = "192.0.2.1"
	fwOutAddr  = "198.51.100.1"
	serverAddr = "198.51.100.20"

	streamPort   = 7000 // TCP
	datagramPort = 7001 // UDP
)

// traced is a client, a firewall and a server, each a device with a network
// namespace, a kernel's own firewall rules, an sshd and a tcpdump; and a fleetd that
// knows them.
type traced struct {
	*fleet
	client, firewall, server *capturetest.Bed
}

func newTraced(t *testing.T) *traced {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatalf("%v (Debian package nftables)", err)
	}
	n := &traced{client: capturetest.New(t), firewall: capturetest.New(t), server: capturetest.New(t)}
	prefix := func(addr string) netip.Prefix { return netip.MustParsePrefix(addr + "/24") }
	n.client.Wire(t, "eth1", prefix(clientAddr), n.firewall, "eth1", prefix(fwInAddr))
	n.firewall.Wire(t, "eth2", prefix(fwOutAddr), n.server, "eth1", prefix(serverAddr))
	n.inside(t, n.client, "ip", "route", "add", "198.51.100.0/24", "via", fwInAddr)
	n.inside(t, n.server, "ip", "route", "add", "192.0.2.0/24", "via", fwOutAddr)
	n.inside(t, n.firewall, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

	n.fleet = &fleet{Bed: n.client, dir: t.TempDir()}
	beds := map[string]*capturetest.Bed{"web": n.client, "fw": n.firewall, "db": n.server}
	var credentials, devices strings.Builder
	var servers []*sshdtest.Server
	for _, name := range []string{"web", "fw", "db"} {
		s := beds[name].Server
		servers = append(servers, s)
		fmt.Fprintf(&credentials, "  %s: {username: %s, private_key: {file: %s}}\n", name, s.User, s.ClientKey)
		fmt.Fprintf(&devices, "  - {name: %s, platform: linux, address: \"%s\", credentials: %s}\n", name, s.Addr, name)
	}
	text := fmt.Sprintf("version: 1\nknown_hosts: %s\ncredentials:\n%sdevices:\n%s", sshdtest.KnownHosts(t, servers...), credentials.String(), devices.String())
	if err := os.WriteFile(filepath.Join(n.dir, "inventory.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(n.dir, "fleetd.log"))
			t.Logf("fleetd: %.8000s", log)
		}
	})
	n.serve(t)
	return n
}

func (n *traced) inside(t *testing.T, bed *capturetest.Bed, args ...string) {
	t.Helper()
	if out, err := bed.Command(t.Context(), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// rules replaces what the firewall does.
func (n *traced) rules(t *testing.T, forward, nat string) {
	t.Helper()
	cmd := n.firewall.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`flush ruleset
table ip test {
	chain forward {
		type filter hook forward priority 0
		%s
	}
	chain nat {
		type nat hook postrouting priority 100
		%s
	}
}
`, forward, nat))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// serve answers with what it hears, over TCP and UDP.
func (n *traced) serve(t *testing.T) {
	t.Helper()
	var streams net.Listener
	var datagrams net.PacketConn
	err := n.server.Inside(func() (err error) {
		var c net.ListenConfig
		if streams, err = c.Listen(t.Context(), "tcp4", fmt.Sprintf("%s:%d", serverAddr, streamPort)); err != nil {
			return err
		}
		datagrams, err = c.ListenPacket(t.Context(), "udp4", fmt.Sprintf("%s:%d", serverAddr, datagramPort))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		buf := make([]byte, 2048)
		for {
			size, from, err := datagrams.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = datagrams.WriteTo(buf[:size], from)
		}
	})
	all.Go(func() {
		for {
			conn, err := streams.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		_, _ = streams.Close(), datagrams.Close()
		all.Wait()
	})
}

// talk has the client ask over UDP and TCP, again and again, until the function that
// it gives is called.
func (n *traced) talk(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var udp net.Conn
	err := n.client.Inside(func() (err error) {
		udp, err = (&net.Dialer{}).DialContext(ctx, "udp4", fmt.Sprintf("%s:%d", serverAddr, datagramPort))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	every := func(pause time.Duration, do func(i int)) {
		all.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for i := 0; ; i++ {
				do(i)
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	every(10*time.Millisecond, func(i int) { _, _ = fmt.Fprintf(udp, "question %d", i) })
	every(100*time.Millisecond, func(i int) { n.exchange(ctx, i) })
	return func() {
		cancel()
		_ = udp.Close()
		all.Wait()
	}
}

// exchange is one connection, with something that needs several segments. What the
// firewall lets through of it is not our business.
func (n *traced) exchange(ctx context.Context, i int) {
	var conn net.Conn
	err := n.client.Inside(func() (err error) {
		conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", serverAddr, streamPort))
		return err
	})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	text := strings.Repeat(fmt.Sprintf("line %d\n", i), 600)
	if _, err := io.WriteString(conn, text); err == nil {
		_, _ = io.ReadFull(conn, make([]byte, len(text)))
	}
}

// traceResult is what is used of a trace's JSON.
type traceResult struct {
	Job     string
	Verdict struct {
		Status, Sentence, Direction string
		Last                        string `json:"last_hop"`
		Missing                     string `json:"missing_hop"`
		Packets                     uint64 `json:"lost_packets"`
		Notes                       []string
	}
	Hops []struct {
		Name    string
		Packets uint64
		Drops   *uint64
		Offset  *float64 `json:"offset_seconds"`
	}
	Links []struct {
		From, To, Direction string
		Sent, Seen, Lost    uint64
		Outside             uint64
	}
	Mappings []map[string]any
	Evidence []struct {
		Hop, Device, Evidence string
		Counters              map[string]uint64 `json:"interface_counters"`
	}
}

// trace traces while the client talks. On a busy machine the captures of a second have
// little time in common that is sure; what fell outside of it proves nothing, and is
// looked for again for longer.
func (n *traced) trace(t *testing.T, code int, args ...string) (traceResult, string) {
	t.Helper()
	for _, duration := range []string{"1s", "5s", "25s"} {
		doc, said, got := n.traceFor(t, duration, args...)
		outside := uint64(0)
		for _, l := range doc.Links {
			outside += l.Outside
		}
		if got == code && !doc.unseen() {
			return doc, said
		}
		if got != code && got != 0 || outside == 0 {
			t.Fatalf("%v ends with %d, want %d: %s\n%+v", args, got, code, said, doc)
		}
	}
	t.Fatalf("%v: the captures have no time in common", args)
	return traceResult{}, ""
}

// unseen reports whether a link has no packet that came over it.
func (r *traceResult) unseen() bool {
	for _, l := range r.Links {
		if l.Seen == 0 {
			return true
		}
	}
	return false
}

func (n *traced) traceFor(t *testing.T, duration string, args ...string) (doc traceResult, said string, code int) {
	t.Helper()
	stop := n.talk(t)
	defer stop()
	r := n.fleetctl(t, append([]string{"trace", "--hop", "client=web:eth1", "--hop", "fw-in=fw:eth1", "--hop", "fw-out=fw:eth2", "--hop", "server=db:eth1",
		"--ring", "2x5MB", "--fail-on", "lost", "-o", "json", "--duration", duration}, args...)...)
	code = r.run(t)
	if err := json.Unmarshal(r.out.bytes(), &doc); err != nil {
		t.Fatalf("%v: %s", err, r.out.bytes())
	}
	t.Logf("%s %s %v %+v", doc.Verdict.Status, doc.Verdict.Sentence, doc.Verdict.Notes, doc.Links)
	return doc, r.err.String(), code
}

const bothPorts = "port 7000 or port 7001"

func TestTraceNamesTheFirewall(t *testing.T) {
	t.Parallel()
	n := newTraced(t)

	t.Run("complete", func(t *testing.T) {
		doc, _ := n.trace(t, 0, "-f", bothPorts)
		if doc.Verdict.Status != "complete" {
			t.Errorf("%+v", doc.Verdict)
		}
		for _, l := range doc.Links {
			if l.Lost != 0 || l.Seen == 0 {
				t.Errorf("%+v", l)
			}
		}
		for _, h := range doc.Hops {
			if h.Drops == nil || *h.Drops != 0 || h.Packets == 0 {
				t.Errorf("%+v", h)
			}
		}
	})

	t.Run("some are dropped", func(t *testing.T) {
		n.rules(t, "udp dport 7001 numgen inc mod 3 == 0 counter drop", "")
		doc, said := n.trace(t, 6, "-f", bothPorts)
		v := doc.Verdict
		if v.Status != "lost" || v.Last != "fw-in" || v.Missing != "fw-out" || v.Direction != "forward" || !strings.Contains(v.Sentence, "Lost between fw-in and fw-out") {
			t.Errorf("%+v", v)
		}
		for _, l := range doc.Links {
			if guilty := l.From == "fw-in" && l.To == "fw-out"; guilty != (l.Lost > 0) {
				t.Errorf("%+v", l)
			}
		}
		n.besides(t, doc, said)
	})

	t.Run("answers are dropped", func(t *testing.T) {
		n.rules(t, "udp sport 7001 drop", "")
		doc, _ := n.trace(t, 6, "-f", bothPorts)
		if v := doc.Verdict; v.Status != "lost" || v.Last != "fw-out" || v.Missing != "fw-in" || v.Direction != "reverse" {
			t.Errorf("%+v", v)
		}
	})

	t.Run("translated", func(t *testing.T) {
		n.rules(t, "", "oifname eth2 masquerade")
		doc, _ := n.trace(t, 0, "-f", bothPorts)
		if doc.Verdict.Status != "complete" {
			t.Errorf("%+v", doc.Verdict)
		}
		found, _ := json.Marshal(doc.Mappings)
		if !strings.Contains(string(found), clientAddr) || !strings.Contains(string(found), fwOutAddr) {
			t.Errorf("mappings: %s", found)
		}
	})

	t.Run("translated as told, and all dropped", func(t *testing.T) {
		n.rules(t, "udp dport 7001 drop", "oifname eth2 masquerade")
		doc, _ := n.trace(t, 6, "-f", "host "+clientAddr+" and ("+bothPorts+")", "--map", "fw-out:"+clientAddr+"="+fwOutAddr)
		if v := doc.Verdict; v.Status != "lost" || v.Last != "fw-in" || v.Missing != "fw-out" {
			t.Errorf("%+v", v)
		}
		for _, l := range doc.Links {
			if l.From == "fw-out" && l.To == "server" && (l.Seen == 0 || l.Lost != 0) {
				t.Errorf("TCP did not come: %+v", l)
			}
		}
	})
}

// besides looks at what was gathered beside the captures.
func (n *traced) besides(t *testing.T, doc traceResult, said string) {
	t.Helper()
	if !strings.Contains(said, "artifact list --job "+doc.Job) {
		t.Errorf("nothing is said of what is kept: %s", said)
	}
	if len(doc.Evidence) != 4 {
		t.Fatalf("%+v", doc.Evidence)
	}
	wants := map[string]string{"web": fwInAddr, "fw": "198.51.100.0/24 dev eth2", "db": fmt.Sprintf("%s:%d", serverAddr, streamPort)}
	for _, e := range doc.Evidence {
		if len(e.Counters) != 4 {
			t.Errorf("%s: counters %v", e.Hop, e.Counters)
		}
		want, ok := wants[e.Device]
		if !ok {
			continue
		}
		delete(wants, e.Device) // the firewall is there twice
		file := filepath.Join(t.TempDir(), e.Device+".txt")
		if r := n.fleetctl(t, "artifact", "get", e.Evidence, "-w", file); r.run(t) != 0 {
			t.Fatal(r.err.String())
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s: no %q in\n%s", e.Device, want, text)
		}
	}
}
