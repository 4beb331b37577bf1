package bmc_test

import (
	"encoding/hex"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/bmc"
	"capfleet/internal/bmc/bmctest"
	"capfleet/internal/fault"
)

// relay passes datagrams between a reader and a BMC. What alter gives for the
// n-th datagram of a direction, from 0, is sent instead.
func relay(t testing.TB, target bmc.Target, alter func(fromBMC bool, n int, datagram []byte) [][]byte) bmc.Target {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp", net.JoinHostPort(target.Host, strconv.Itoa(target.Port)))
	if err != nil {
		t.Fatal(err)
	}
	var (
		wait   sync.WaitGroup
		mutex  sync.Mutex
		reader net.Addr
	)
	t.Cleanup(func() {
		_ = front.Close()
		_ = back.Close()
		wait.Wait()
	})
	wait.Go(func() {
		buffer := make([]byte, 2048)
		for n := 0; ; n++ {
			size, from, err := front.ReadFrom(buffer)
			if err != nil {
				return
			}
			mutex.Lock()
			reader = from
			mutex.Unlock()
			for _, d := range alter(false, n, buffer[:size]) {
				_, _ = back.Write(d)
			}
		}
	})
	wait.Go(func() {
		buffer := make([]byte, 2048)
		for n := 0; ; n++ {
			size, err := back.Read(buffer)
			if err != nil {
				return
			}
			mutex.Lock()
			to := reader
			mutex.Unlock()
			for _, d := range alter(true, n, buffer[:size]) {
				_, _ = front.WriteTo(d, to)
			}
		}
	})
	target.Host, target.Port = "127.0.0.1", front.LocalAddr().(*net.UDPAddr).Port
	return target
}

