package ipfix_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/pcap"
	"capfleet/internal/pcap/ipfix"
	"capfleet/internal/pcap/pcaptest"
)

func u16(v ...uint16) (b []byte) {
	for _, n := range v {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

func set(id uint16, body ...[]byte) []byte {
	b := bytes.Join(body, nil)
	return append(u16(id, uint16(len(b)+4)), b...)
}

// message gives a message of domain 7.
func message(sequence uint32, sets ...[]byte) []byte {
	b := bytes.Join(sets, nil)
	h := u16(10, uint16(len(b)+16))
	for _, v := range []uint32{1_700_000_000, sequence, 7} {
		h = binary.BigEndian.AppendUint32(h, v)
	}
	return append(h, b...)
}

func packet(number int, payload []byte) *pcap.Packet {
	data := pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP(payload...)...)...)
	return &pcap.Packet{Number: uint64(number), Link: pcap.LinkEthernet, HasTime: true, Time: pcap.Timestamp{Sec: 1_700_000_000 + int64(number)}, Data: data, Length: uint32(len(data))}
}

func decoded(t *testing.T, payloads ...[]byte) (records []*ipfix.Record, s ipfix.Summary) {
	t.Helper()
	d := ipfix.New(func(r *ipfix.Record) error { records = append(records, r); return nil })
	for i, p := range payloads {
		if err := d.Packet(packet(i+1, p)); err != nil {
			t.Fatal(err)
		}
	}
	return records, d.Summary()
}

// flows is a template with a field of every kind, and a record of it.
func flows() (template, record []byte) {
	template = set(2, u16(256, 10,
		8, 4, 27, 16, 7, 2, 1, 4, // octetDeltaCount with 4 of its 8 bytes
		82, 65535, 56, 6, 152, 8, 154, 8, 0x8000|999, 3), []byte{0, 0, 0x17, 0x3f}, u16(1, 4))
	record = bytes.Join([][]byte{{192, 0, 2, 1}, net.ParseIP("2001:db8::9"), u16(443), {0, 0, 1, 0}, {4, 'e', 't', 'h', '0'}, {2, 0, 0, 0, 0, 1},
		binary.BigEndian.AppendUint64(nil, 1_700_000_000_123), append(binary.BigEndian.AppendUint32(nil, 1_700_000_000+2208988800), 0x80, 0, 0, 0), {0xab, 0xcd, 0xef}, {0, 0, 0, 9}}, nil)
	return template, record
}

