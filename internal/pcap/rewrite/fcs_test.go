package rewrite_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capfleet/internal/pcap"
)

// A frame check sequence that was right is right after any rules, and what is none, or
// was wrong, stays.
func TestFrameCheckSequence(t *testing.T) {
	t.Parallel()
	all := packets(t)
	good := make([][]byte, 0, len(all))
	for _, data := range all {
		good = append(good, binary.LittleEndian.AppendUint32(slices.Clone(data), crc32.ChecksumIEEE(data)))
	}
	for name, rules := range corpusRules {
		out, _ := rewritten(t, rules, good)
		if bad := badFrames(t, out); bad != "" {
			t.Errorf("%s: wrong are %s", name, bad)
		}
		spoilt := slices.Clone(good[0])
		spoilt[len(spoilt)-1] ^= 1
		if out, _ := rewritten(t, rules, [][]byte{spoilt}); !bytes.HasSuffix(out[0], spoilt[len(spoilt)-4:]) {
			t.Errorf("%s: four bytes that are no checksum became %x", name, out[0][len(out[0])-4:])
		}
	}
	if bad := badFrames(t, [][]byte{all[0]}); bad != "1" {
		t.Errorf("tshark finds frames %q wrong of one that is", bad)
	}
}

// badFrames asks tshark which frames have a wrong frame check sequence.
func badFrames(t *testing.T, frames [][]byte) string {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriterOf(&b, pcap.Interface{Link: pcap.LinkEthernet, FCSLength: 4}, pcap.Microseconds)
	for _, data := range frames {
		err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Data: data, Length: uint32(len(data))}))
	}
	file := filepath.Join(t.TempDir(), "frames.pcap")
	if err := errors.Join(err, w.Flush(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "tshark", "-r", file, "-o", "eth.check_fcs:TRUE", "-Y", "!(eth.fcs.status == 1)", "-T", "fields", "-e", "frame.number").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}