// TestLANOverABadNetwork: what is lost is asked for again, and what is doubled,
// damaged or made up is not taken.
func TestLANOverABadNetwork(t *testing.T) {
	t.Parallel()
	records := probeLog(t)
	var want []string
	for _, raw := range records {
		want = append(want, hex.EncodeToString(raw))
	}
	// A session that a BMC gave up over doubled datagrams costs all attempts.
	again := bmc.Options{LANTimeout: 120 * time.Millisecond, Attempts: 25}
	for name, alter := range map[string]func(bool, int, []byte) [][]byte{
		"every third lost": func(_ bool, n int, d []byte) [][]byte {
			if n%3 == 2 {
				return nil
			}
			return [][]byte{d}
		},
		"answers lost": func(fromBMC bool, n int, d []byte) [][]byte {
			if fromBMC && (n%5 == 0 || n%5 == 3) {
				return nil
			}
			return [][]byte{d}
		},
		"all doubled": func(_ bool, _ int, d []byte) [][]byte { return [][]byte{d, d} },
		"damaged copies first": func(fromBMC bool, n int, d []byte) [][]byte {
			if !fromBMC || len(d) < 60 {
				return [][]byte{d}
			}
			var sent [][]byte
			for _, at := range []int{30, 29, 16, 4, 5, 6, 10, 14, len(d) - 14, len(d) - 1} {
				bad := append([]byte(nil), d...)
				bad[at] ^= 0x55
				sent = append(sent, bad)
			}
			if d[5] == 0x11 || d[5] == 0x13 || d[5] == 0x15 {
				sent = nil // what sets the session up is proved only by RAKP
			}
			return append(sent, d[:len(d)-1], d[:20], nil, d)
		},
		"garbage": func(fromBMC bool, n int, d []byte) [][]byte {
			if !fromBMC {
				return [][]byte{d}
			}
			encrypted := []byte{6, 0, 0xff, 7, 6, 0xc0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 1, 2, 3}
			return [][]byte{{}, {6}, {6, 0, 0xff, 6, 0}, []byte("<html>not IPMI at all</html>"), encrypted, make([]byte, 1400), d}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := relay(t, serveSim(t, records), alter)
			log, err := openLAN(again)(t, target).Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range log.Entries {
				got = append(got, e.Raw)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("a late answer crosses", func(t *testing.T) {
		t.Parallel()
		var first []byte // RAKP message 2, which comes only when it has been asked for again
		crossed := false
		target := relay(t, serveSuite17(t, records), func(fromBMC bool, _ int, d []byte) [][]byte {
			switch {
			case !fromBMC || crossed || len(d) < 6 || d[5] != 0x13:
				return [][]byte{d}
			case first == nil:
				first = slices.Clone(d)
				return nil
			default:
				crossed = true
				return [][]byte{first, d}
			}
		})
		log, err := openLAN(again)(t, target).Read(t.Context())
		if err != nil || len(log.Entries) != len(records) || !crossed {
			t.Errorf("%d entries, crossed: %v: %v", len(log.Entries), crossed, err)
		}
	})
	t.Run("cut in the middle", func(t *testing.T) {
		t.Parallel()
		target := relay(t, serveSim(t, records), func(_ bool, n int, d []byte) [][]byte {
			if n > 8 {
				return nil
			}
			return [][]byte{d}
		})
		// One attempt: a datagram that is sent again would come before the cut.
		log, err := openLAN(bmc.Options{LANTimeout: 2 * time.Second, Attempts: 1})(t, target).Read(t.Context())
		if !fault.Is(err, fault.Timeout) || len(log.Entries) == 0 || len(log.Entries) == len(records) {
			t.Errorf("%d entries, kind %s: %v", len(log.Entries), fault.KindOf(err), err)
		}
	})
}

// TestLANOneAttemptPerAccount: a wrong password is tried once, not once for each
// cipher suite.
func TestLANOneAttemptPerAccount(t *testing.T) {
	t.Parallel()
	var mutex sync.Mutex
	tries := map[byte]bool{} // by tag, which a message that is sent again keeps
	target := relay(t, serveSim(t, probeLog(t)), func(fromBMC bool, _ int, d []byte) [][]byte {
		if !fromBMC && len(d) > 16 && d[5] == 0x12 { // RAKP message 1
			mutex.Lock()
			tries[d[16]] = true
			mutex.Unlock()
		}
		return [][]byte{d}
	})
	target.Username = "nobody"
	if _, err := openLAN(unhurried)(t, target).Read(t.Context()); !fault.Is(err, fault.Auth) {
		t.Errorf("kind %s: %v", fault.KindOf(err), err)
	}
	if mutex.Lock(); len(tries) != 1 {
		t.Errorf("the account was tried %d times", len(tries))
	}
	mutex.Unlock()
}

func TestLANNobodyThere(t *testing.T) {
	t.Parallel()
	closed := bmctest.SilentUDP(t)
	for name, c := range map[string]struct {
		target bmc.Target
		kind   fault.Kind
	}{
		"silent":  {bmctest.SilentUDP(t), fault.Timeout},
		"no name": {bmc.Target{Host: "bmc.invalid", Port: closed.Port}, fault.Unreachable},
	} {
		if _, err := openLAN(quick)(t, c.target).Read(t.Context()); !fault.Is(err, c.kind) {
			t.Errorf("%s: kind %s: %v", name, fault.KindOf(err), err)
		}
	}
}

// TestLANManyAtOnceWithLoss: a hundred logs are read at once over a network that
// loses every tenth datagram, and each is whole.
func TestLANManyAtOnceWithLoss(t *testing.T) {
	t.Parallel()
	records := probeLog(t)[:8]
	patient := bmc.Options{LANTimeout: 500 * time.Millisecond, Attempts: 10} // a hundred sessions at once take a busy machine a while
	var wait sync.WaitGroup
	for reader := range 100 {
		target := relay(t, serveSuite17(t, records), func(_ bool, n int, d []byte) [][]byte {
			if n%10 == reader%10 {
				return nil
			}
			return [][]byte{d}
		})
		wait.Go(func() {
			log, err := openLAN(patient)(t, target).Read(t.Context())
			if err != nil || len(log.Entries) != len(records) {
				t.Errorf("%d of %d records: %v", len(log.Entries), len(records), err)
			}
		})
	}
	wait.Wait()
}
