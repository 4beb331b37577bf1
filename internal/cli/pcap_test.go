package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capfleet/internal/fault"
	"capfleet/internal/pcap/pcaptest"
)

// smallCapture has a packet, and one with an unknown ARP operation.
func smallCapture() []byte {
	c := pcaptest.Classic{SnapLen: 65535, Link: 1}
	arp := pcaptest.Ethernet(0x0806, pcaptest.ARP(77)...)
	ip := pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP()...)...)
	return slices.Concat(c.Header(),
		c.Record(1700000000, 0, uint32(len(ip)), 1000, ip),
		c.Record(1700000002, 500000, uint32(len(arp)), uint32(len(arp)), arp))
}

func captureFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.pcap")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type infoDocument struct {
	Rows []struct {
		File        string  `json:"file"`
		Packets     int     `json:"packets"`
		DataBytes   int     `json:"data_bytes"`
		FileBytes   int64   `json:"file_bytes"`
		First       string  `json:"first_time"`
		Duration    float64 `json:"duration_seconds"`
		Complete    bool    `json:"complete"`
		Error       string  `json:"error"`
		ErrorOffset *int64  `json:"error_offset"`
		SHA256      string  `json:"sha256"`
		Oddities    []struct {
			Kind  string `json:"kind"`
			First int    `json:"first_packet"`
		} `json:"oddities"`
	} `json:"rows"`
}

func infoOf(t *testing.T, got outcome) infoDocument {
	t.Helper()
	var doc infoDocument
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	return doc
}

func TestPcapInfo(t *testing.T) {
	whole := smallCapture()
	file := captureFile(t, whole)
	got := session{}.run(t.Context(), t, "pcap", "info", file, "-o", "json")
	row := infoOf(t, got).Rows[0]
	if got.code != 0 || row.Packets != 2 || row.DataBytes != 1042 || row.First != "2023-11-14T22:13:20Z" || row.Duration != 2.5 || !row.Complete {
		t.Errorf("%+v", got)
	}
	if len(row.Oddities) != 1 || row.Oddities[0].Kind != "unknown_arp_operation" || row.Oddities[0].First != 2 {
		t.Errorf("oddities %+v", row.Oddities)
	}
	stdin := session{stdin: string(pcaptest.Gzip(whole))}.run(t.Context(), t, "pcap", "info", "-", "-o", "json")
	if row := infoOf(t, stdin).Rows[0]; stdin.code != 0 || row.Packets != 2 || row.File != "-" {
		t.Errorf("stdin: %+v", stdin)
	}
	people := session{}.run(t.Context(), t, "pcap", "info", file)
	for _, line := range []string{"Packets         2\n", "Duration        2.5 s\n", "Cut packets     1, to 42 to 42 bytes\n", "unknown arp operation: 1 packets, the first is number 2\n"} {
		if !strings.Contains(people.out, line) {
			t.Errorf("no %q in\n%s", line, people.out)
		}
	}
	table := session{}.run(t.Context(), t, "pcap", "info", "--no-hash", file, file)
	if strings.Count(table.out, "\n") != 3 {
		t.Errorf("table:\n%s", table.out)
	}
}

// A damaged file gives its figures up to there and exit code 4; the files after
// it are read all the same.
func TestPcapInfoOfDamage(t *testing.T) {
	whole := smallCapture()
	cut := captureFile(t, whole[:len(whole)-5])
	good := captureFile(t, whole)
	for _, flags := range [][]string{nil, {"--no-hash"}} {
		got := session{}.run(t.Context(), t, append([]string{"pcap", "info", cut, good, "-o", "json"}, flags...)...)
		rows := infoOf(t, got).Rows
		if got.code != fault.ExitUsage || len(rows) != 2 || rows[0].Packets != 1 || rows[0].Complete || rows[1].Packets != 2 {
			t.Fatalf("%+v", got)
		}
		if rows[0].ErrorOffset == nil || *rows[0].ErrorOffset != 24+16+42 || !strings.Contains(got.errOut, "offset 82") || rows[0].FileBytes != int64(len(whole)-5) {
			t.Errorf("row %+v, stderr %s", rows[0], got.errOut)
		}
		if (rows[0].SHA256 == "") != (flags != nil) {
			t.Errorf("flags %q, hash %q", flags, rows[0].SHA256)
		}
	}
	for name, args := range map[string][]string{
		"no capture": {captureFile(t, []byte("tcpdump: eth9: no such device"))},
		"empty":      {captureFile(t, nil)},
		"missing":    {filepath.Join(t.TempDir(), "none")},
		"directory":  {t.TempDir()},
		"no file":    {},
	} {
		if got := (session{}).run(t.Context(), t, append([]string{"pcap", "info"}, args...)...); got.code != fault.ExitUsage || got.out != "" || got.errOut == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := (session{terminal: true}).run(t.Context(), t, "pcap", "info", "-"); got.code != fault.ExitUsage {
		t.Errorf("terminal: %+v", got)
	}
}

// A comment of a capture is text of a stranger.
func TestPcapInfoCleansText(t *testing.T) {
	n := pcaptest.NG{}
	file := captureFile(t, append(n.Section(pcaptest.Text(1, "\x1b[2Jgone\nSHA-256 forged")), n.Interface(1, 0, pcaptest.Text(2, "e\x1bth"))...))
	got := session{}.run(t.Context(), t, "pcap", "info", file)
	if strings.Contains(got.out, "\x1b") || strings.Contains(got.out, "\nSHA-256 forged") || !strings.Contains(got.out, "gone") {
		t.Errorf("%q", got.out)
	}
}

// Ctrl-C ends the wait for a pipe that says nothing.
func TestPipeEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	quiet, end := io.Pipe()
	defer func() { _ = end.Close() }()
	r := follow(ctx, quiet, nil)
	cancel()
	done := make(chan error, 1)
	go func() { _, err := r.Read(make([]byte, 1)); done <- err }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("read something")
		}
	case <-time.After(5 * time.Second):
		t.Error("still waits")
	}
}
