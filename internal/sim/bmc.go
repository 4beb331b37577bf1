package sim

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Each simulated probe has a BMC beside it, as long as the fleet is small enough
// to have the sockets. It lives on standby power: it answers while its probe is
// down. Boards differ as they do in a grown fleet: the first has the old web
// interface of Supermicro's boards, the next the newer one, then one with
// Redfish and one with IPMI over LAN, and so on.
const (
	maxBMCs = 1000

	knownBMCsFile = "known_bmcs"
	bmcUser       = "ADMIN"
	bmcSecret     = "bmc"

	// bmcRoom is how many records a log takes before it drops the oldest.
	bmcRoom = 1024
)

// The protocols, as inventories name them.
const (
	bmcWeb     = "supermicro_web"
	bmcRedfish = "redfish"
	bmcLAN     = "ipmi_lan"
)

// The events of the journal that a BMC writes.
const (
	eventBMCLogin = "bmc_login"
	eventSELAdd   = "sel_add"
	eventSELClear = "sel_clear"
)

// bmcState is what a BMC remembers. It is guarded by the store's lock.
type bmcState struct {
	Port    int       `json:"port,omitempty"`
	Records [][]byte  `json:"records"` // of 16 bytes each
	LastID  uint16    `json:"last_id"`
	Erased  time.Time `json:"erased,omitzero"`
}

// board is a BMC and what of it belongs to this run.
type board struct {
	dev      *device
	protocol string
	token    bool // the web interface of the newer generation

	mu       sync.Mutex
	sessions map[string]bool // of the web interface
	port     int
}

// planBMCs gives the first probes their BMCs.
func (f *Fleet) planBMCs() {
	n := 0
	for _, d := range f.ordered {
		if d.role != roleProbe || n == maxBMCs {
			continue
		}
		b := &board{dev: d, sessions: map[string]bool{}}
		switch n % 4 {
		case 0:
			b.protocol = bmcWeb
		case 1:
			b.protocol, b.token = bmcWeb, true
		case 2:
			b.protocol = bmcRedfish
		default:
			b.protocol = bmcLAN
		}
		d.board = b
		f.store.read(func() {
			if d.st.BMC == nil {
				d.st.BMC = firstLog(d, n == 0)
			}
			b.port = d.st.BMC.Port
		})
		n++
	}
}

// firstLog is what is in a BMC's log from the start: that of a probe that had the
// same error on its PCI bus four times in a week, or the ordinary traces of an
// appliance in a rack.
func firstLog(d *device, bad bool) *bmcState {
	st := &bmcState{}
	if bad {
		for line := range strings.Lines(badLog) {
			raw, err := hex.DecodeString(strings.TrimSpace(line))
			if err != nil {
				continue // it is ours, and tested
			}
			st.Records = append(st.Records, raw)
		}
		st.LastID = uint16(len(st.Records)) //nolint:gosec // 17
		return st
	}
	r := d.random("sel")
	at := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	for range 3 + r.IntN(6) {
		at = at.Add(time.Duration(r.Int64N(int64(40 * 24 * time.Hour))))
		// A start: an event of the board's maker, then the lid's switch.
		st.add(at, [9]byte{0x20, 0, 4, 0xc8, 0xff, 0x6f, 0xa0, 0xff, 0xff})
		st.add(at.Add(225*time.Second), [9]byte{0x20, 0, 4, 0x05, 0x51, 0x6f, 0xf0, 0xff, 0xff})
	}
	return st
}

// badLog is a log as it was published with a script that looks for such errors:
// four times PCI SERR at 80:02.2.
const badLog = `0100029e40c45c20000405516ff0ffff
020002124c015d33000413006fa58012
0300021fe3035d200004c8ff6fa0ffff
040002ffe3035d20000405516ff0ffff
05000270f3035d33000413006fa58012
0600025bdc075d200004c8ff6fa0ffff
0700023add075d20000405516ff0ffff
08000263e7075d33000413006fa58012
090002fded075d200004c8ff6fa0ffff
0a0002e1ee075d20000405516ff0ffff
0b00026ae1085d200004c8ff6fa0ffff
0c00024ce2085d20000405516ff0ffff
0d00027b02095d200004c8ff6fa0ffff
0e00025b03095d20000405516ff0ffff
0f00029a26095d200004c8ff6fa0ffff
1000027d27095d20000405516ff0ffff
110002b14b095d33000413006fa58012
`

// add appends a system event record: generator, revision, sensor, event. The
// caller holds the store's lock, or nobody else knows the state yet.
func (st *bmcState) add(at time.Time, rest [9]byte) uint16 {
	if st.LastID++; st.LastID == 0xffff {
		st.LastID = 1
	}
	raw := make([]byte, 0, 16)
	raw = binary.LittleEndian.AppendUint16(raw, st.LastID)
	raw = append(raw, 2)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(at.Unix())) //nolint:gosec // until 2106
	raw = append(raw, rest[:]...)
	st.Records = append(st.Records, raw)
	if over := len(st.Records) - bmcRoom; over > 0 {
		st.Records = slices.Delete(st.Records, 0, over)
	}
	return st.LastID
}

