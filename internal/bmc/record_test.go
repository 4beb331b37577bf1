package bmc_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/bmc"
	"capfleet/internal/bmc/bmctest"
	"capfleet/internal/fault"
)

// probeLog is the log of a probe's BMC: 17 records, oldest first.
func probeLog(t testing.TB) [][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/probe.sel")
	if err != nil {
		t.Fatal(err)
	}
	var log [][]byte
	for line := range strings.Lines(string(text)) {
		log = append(log, unhex(t, line))
	}
	return log
}

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.TrimSpace(digits))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func decode(t testing.TB, digits string) bmc.Entry {
	t.Helper()
	e, err := bmc.Decode(unhex(t, digits))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDecodeProbeLog(t *testing.T) {
	t.Parallel()
	var got []string
	for i, raw := range probeLog(t) {
		e, err := bmc.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if e.RecordID != uint64(i+1) || e.Time == nil {
			t.Errorf("record %d: id %d, time %v", i+1, e.RecordID, e.Time)
			continue
		}
		place := ""
		if e.Bus != nil {
			place = fmt.Sprintf(" %02x:%02x.%d", *e.Bus, *e.Device, *e.Function)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s: %s%s", e.Time.Format(time.DateTime), e.Severity, e.Kind, e.SensorType, e.Event, place))
	}
	const (
		intrusion = "warning other Physical Security: General Chassis Intrusion"
		serr      = "critical pci_serr Critical Interrupt: PCI SERR 80:02.2"
		oem       = "ok other OEM 0xc8: OEM event 0x0"
	)
	want := []string{
		"2019-04-27 11:44:30 " + intrusion,
		"2019-06-12 19:01:38 " + serr,
		"2019-06-14 18:10:39 " + oem,
		"2019-06-14 18:14:23 " + intrusion,
		"2019-06-14 19:20:16 " + serr,
		"2019-06-17 18:30:51 " + oem,
		"2019-06-17 18:34:34 " + intrusion,
		"2019-06-17 19:17:55 " + serr,
		"2019-06-17 19:46:05 " + oem,
		"2019-06-17 19:49:53 " + intrusion,
		"2019-06-18 13:04:42 " + oem,
		"2019-06-18 13:08:28 " + intrusion,
		"2019-06-18 15:25:47 " + oem,
		"2019-06-18 15:29:31 " + intrusion,
		"2019-06-18 17:59:54 " + oem,
		"2019-06-18 18:03:41 " + intrusion,
		"2019-06-18 20:38:09 " + serr,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	for digits, want := range map[string]string{
		"020002124c015d33000413006fa58012": `{"record_id":2,"time":"2019-06-12T19:01:38Z","severity":"critical","kind":"pci_serr","bus":128,"device_number":2,"function":2,"sensor_type":"Critical Interrupt","sensor_number":0,"event":"PCI SERR","raw":"020002124c015d33000413006fa58012"}`,
		"0100029e40c45c20000405516ff0ffff": `{"record_id":1,"time":"2019-04-27T11:44:30Z","severity":"warning","kind":"other","bus":null,"device_number":null,"function":null,"sensor_type":"Physical Security","sensor_number":81,"event":"General Chassis Intrusion","raw":"0100029e40c45c20000405516ff0ffff"}`,
		"0300e10102030405060708090a0b0c0d": `{"record_id":3,"time":null,"severity":"ok","kind":"other","bus":null,"device_number":null,"function":null,"sensor_type":"","sensor_number":null,"event":"OEM record 0xe1","raw":"0300e10102030405060708090a0b0c0d"}`,
	} {
		got, err := json.Marshal(decode(t, digits))
		if err != nil || string(got) != want {
			t.Errorf("%s, %v\n got %s\nwant %s", digits, err, got, want)
		}
	}
}

func TestDecodePCI(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tail     string // the bytes from event type on
		kind     bmc.Kind
		severity bmc.Severity
		place    string
		event    string
	}{
		"front panel NMI":      {"6fa08012", bmc.NMI, bmc.Warning, "", "NMI/Diagnostic Interrupt"},
		"bus timeout":          {"6fa18012", bmc.PCIOther, bmc.Warning, "80:02.2", "Bus Timeout"},
		"channel check":        {"6f02ffff", bmc.NMI, bmc.Warning, "", "I/O Channel Check NMI"},
		"software NMI":         {"6f03ffff", bmc.NMI, bmc.Warning, "", "Software NMI"},
		"PERR":                 {"6fa400ff", bmc.PCIPerr, bmc.Critical, "00:1f.7", "PCI PERR"},
		"SERR":                 {"6fa58012", bmc.PCISerr, bmc.Critical, "80:02.2", "PCI SERR"},
		"EISA":                 {"6f06ffff", bmc.PCIOther, bmc.Warning, "", "EISA Fail Safe Timeout"},
		"correctable":          {"6fa7ff00", bmc.PCIeCorrectable, bmc.Warning, "ff:00.0", "Bus Correctable Error"},
		"non-fatal":            {"6fa83b08", bmc.PCIeNonFatal, bmc.Critical, "3b:01.0", "Bus Uncorrectable Error"},
		"fatal NMI":            {"6f09ffff", bmc.NMI, bmc.Critical, "", "Fatal NMI"},
		"fatal":                {"6faa8012", bmc.PCIeFatal, bmc.Critical, "80:02.2", "Bus Fatal Error"},
		"degraded":             {"6fab8012", bmc.PCIOther, bmc.Warning, "80:02.2", "Bus Degraded"},
		"reserved offset":      {"6faf8012", bmc.PCIOther, bmc.Critical, "80:02.2", "event 0xf of reading type 0x6f"},
		"extension codes":      {"6ff58012", bmc.PCISerr, bmc.Critical, "80:02.2", "PCI SERR"},
		"bytes unspecified":    {"6f058012", bmc.PCISerr, bmc.Critical, "", "PCI SERR"},
		"bytes of other sense": {"6f558012", bmc.PCISerr, bmc.Critical, "", "PCI SERR"},
		"all ones":             {"6fa5ffff", bmc.PCISerr, bmc.Critical, "", "PCI SERR"},
		"bus alone":            {"6f8580ff", bmc.PCISerr, bmc.Critical, "80:", "PCI SERR"},
		"deasserted":           {"efa58012", bmc.PCISerr, bmc.OK, "80:02.2", "PCI SERR (deasserted)"},
		"generic event":        {"0301ffff", bmc.PCIOther, bmc.OK, "", "State Asserted"},
		"generic severity":     {"0702ffff", bmc.PCIOther, bmc.Critical, "", "Transition to Critical from less severe"},
		"OEM reading type":     {"7001ffff", bmc.PCIOther, bmc.OK, "", "OEM event 0x1"},
	} {
		e := decode(t, "020002124c015d3300041300"+c.tail)
		place := ""
		if e.Bus != nil {
			place = fmt.Sprintf("%02x:", *e.Bus)
		}
		if e.Device != nil {
			place += fmt.Sprintf("%02x.%d", *e.Device, *e.Function)
		}
		if e.Kind != c.kind || e.Severity != c.severity || place != c.place || e.Event != c.event {
			t.Errorf("%s: %s %s %q %q, want %s %s %q %q", name, e.Kind, e.Severity, place, e.Event, c.kind, c.severity, c.place, c.event)
		}
	}
}

func TestDecodeTime(t *testing.T) {
	t.Parallel()
	at := func(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.DateTime) }
	for digits, want := range map[string]string{
		"010002110200002000041300" + "6fa58012": "", // 529 s after the start
		"010002000000202000041300" + "6fa58012": "", // the last value that counts from the start
		"010002010000202000041300" + "6fa58012": at(0x20000001),
		"010002ffffffff2000041300" + "6fa58012": "",
		"010002feffffff2000041300" + "6fa58012": at(0xfffffffe),
		"0100c0124c015d" + "000102030405060708": "2019-06-12 19:01:38",
		"0100df124c015d" + "000102030405060708": "2019-06-12 19:01:38",
		"0100e0124c015d" + "000102030405060708": "",
		"0100ff124c015d" + "000102030405060708": "",
		"010003124c015d" + "000102030405060708": "",
		"0100df01000000" + "ffffffffffffffffff": "",
	} {
		e, got := decode(t, digits), ""
		if e.Time != nil {
			got = e.Time.Format(time.DateTime)
		}
		if got != want {
			t.Errorf("%s: time %q, want %q", digits, got, want)
		}
	}
}

func TestDecodeLength(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 15, 17, 32} {
		if _, err := bmc.Decode(make([]byte, n)); !fault.Is(err, fault.Unparsed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// wording maps ipmitool's words to ours, where they differ by more than case and
// punctuation. All else must agree.
var wording = strings.NewReplacer(
	"config error", "configuration error",
	"init failure", "initialization failure",
	"nmi diag interrupt", "nmi diagnostic interrupt",
	"power off down", "power off power down",
	"eisa failsafe", "eisa fail safe",
	"hardware change success", "hardware change successful",
	"s1 sleeping with system hw processor context maintained", "s1 sleeping hardware and processor context maintained",
	"s3 sleeping processor hw context lost memory retained", "s3 sleeping memory retained",
	"s4 non volatile sleep suspend to disk", "s4 suspend to disk",
	"unknown error", "system firmware error",
	"unknown hang", "system firmware hang",
	"unknown progress", "system firmware progress",
	"system firmwares", "system firmware progress",
	"drive slot bay", "drive slot",
	"watchdog1", "watchdog 1",
	"watchdog2", "watchdog 2",
	"management subsys ", "management subsystem ",
)

func plain(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9') })
	return strings.Join(words, " ")
}

// TestNamesAgreeWithIPMITool puts every sensor type with every offset, and every
// generic event, into the log of ipmi_sim and has ipmitool name them.
func TestNamesAgreeWithIPMITool(t *testing.T) {
	t.Parallel()
	var log [][]byte
	add := func(sensor, reading, offset byte) {
		id := len(log) + 1
		log = append(log, []byte{byte(id), byte(id >> 8), 2, 0xb1, 0x4b, 9, 0x5d, 0x20, 0, 4, sensor, 1, reading, offset, 0xff, 0xff})
	}
	for sensor := byte(1); sensor <= 0x2c; sensor++ {
		for offset := range byte(16) {
			add(sensor, 0x6f, offset)
		}
	}
	for reading := byte(1); reading <= 0x0c; reading++ {
		for offset := range byte(16) {
			add(1, reading, offset)
		}
	}
	lines := bmctest.StartIPMISim(t, log).SELList(t)
	if len(lines) != len(log) {
		t.Fatalf("ipmitool lists %d of %d records", len(lines), len(log))
	}
	named := 0
	for i, raw := range log {
		e, err := bmc.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		sensor, _, _ := strings.Cut(lines[i][3], " #")
		if !strings.HasPrefix(plain(e.SensorType), wording.Replace(plain(sensor))) {
			t.Errorf("sensor type 0x%02x: %q, ipmitool says %q", raw[10], e.SensorType, sensor)
		}
		// ipmitool has fewer names, and calls a reserved offset so.
		if name := lines[i][4]; name != "" && name != "reserved" {
			named++
			if plain(e.Event) != wording.Replace(plain(name)) {
				t.Errorf("% x: %q, ipmitool says %q", raw[10:14], e.Event, name)
			}
		}
	}
	if named < 250 {
		t.Errorf("compared only %d names", named)
	}
}

// FuzzDecode: every 16 bytes are an entry with sane fields, whose raw form gives
// the same entry; anything else is refused.
func FuzzDecode(f *testing.F) {
	for _, raw := range probeLog(f) {
		f.Add(raw)
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 16))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := bmc.Decode(raw)
		if (err == nil) != (len(raw) == bmc.RecordSize) {
			t.Fatalf("%d bytes: %v", len(raw), err)
		}
		if err != nil {
			return
		}
		if e.Event == "" || e.Kind == "" || e.Severity == "" {
			t.Fatalf("an unnamed entry: %+v", e)
		}
		if e.Time != nil && (e.Time.Year() < 1987 || e.Time.Year() > 2106) {
			t.Fatalf("time %v", e.Time)
		}
		if e.Device != nil && (*e.Device > 31 || *e.Function > 7) {
			t.Fatalf("place %d.%d", *e.Device, *e.Function)
		}
		if e.Bus != nil && (e.Kind == bmc.Other || e.Kind == bmc.NMI) {
			t.Fatalf("a bus of kind %s", e.Kind)
		}
		again := decode(t, e.Raw)
		if diff := cmp.Diff(e, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