func TestRecord(t *testing.T) {
	t.Parallel()
	template, record := flows()
	records, s := decoded(t, message(0, template, set(256, record, record, []byte{0, 0})))
	if s.Records != 2 || s.Templates != 1 || s.Malformed != 0 || len(records) != 2 {
		t.Fatalf("%+v", s)
	}
	got, err := json.Marshal(records[1])
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"packet":1,"time":"2023-11-14T22:13:21Z","export_time":"2023-11-14T22:13:20Z","exporter":"10.0.0.1:4000","collector":"10.0.0.2:4739",` +
		`"observation_domain":7,"sequence":0,"template":256,"fields":{"5951/999":"abcdef","flowStartMicroseconds":"2023-11-14T22:13:20.5Z","flowStartMilliseconds":"2023-11-14T22:13:20.123Z",` +
		`"interfaceName":"eth0","octetDeltaCount":[256,9],"sourceIPv4Address":"192.0.2.1","sourceIPv6Address":"2001:db8::9","sourceMacAddress":"02:00:00:00:00:01","sourceTransportPort":443}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Templates come when they come: what waited for one is told then, and a later one
// under the same number is another.
func TestTemplatesAreLearned(t *testing.T) {
	t.Parallel()
	port := set(2, u16(300, 1, 7, 2))
	octets := set(2, u16(300, 1, 1, 2))
	records, s := decoded(t,
		message(0, set(300, u16(1))),         // waits
		message(1, port, set(300, u16(2))),   // tells it
		message(2, octets, set(300, u16(3))), // means another thing
		message(3, set(2, u16(300, 0)), set(300, u16(4))),
		message(4, set(301, u16(5))))
	var got []string
	for _, r := range records {
		got = append(got, fmt.Sprint(r.Packet, r.Fields))
	}
	want := []string{"1 map[sourceTransportPort:1]", "2 map[sourceTransportPort:2]", "3 map[octetDeltaCount:3]"}
	if diff := cmp.Diff(want, got); diff != "" || s.Untold != 2 || s.Malformed != 0 || s.Missing != 0 {
		t.Errorf("%+v (-want +got):\n%s", s, diff)
	}
}

func TestMissingRecords(t *testing.T) {
	t.Parallel()
	port := set(2, u16(300, 1, 7, 2))
	_, s := decoded(t, message(5, port, set(300, u16(1, 2))), message(7, set(300, u16(3))), message(18, set(300, u16(4))), message(19, set(300, u16(4))))
	if s.Missing != 10 || s.Records != 5 {
		t.Errorf("%+v", s)
	}
	// From the end of the numbers to their beginning nothing is missing.
	_, s = decoded(t, message(0xffffffff, port, set(300, u16(1, 2))), message(1, set(300, u16(3))))
	if s.Missing != 0 {
		t.Errorf("%+v", s)
	}
}

func TestOptionsAndLists(t *testing.T) {
	t.Parallel()
	options := set(3, u16(400, 2, 1, 149, 4, 41, 2))
	lists := set(2, u16(401, 3, 291, 65535, 292, 65535, 293, 65535))
	port := set(2, u16(300, 1, 7, 2))
	basic := append([]byte{3}, u16(7, 2, 80, 443)...)
	sub := append([]byte{4}, u16(300, 22, 23)...)
	multi := append([]byte{0}, append(u16(300, 6, 53), u16(300, 8, 54, 55)...)...)
	record := bytes.Join([][]byte{{byte(len(basic))}, basic, {255, 0, byte(len(sub))}, sub, {byte(len(multi))}, multi}, nil)
	records, s := decoded(t, message(0, options, port, lists, set(400, []byte{0, 0, 0, 7}, u16(99)), set(401, record)))
	if s.Records != 2 || s.Malformed != 0 {
		t.Fatalf("%+v", s)
	}
	if diff := cmp.Diff(map[string]any{"observationDomainId": uint64(7)}, records[0].Scope); diff != "" {
		t.Error(diff)
	}
	got, err := json.Marshal(records[1].Fields)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"basicList":{"semantic":"allOf","element":"sourceTransportPort","values":[80,443]},` +
		`"subTemplateList":{"semantic":"ordered","values":[{"sourceTransportPort":22},{"sourceTransportPort":23}]},` +
		`"subTemplateMultiList":{"semantic":"noneOf","values":[{"sourceTransportPort":53},{"sourceTransportPort":54},{"sourceTransportPort":55}]}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	port := set(2, u16(300, 1, 7, 2))
	for name, sets := range map[string][]byte{
		"set too long":         u16(300, 99, 1),
		"set too short":        u16(300, 3),
		"reserved set":         set(5, u16(1)),
		"template of no bytes": set(2, u16(301, 1, 7, 0)),
		"template too short":   set(2, u16(301, 2, 7, 2)),
		"low template":         set(2, u16(7, 1, 7, 2)),
		"scope too large":      set(3, u16(301, 1, 2, 7, 2)),
		"value too long":       append(set(2, u16(301, 2, 82, 65535, 7, 2)), set(301, []byte{200, 1, 2, 3})...),
	} {
		records, s := decoded(t, message(0, port, set(300, u16(1)), sets))
		if s.Malformed != 1 || len(records) != 1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if _, s := decoded(t, []byte("\x00\x0a no message"), u16(10, 17, 0), nil); s.Messages != 0 {
		t.Errorf("%+v", s)
	}
	d := ipfix.New(func(*ipfix.Record) error { return nil })
	p := packet(1, message(0, port, set(300, u16(1))))
	p.Data = p.Data[:len(p.Data)-1]
	if err := d.Packet(p); err != nil || d.Summary().Cut != 1 {
		t.Errorf("%+v, %v", d.Summary(), err)
	}
	stop := errors.New("stop")
	d = ipfix.New(func(*ipfix.Record) error { return stop })
	if err := d.Packet(packet(1, message(0, port, set(300, u16(1))))); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// What is read of messages with many templates is what tshark reads of them.
func TestAsTshark(t *testing.T) {
	t.Parallel()
	var payloads [][]byte
	sequence := uint32(0)
	for i := range 40 {
		// The elements in another order each time, under a number of their own: tshark
		// keeps the first template of a number.
		id, fields := uint16(256+i), [][2]uint16{{1, 8}, {2, 4}, {7, 2}, {82, 65535}}
		var template []uint16
		var record []byte
		for j := range fields {
			f := fields[(i/2+j)%len(fields)]
			template = append(template, f[0], f[1])
			switch f[1] {
			case 8:
				record = binary.BigEndian.AppendUint64(record, uint64(i)<<33+5)
			case 4:
				record = binary.BigEndian.AppendUint32(record, uint32(i*1000))
			case 2:
				record = append(record, u16(uint16(i))...)
			default:
				record = append(append(record, byte(i)), bytes.Repeat([]byte{'e'}, i)...)
			}
		}
		payloads = append(payloads, message(sequence, set(2, u16(append([]uint16{id, uint16(len(fields))}, template...)...)), set(id, record, record)))
		sequence += 2
	}
	capture := filepath.Join(t.TempDir(), "flows.pcap")
	save(t, capture, func(add func([]byte)) {
		for _, p := range payloads {
			add(pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP(p...)...)...))
		}
	})
	records, s := decoded(t, payloads...)
	var got []string
	for _, r := range records {
		got = append(got, fmt.Sprintf("%v %v %v", r.Fields["octetDeltaCount"], r.Fields["packetDeltaCount"], r.Fields["sourceTransportPort"]))
	}
	out, err := exec.CommandContext(t.Context(), "tshark", "-r", capture, "-d", "udp.port==4739,cflow", "-T", "fields", "-e", "cflow.octets", "-e", "cflow.packets", "-e", "cflow.srcport").Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		var columns [3][]string
		for i, c := range strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3) {
			columns[i] = strings.Split(c, ",")
		}
		for i := range columns[0] {
			want = append(want, columns[0][i]+" "+columns[1][i]+" "+columns[2][i])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 80 || s.Malformed != 0 || s.Untold != 0 || s.Missing != 0 {
		t.Errorf("%+v (-tshark +ours):\n%s", s, diff)
	}
}

func save(t *testing.T, name string, fill func(add func([]byte))) {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 0, pcap.Microseconds)
	n := 0
	fill(func(data []byte) {
		n++
		err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Time: pcap.Timestamp{Sec: 1_700_000_000, Nanos: uint32(n) * 1000}, Data: data, Length: uint32(len(data))}))
	})
	if err := errors.Join(err, w.Flush(), os.WriteFile(name, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// tshark knows the same elements by the same numbers: the name it gives to a field of
// a template is ours but for how it is spelt.
func TestElementsAsTsharkNamesThem(t *testing.T) {
	t.Parallel()
	var templates []byte
	for number := range uint16(19) { // tshark takes 60 fields a template
		fields := u16(256+number, 25)
		for id := range uint16(25) {
			fields = append(fields, u16(25*number+id, 4)...)
		}
		templates = append(templates, set(2, fields)...)
	}
	capture := filepath.Join(t.TempDir(), "templates.pcap")
	save(t, capture, func(add func([]byte)) {
		add(pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP(message(0, templates)...)...)...))
	})
	out, err := exec.CommandContext(t.Context(), "tshark", "-r", capture, "-d", "udp.port==4739,cflow", "-V").Output()
	if err != nil {
		t.Fatal(err)
	}
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '_' || r == '-' || r == ' ' {
				return -1
			}
			return r
		}, strings.ToLower(s))
	}
	same := 0
	var other []string
	for line := range strings.Lines(string(out)) {
		// .000 0000 0001 0111 = Type: postOctetDeltaCount (23)
		_, typed, _ := strings.Cut(strings.TrimSpace(line), " = Type: ")
		name, number, _ := strings.Cut(typed, " (")
		id, err := strconv.ParseUint(strings.TrimSuffix(number, ")"), 10, 16)
		if err != nil {
			continue
		}
		switch ours := ipfix.ElementName(uint16(id)); {
		case ours == "":
		case plain(ours) == plain(name):
			same++
		default:
			other = append(other, ours+" "+name)
		}
	}
	t.Logf("%d names are the same; spelt otherwise: %s", same, strings.Join(other, ", "))
	if same < 200 {
		t.Errorf("only %d names are the same", same)
	}
}

func FuzzDecoder(f *testing.F) {
	template, record := flows()
	f.Add(message(0, template, set(256, record)), message(1, set(256, record)))
	f.Add(message(0, set(3, u16(400, 2, 1, 149, 4, 41, 2))), message(0, set(2, u16(401, 1, 291, 65535)), set(401, []byte{9, 3, 0, 7, 0, 2, 0, 80, 1, 187})))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		n := 0
		d := ipfix.New(func(r *ipfix.Record) error {
			n++
			if _, err := json.Marshal(r); err != nil {
				t.Fatal(err)
			}
			return nil
		})
		for i, payload := range [][]byte{one, two} {
			if len(payload) < 60000 {
				if err := d.Packet(packet(i, payload)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n > len(one)+len(two) {
			t.Fatalf("%d records in %d bytes", n, len(one)+len(two))
		}
	})
}