// records gives the log, oldest first.
func (b *board) records() (log [][]byte, erased time.Time) {
	b.dev.fleet.store.read(func() {
		log, erased = slices.Clone(b.dev.st.BMC.Records), b.dev.st.BMC.Erased
	})
	return log, erased
}

// injectPCI puts a PCI SERR at 80:02.2 into the log: what a probe that is loaded
// too heavily leaves there before it stops to answer.
func (b *board) injectPCI() {
	var id uint16
	b.dev.fleet.store.change(func() {
		id = b.dev.st.BMC.add(time.Now(), [9]byte{0x33, 0, 4, 0x13, 0, 0x6f, 0xa5, 0x80, 0x12})
	})
	b.dev.note(eventSELAdd, "id=%d kind=pci_serr at=80:02.2", id)
}

// clear empties the log; ids begin anew.
func (b *board) clear() {
	b.dev.fleet.store.change(func() {
		st := b.dev.st.BMC
		st.Records, st.LastID, st.Erased = nil, 0, time.Now().UTC().Truncate(time.Second)
	})
	b.dev.note(eventSELClear, "by=order")
}

// password is that of all BMCs. IPMI allows 20 bytes.
func (f *Fleet) bmcPassword() string { return f.keys.password(bmcSecret)[:16] }

// admits tells whether a login is taken, and writes it down.
func (b *board) admits(user, password string) bool {
	right := subtle.ConstantTimeCompare([]byte(user+"\x00"+password), []byte(bmcUser+"\x00"+b.dev.fleet.bmcPassword())) == 1
	f := &b.dev.ordered.Load().bmc
	ok := right && !f.refuse && !f.locked
	b.dev.note(eventBMCLogin, "protocol=%s user=%q ok=%t", b.protocol, user, ok)
	return ok
}

// startBMCs opens the BMCs' ports.
func (f *Fleet) startBMCs() error {
	for _, d := range f.ordered {
		if d.board == nil {
			continue
		}
		if err := d.board.start(); err != nil {
			return fmt.Errorf("start the BMC of %s: %w", d.name, err)
		}
		f.store.change(func() { d.st.BMC.Port = d.board.port })
	}
	return nil
}

// start opens the port that the board had before, or another one.
func (b *board) start() error {
	open := b.startWeb
	if b.protocol == bmcLAN {
		open = b.startLAN
	}
	err := open(b.port)
	if err != nil && b.port != 0 {
		b.dev.fleet.log.Warn("simulated BMC has a new port", "device", b.dev.name, "taken", b.port, "err", err)
		err = open(0)
	}
	return err
}

// certificate is the self-signed one of the board's web server. It is made from
// the fleet's secret, so that a pin outlives a restart.
func (b *board) certificate() (tls.Certificate, error) {
	k := b.dev.fleet.keys
	key := ed25519.NewKeyFromSeed(k.derive("bmc key", b.dev.name))
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(k.derive("bmc serial", b.dev.name)[:8]),
		Subject:      pkix.Name{CommonName: b.dev.name + "-bmc", Organization: []string{"simulated fleet"}},
		NotBefore:    time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2046, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// writeKnownBMCs pins the certificates of the BMCs' web servers and keeps the
// lines that are not about this fleet's ports.
func (f *Fleet) writeKnownBMCs() error {
	path := filepath.Join(f.dir, knownBMCsFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ours := map[string]bool{}
	var fresh bytes.Buffer
	for _, d := range f.ordered {
		if d.board == nil || d.board.protocol == bmcLAN {
			continue
		}
		host := fmt.Sprintf("[127.0.0.1]:%d", d.board.port)
		ours[host] = true
		cert, err := d.board.certificate()
		if err != nil {
			return err
		}
		fmt.Fprintf(&fresh, "%s %X\n", host, sha256.Sum256(cert.Certificate[0]))
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(old)) {
		if host, _, _ := strings.Cut(line, " "); !ours[host] {
			out.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	out.Write(fresh.Bytes())
	_, err = writeChanged(path, out.Bytes(), 0o600)
	return err
}

// writeBMCs writes what clients need of BMCs beside the inventory.
func (f *Fleet) writeBMCs() error {
	if _, err := writeChanged(filepath.Join(f.dir, secretsDir, bmcSecret), []byte(f.bmcPassword()+"\n"), 0o600); err != nil {
		return err
	}
	return f.writeKnownBMCs()
}

// inventoryBMC is the line of a device's BMC in the inventory.
func (d *device) inventoryBMC(w io.Writer) {
	if d.board != nil {
		fmt.Fprintf(w, "    bmc: {address: %s, protocol: %s, credentials: %s}\n", loopback(d.board.port), d.board.protocol, bmcSecret)
	}
}
