package tlsaudit_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"capfleet/internal/pcap/corpus"
	"capfleet/internal/pcap/tlsaudit"
)

// summary is a session without what tshark does not tell.
type summary struct {
	Client, Server      netip.AddrPort
	Offered, Negotiated string
	ServerName          string
}

// tshark gives the sessions of a capture as tshark sees them, by client.
func tshark(t *testing.T, path string, ports ...int) map[netip.AddrPort]summary {
	t.Helper()
	args := []string{"-n", "-r", path, "-o", "tcp.reassemble_out_of_order:TRUE", "-Y", "tls.handshake.type == 1 or tls.handshake.type == 2", "-T", "fields"}
	for _, port := range ports {
		args = append(args, "-d", fmt.Sprintf("tcp.port==%d,tls", port))
	}
	fields := []string{
		"ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "tls.handshake.type", "tls.handshake.version",
		"tls.handshake.extensions.supported_version", "tls.handshake.extensions_server_name",
	}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	var stderr bytes.Buffer
	cmd := exec.Command("tshark", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, &stderr)
	}
	sessions := map[netip.AddrPort]summary{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		src, dst := endpoint(t, f[0]+f[1], f[2]), endpoint(t, f[3]+f[4], f[5])
		types := "," + f[6] + ","
		switch {
		case strings.Contains(types, ",1,"):
			s := sessions[src]
			if s.Client.IsValid() {
				break // the second hello, after a HelloRetryRequest
			}
			sessions[src] = summary{Client: src, Server: dst, Offered: newest(t, f[7], f[8]), ServerName: f[9]}
		case strings.Contains(types, ",2,"):
			s := sessions[dst]
			s.Negotiated = newest(t, f[7], f[8])
			sessions[dst] = s
		}
	}
	return sessions
}

func endpoint(t *testing.T, addr, port string) netip.AddrPort {
	t.Helper()
	ap, err := netip.ParseAddrPort("[" + addr + "]:" + port)
	if err != nil {
		ap, err = netip.ParseAddrPort(addr + ":" + port)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ap
}

// newest spells the highest version of the extension, or else the version field.
func newest(t *testing.T, field, supported string) string {
	t.Helper()
	if supported == "" {
		supported, _, _ = strings.Cut(field, ",")
	}
	highest := uint64(0)
	for name := range strings.SplitSeq(supported, ",") {
		v, err := strconv.ParseUint(name, 0, 16)
		if err != nil {
			t.Fatal(err)
		}
		if v>>8 == 3 {
			highest = max(highest, v)
		}
	}
	switch highest {
	case 0x300:
		return "ssl3"
	case 0x301, 0x302, 0x303, 0x304:
		return fmt.Sprintf("tls1.%d", highest-0x301)
	}
	return ""
}

func summaries(all []tlsaudit.Session) map[netip.AddrPort]summary {
	sessions := map[netip.AddrPort]summary{}
	for _, k := range known(all) {
		sessions[k.Client] = summary{k.Client, k.Server, k.Offered, k.Negotiated, k.ServerName}
	}
	return sessions
}

func TestAgreesWithTshark(t *testing.T) {
	t.Parallel()
	for _, tidy := range []bool{true, false} {
		path, truth := corpusFile(t, corpus.Spec{Seed: 21, Bytes: 5 << 20, Connections: 40, Tidy: tidy})
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got := summaries(audit(t, f))
		_ = f.Close()
		want := tshark(t, path, 443, 8443, 4433, 10443)
		if len(want) != len(truth.Sessions) {
			t.Errorf("tshark sees %d sessions of %d", len(want), len(truth.Sessions))
		}
		if diff := gocmp.Diff(want, got, gocmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" {
			t.Errorf("tidy %v (-tshark +ours):\n%.3000s", tidy, diff)
		}
	}
}
