package sel

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"capfleet/internal/bmc"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/secret"
)

// logs reads the logs of BMCs as the inventory says: with the account, the trust
// and the protocol of each. It is safe for concurrent use.
type logs struct {
	opts     Options
	pins     pinFiles
	refusals refusals
}

func newLogs(opts Options) *logs {
	l := &logs{opts: opts}
	_, _ = rand.Read(l.refusals.key[:]) // never fails
	return l
}

// read reads a BMC's log, by the protocol that worked last where any may be used,
// and by way of what was read then where the protocol can.
func (l *logs) read(ctx context.Context, env operation.Env, dev *device.Device, before memory, tryRefused bool) (bmc.Log, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	var log bmc.Log
	err := l.with(ctx, env.Now, dev, before.Protocol, tryRefused, func(reader bmc.Reader) (err error) {
		if able, ok := reader.(bmc.Resumer); ok {
			log, err = able.Resume(ctx, before.log)
		} else {
			log, err = reader.Read(ctx)
		}
		return err
	})
	return log, err
}

// with makes a reader and heeds what the BMC says of the account.
func (l *logs) with(ctx context.Context, now func() time.Time, dev *device.Device, worked bmc.Protocol, tryRefused bool, use func(bmc.Reader) error) error {
	target, err := l.target(ctx, dev)
	if err != nil {
		return err
	}
	if !tryRefused {
		if err := l.refusals.check(target, now()); err != nil {
			return err
		}
	}
	reader, err := open(dev, worked, target, l.opts.BMC)
	if err != nil {
		return err
	}
	err = use(reader)
	l.refusals.note(target, now(), err)
	return err
}

func open(dev *device.Device, worked bmc.Protocol, target bmc.Target, opts bmc.Options) (bmc.Reader, error) {
	protocol := bmc.Protocol(dev.BMC.Protocol)
	if protocol == bmc.Auto {
		return bmc.AutoFrom(worked, target, opts)
	}
	return bmc.New(protocol, target, opts)
}

// target gives the BMC of a device, its account and what its certificate may be.
func (l *logs) target(ctx context.Context, dev *device.Device) (bmc.Target, error) {
	b := dev.BMC
	password, err := l.opts.Secrets.Resolve(ctx, b.Credentials.Password)
	if err != nil {
		return bmc.Target{}, &fault.Error{Kind: cmp.Or(secretKind(ctx), fault.Invalid), Act: "read the password of its BMC", Stage: "credentials", Err: err}
	}
	pinned, err := l.pins.of(b)
	if err != nil {
		return bmc.Target{}, err
	}
	return bmc.Target{
		Host: b.Host, Port: b.Port, Username: b.Credentials.Username, Password: password,
		TLS:  bmc.TLS{Pins: append(pinned, b.TLSPins...), Plain: b.PlainHTTP},
		Dial: dial(l.opts.Through, dev), Via: via(dev),
	}, nil
}

// via names the last jump host of a BMC.
func via(dev *device.Device) string {
	if n := len(dev.BMC.Jump); n > 0 {
		return dev.BMC.Jump[n-1].Name
	}
	return ""
}

// dial is how the BMC of a device is reached: nil where directly.
func dial(through Through, dev *device.Device) func(ctx context.Context, host string, port int) (net.Conn, error) {
	if len(dev.BMC.Jump) == 0 {
		return nil
	}
	return func(ctx context.Context, host string, port int) (net.Conn, error) {
		return through.Through(ctx, dev.BMC.Jump, dev.KnownHosts, host, port)
	}
}

// secretKind is the kind of an error of a secret that was not read because the
// context ended; otherwise it is the inventory that is wrong.
func secretKind(ctx context.Context) fault.Kind {
	if ctx.Err() != nil {
		return fault.KindOf(ctx.Err())
	}
	return ""
}

// pinFiles keeps what was read of files of pins until they change: one file may
// have a line for each of thousands of BMCs.
type pinFiles struct {
	mutex sync.Mutex
	files map[string]*pinFile
}

