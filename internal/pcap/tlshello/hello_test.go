package tlshello_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"capfleet/internal/pcap/pcaptest"
	"capfleet/internal/pcap/tlshello"
)

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	sent []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.sent = append(r.sent, b...)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// exchange is what both sides of a real handshake sent.
type exchange struct{ client, server []byte }

func shake(t testing.TB, clientConf, serverConf *tls.Config) exchange {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	serverConf.Certificates = []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}
	clientConf.InsecureSkipVerify = true
	// Not net.Pipe: with a HelloRetryRequest both sides write at once, and it holds nothing.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	client, server := &recorder{Conn: near}, &recorder{Conn: far}
	var group sync.WaitGroup
	group.Go(func() {
		c := tls.Server(server, serverConf)
		_ = c.Handshake() // it may be refused
		_ = far.Close()
	})
	c := tls.Client(client, clientConf)
	if c.Handshake() == nil {
		_, _ = c.Read(make([]byte, 1)) // lets the server end
	}
	_ = near.Close()
	group.Wait()
	return exchange{client.sent, server.sent}
}

// exchanges gives handshakes of every version, one that begins again and one that
// is refused.
func exchanges(t testing.TB) map[string]exchange {
	t.Helper()
	got := map[string]exchange{}
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		name := tlshello.Version(v).String()
		got["server "+name] = shake(t, &tls.Config{ServerName: "www.example.net", MinVersion: tls.VersionTLS10}, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: v})
		got["client "+name] = shake(t, &tls.Config{ServerName: "a.example.net", MinVersion: tls.VersionTLS10, MaxVersion: v}, &tls.Config{MinVersion: tls.VersionTLS10})
	}
	got["retry"] = shake(t, &tls.Config{ServerName: "retry.example.net", CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}},
		&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}})
	got["refused"] = shake(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, &tls.Config{MinVersion: tls.VersionTLS12})
	return got
}

func version(h tlshello.Hello) string {
	if v, ok := h.Version(); ok {
		return v.String()
	}
	return "unknown"
}

func TestRealHandshakes(t *testing.T) {
	t.Parallel()
	want := map[string][2]string{
		"server tls1.0": {"tls1.3", "tls1.0"}, "server tls1.1": {"tls1.3", "tls1.1"}, "server tls1.2": {"tls1.3", "tls1.2"}, "server tls1.3": {"tls1.3", "tls1.3"},
		"client tls1.0": {"tls1.0", "tls1.0"}, "client tls1.1": {"tls1.1", "tls1.1"}, "client tls1.2": {"tls1.2", "tls1.2"}, "client tls1.3": {"tls1.3", "tls1.3"},
		"retry": {"tls1.3", "tls1.3"}, "refused": {"tls1.1", "unknown"},
	}
	for name, e := range exchanges(t) {
		client, server := tlshello.Parse(e.client), tlshello.Parse(e.server)
		if got := [2]string{version(client), version(server)}; got != want[name] || !client.Complete || !server.Complete {
			t.Errorf("%s: %v, want %v; complete %v %v", name, got, want[name], client.Complete, server.Complete)
		}
		kind := tlshello.Server
		switch name {
		case "retry":
			kind = tlshello.Retry
		case "refused":
			kind = tlshello.Alert
		}
		if client.Kind != tlshello.Client || server.Kind != kind || server.Refused() != (kind == tlshello.Alert) {
			t.Errorf("%s: kinds %v %v, alert %d", name, client.Kind, server.Kind, server.Description)
		}
		if name != "refused" && !strings.HasSuffix(client.ServerName, "example.net") {
			t.Errorf("%s: server name %q", name, client.ServerName)
		}
	}
}

