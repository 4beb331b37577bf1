package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/leaktest"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/pcaptest"
	"capfleet/internal/pcap/replay"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// capture gives datagrams at the given seconds, with a TCP segment between them.
func capture(t *testing.T, seconds ...float64) *pcap.Reader {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 0, pcap.Nanoseconds)
	write := func(at float64, data []byte, length int) {
		err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Data: data, Length: uint32(length),
			Time: pcap.Timestamp{Sec: 1e9}.Add(time.Duration(at * 1e9))}))
	}
	for i, at := range seconds {
		udp := pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP(fmt.Append(nil, "datagram ", i)...)...)...)
		write(at, udp, len(udp))
		tcp := pcaptest.Ethernet(0x0800, pcaptest.IPv4(6, 0, nil, pcaptest.TCP(1, 2, 0x10, nil)...)...)
		write(at, tcp, len(tcp))
		write(at, udp[:len(udp)-3], len(udp))
	}
	part := pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0x2000, nil, pcaptest.UDP(1, 2, 3)...)...)
	write(0, part, len(part))
	if err := errors.Join(err, w.Flush()); err != nil {
		t.Fatal(err)
	}
	r, err := pcap.NewReader(&b, pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sink notes what is sent, and when.
type sink struct {
	sent  []string
	after []time.Duration
	start time.Time
	fail  error
}

func (s *sink) Send(data []byte) error {
	s.sent = append(s.sent, string(data))
	s.after = append(s.after, time.Since(s.start))
	return s.fail
}

func (s *sink) Close() error { return nil }

func TestPace(t *testing.T) {
	t.Parallel()
	const payload = len("datagram 0")
	for name, c := range map[string]struct {
		pace replay.Pace
		want []time.Duration
	}{
		"as captured": {replay.Pace{}, []time.Duration{0, 2 * time.Second, 2 * time.Second, 7 * time.Second}},
		"twice":       {replay.Pace{Speed: 2}, []time.Duration{0, time.Second, time.Second, 3500 * time.Millisecond}},
		"packets":     {replay.Pace{PacketsPerSecond: 4}, []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond, 750 * time.Millisecond}},
		"bits":        {replay.Pace{BitsPerSecond: 8 * float64(payload)}, []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}},
		"flat":        {replay.Pace{Flat: true}, []time.Duration{0, 0, 0, 0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			to := &sink{start: time.Now()}
			// The third is older than the second: it is sent at once.
			result, err := replay.Run(t.Context(), capture(t, 0, 2, 1.5, 7), to, replay.Options{Pace: c.pace, Payloads: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, to.after); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			want := replay.Result{Packets: 13, Sent: 4, Bytes: uint64(4 * payload), Other: 4, Cut: 4, Fragments: 1, Seconds: c.want[3].Seconds()}
			got := result
			got.LateSeconds = 0
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		})
	}
}

func TestEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		to := &sink{start: time.Now()}
		result, err := replay.Run(ctx, capture(t, 0, 2, 1e6), to, replay.Options{Payloads: true})
		if !errors.Is(err, context.DeadlineExceeded) || result.Sent != 2 || time.Since(to.start) != 3*time.Second {
			t.Errorf("%+v, %v after %v", result, err, time.Since(to.start))
		}
	})
}

func TestFailuresAreCounted(t *testing.T) {
	t.Parallel()
	to := &sink{fail: errors.New("no buffer space")}
	result, err := replay.Run(t.Context(), capture(t, 0, 0, 0), to, replay.Options{Payloads: true, Limit: 2})
	if err != nil || result.Failed != 2 || result.Sent != 0 || result.FirstFailure != "no buffer space" || len(to.sent) != 2 {
		t.Errorf("%+v, %v", result, err)
	}
	for _, pace := range []replay.Pace{{Speed: -1}, {Speed: 1, Flat: true}, {PacketsPerSecond: 1, BitsPerSecond: 1}} {
		if _, err := replay.Run(t.Context(), capture(t), to, replay.Options{Pace: pace}); err == nil {
			t.Errorf("%+v was taken", pace)
		}
	}
}

// A real receiver gets the payloads as they were, in order.
func TestUDPReceiver(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	to, err := replay.UDP(t.Context(), conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	result, err := replay.Run(t.Context(), capture(t, 0, 0.001, 0.002), to, replay.Options{Payloads: true, Port: 4739})
	if err != nil || result.Sent != 3 {
		t.Fatalf("%+v, %v", result, err)
	}
	var got []string
	for range 3 {
		b := make([]byte, 100)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b[:n]))
	}
	if want := []string{"datagram 0", "datagram 1", "datagram 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if result, err = replay.Run(t.Context(), capture(t, 0), to, replay.Options{Payloads: true, Port: 53}); err != nil || result.Sent != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestDamagedCapture(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, pcap.LinkEthernet, 0, pcap.Nanoseconds)
	data := pcaptest.Ethernet(0x0800, pcaptest.IPv4(17, 0, nil, pcaptest.UDP('x')...)...)
	for range 2 {
		err = errors.Join(err, w.Write(&pcap.Packet{Link: pcap.LinkEthernet, HasTime: true, Data: data, Length: uint32(len(data))}))
	}
	if err := errors.Join(err, w.Flush()); err != nil {
		t.Fatal(err)
	}
	r, err := pcap.NewReader(bytes.NewReader(b.Bytes()[:b.Len()-1]), pcap.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	to := &sink{}
	result, err := replay.Run(t.Context(), r, to, replay.Options{})
	if !errors.Is(err, pcap.ErrTruncated) || result.Sent != 1 || !strings.HasPrefix(to.sent[0], string(data[:14])) {
		t.Errorf("%+v, %v", result, err)
	}
}