type pinFile struct {
	stamp  fileStamp
	byHost map[string][]string
}

// fileStamp tells a changed file.
type fileStamp struct {
	modified time.Time
	size     int64
}

func stampOf(stat fs.FileInfo) fileStamp { return fileStamp{stat.ModTime(), stat.Size()} }

// of gives the certificates that are pinned for a BMC.
func (p *pinFiles) of(b *device.BMC) ([]string, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	stat, err := os.Stat(b.KnownBMCs)
	if err != nil {
		delete(p.files, b.KnownBMCs)
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, fault.Wrap(fault.Storage, "read pinned certificates", err)
	}
	file := p.files[b.KnownBMCs]
	if file == nil || file.stamp != stampOf(stat) {
		pins, err := bmc.Pins(b.KnownBMCs)
		if err != nil {
			return nil, err
		}
		file = &pinFile{stampOf(stat), map[string][]string{}}
		for _, pin := range pins {
			file.byHost[pin.Host] = append(file.byHost[pin.Host], pin.Fingerprint)
		}
		if p.files == nil {
			p.files = map[string]*pinFile{}
		}
		p.files[b.KnownBMCs] = file
	}
	pinned := file.byHost[bmc.HostName(b.Host, b.Port)]
	return pinned[:len(pinned):len(pinned)], nil
}

// BMCs lock an account after a few refused logins, and a schedule would keep it
// locked for ever. So an account that was refused is left alone for an hour, then
// for two, up to a day, unless its password has changed meanwhile or a person asks
// for a try.
const (
	holdOff    = time.Hour
	holdOffMax = 24 * time.Hour
	// maxRefusals bounds what is remembered; there are not more BMCs than that.
	maxRefusals = 100_000
)

// refusals remembers which accounts were refused. It is not kept over a restart
// of fleetd, which costs one login each.
type refusals struct {
	key [32]byte // a password is only remembered as a code under a key of this process

	mutex    sync.Mutex
	accounts map[account]refusal
}

// account is a user of a BMC.
type account struct{ via, host, username string }

type refusal struct {
	password [sha256.Size]byte
	since    time.Time
	until    time.Time
	times    int
}

func accountOf(t bmc.Target) account { return account{t.Via, bmc.HostName(t.Host, t.Port), t.Username} }

func (r *refusals) code(password secret.String) (code [sha256.Size]byte) {
	mac := hmac.New(sha256.New, r.key[:])
	mac.Write([]byte(password.Reveal()))
	return [sha256.Size]byte(mac.Sum(nil))
}

// check gives the error of an account that is to be left alone.
func (r *refusals) check(t bmc.Target, now time.Time) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	held, ok := r.accounts[accountOf(t)]
	if !ok || !now.Before(held.until) || held.password != r.code(t.Password) {
		return nil
	}
	return &fault.Error{
		Kind: fault.Auth, Stage: "login",
		Err: fmt.Errorf("the BMC refused this account at %s; so that it is not locked, it is not tried again before %s",
			held.since.UTC().Format(time.RFC3339), held.until.UTC().Format(time.RFC3339)),
		Next: "correct the password, or try now with fleetctl sel check --try-refused",
	}
}

// note remembers how a login ended.
func (r *refusals) note(t bmc.Target, now time.Time, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	who := accountOf(t)
	switch {
	case err == nil:
		delete(r.accounts, who)
	case fault.Is(err, fault.Auth) && fault.StageOf(err) != bmc.StageSession:
		held, ok := r.accounts[who]
		code := r.code(t.Password)
		if !ok || held.password != code {
			held = refusal{password: code, since: now}
		}
		held.times++
		held.until = now.Add(min(holdOff<<min(held.times-1, 5), holdOffMax))
		if r.accounts == nil {
			r.accounts = map[account]refusal{}
		}
		if len(r.accounts) < maxRefusals || ok {
			r.accounts[who] = held
		}
	}
}