// fragmented gives a message in records of n bytes.
func fragmented(record []byte, n int) []byte {
	size := int(record[3])<<8 | int(record[4])
	var out []byte
	for part := range slices.Chunk(record[5:5+size], n) {
		out = append(out, record[0], record[1], record[2], byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

// What is missing is not guessed: a beginning gives what the whole gives, or
// nothing.
func TestEveryBeginning(t *testing.T) {
	t.Parallel()
	for name, e := range exchanges(t) {
		sides := map[string][]byte{"client": e.client, "server": e.server}
		if name != "refused" {
			sides["client in pieces"], sides["server in pieces"] = fragmented(e.client, 3), fragmented(e.server, 50)
		}
		for side, b := range sides {
			whole := tlshello.Parse(b)
			for cut := range min(len(b), 2500) {
				if !beginsLike(b[:cut], whole) {
					t.Errorf("%s, %s: %d bytes give %+v, all %+v", name, side, cut, tlshello.Parse(b[:cut]), whole)
				}
			}
		}
	}
}

// beginsLike reports whether the beginning of a message contradicts it nowhere.
func beginsLike(b []byte, whole tlshello.Hello) bool {
	h := tlshello.Parse(b)
	if !tlshello.Possible(b) && whole.Kind != tlshello.None {
		return false
	}
	v, known := h.Version()
	all, _ := whole.Version()
	switch {
	case h.Kind == tlshello.None:
		return true
	case h.Kind != whole.Kind && whole.Kind != tlshello.Retry: // the random tells
		return false
	case h.Complete && !whole.Complete:
		return false
	}
	return (!known || v == all) && (h.ServerName == "" || h.ServerName == whole.ServerName)
}

func TestSSL2(t *testing.T) {
	t.Parallel()
	client := func(version byte, major byte) []byte {
		b := []byte{0x80, 9 + 6 + 16, 1, major, version, 0, 6, 0, 0, 0, 16, 1, 0, 0x80, 0, 0, 5}
		return append(b, make([]byte, 16)...)
	}
	server := append([]byte{0x80, 11 + 3 + 16, 4, 0, 1, 0, 2, 0, 0, 0, 3, 0, 16}, make([]byte, 19)...)
	for name, c := range map[string]struct {
		b    []byte
		kind tlshello.Kind
		want string
	}{
		"client ssl2":   {client(2, 0), tlshello.Client, "ssl2"},
		"client tls1.0": {client(1, 3), tlshello.Client, "tls1.0"},
		"server":        {server, tlshello.Server, "ssl2"},
		"version 4":     {client(0, 4), tlshello.None, "unknown"},
		"wrong length":  {append([]byte{0x80, 50}, client(2, 0)[2:]...), tlshello.None, "unknown"},
	} {
		if h := tlshello.Parse(c.b); h.Kind != c.kind || version(h) != c.want || h.Complete != (c.kind != tlshello.None) {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestNoHello(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"empty": nil, "http": []byte("GET / HTTP/1.1\r\n"), "application data": {23, 3, 3, 0, 5, 1, 2, 3, 4, 5},
		"certificate": {22, 3, 3, 0, 8, 11, 0, 0, 4, 0, 0, 0, 0}, "record too long": {22, 3, 1, 0x60, 0, 1, 0, 0},
		"message too long": {22, 3, 1, 0x40, 0, 1, 0xff, 0, 0, 3, 3}, "encrypted alert": append([]byte{21, 3, 3, 0, 26}, make([]byte, 26)...),
		"alert of level 9": {21, 3, 1, 0, 2, 9, 70},
	} {
		if h := tlshello.Parse(b); h.Kind != tlshello.None {
			t.Errorf("%s: %+v", name, h)
		}
		if len(b) > 0 && tlshello.Possible(b) {
			t.Errorf("%s: taken for the beginning of a hello", name)
		}
	}
}

// Versions that tshark shows for the same bytes.
func TestVersionsAgreeWithTshark(t *testing.T) {
	t.Parallel()
	c := pcaptest.Classic{SnapLen: 262144, Link: 228}
	file := c.Header()
	var ours []string
	for _, e := range exchanges(t) {
		for _, b := range [][]byte{e.client, e.server} {
			h := tlshello.Parse(b)
			if h.Kind == tlshello.Alert {
				continue
			}
			// The record alone, each in a connection of its own.
			size := 5 + int(b[3])<<8 + int(b[4])
			packet := pcaptest.IPv4(6, 0, nil, pcaptest.TCP(1, 1, 0x18, nil, b[:size]...)...)
			packet[15] = byte(len(ours) + 1)
			file = append(file, c.Record(uint32(len(ours)), 0, uint32(len(packet)), uint32(len(packet)), packet)...)
			var supported []string
			for _, v := range h.Supported {
				supported = append(supported, fmt.Sprintf("0x%04x", uint16(v)))
			}
			ours = append(ours, fmt.Sprintf("0x%04x\t%s\t%s", uint16(h.Field), strings.Join(supported, ","), h.ServerName))
		}
	}
	path := filepath.Join(t.TempDir(), "hellos.pcap")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command("tshark", "-n", "-r", path, "-o", "ip.check_checksum:FALSE", "-T", "fields",
		"-e", "tls.handshake.version", "-e", "tls.handshake.extensions.supported_version", "-e", "tls.handshake.extensions_server_name")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, &stderr)
	}
	theirs := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if !slices.Equal(theirs, ours) {
		t.Errorf("tshark:\n%s\nwe:\n%s", strings.Join(theirs, "\n"), strings.Join(ours, "\n"))
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range exchanges(f) {
		f.Add(e.client, 20)
		f.Add(e.server[:min(len(e.server), 300)], 100)
	}
	f.Add(append([]byte{0x80, 31, 1, 0, 2, 0, 6, 0, 0, 0, 16}, make([]byte, 22)...), 12)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		whole := tlshello.Parse(b)
		if whole.Kind != tlshello.None && !tlshello.Possible(b) {
			t.Fatalf("a hello that is not possible: %+v", whole)
		}
		if whole.Kind == tlshello.None || cut < 0 || cut > len(b) {
			return
		}
		if !beginsLike(b[:cut], whole) {
			t.Fatalf("%d of %d bytes give %+v, all %+v", cut, len(b), tlshello.Parse(b[:cut]), whole)
		}
	})
}
