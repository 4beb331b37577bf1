package shell_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
	"capfleet/internal/device/endace"
	"capfleet/internal/device/sshconn/shell"
	"capfleet/internal/leaktest"
	"capfleet/internal/secret"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// box is a device's end of a terminal session, for scripts.
type box struct {
	conn net.Conn
	keys chan string // lines typed, without their end; closed with the session

	single atomic.Bool // see raw

	mu    sync.Mutex
	typed []string // every line that the shell typed
}

// newBox runs script as the device at the other end of the channel. The test
// waits for it.
func newBox(t *testing.T, script func(b *box)) (shell.Channel, *box) {
	t.Helper()
	near, far := net.Pipe()
	b := &box{conn: far, keys: make(chan string, 64)}
	var ends sync.WaitGroup
	ends.Go(func() { b.listen() })
	ends.Go(func() {
		defer func() { _ = far.Close() }()
		script(b)
	})
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
		ends.Wait()
	})
	return near, b
}

// listen takes what is typed as it comes, as a terminal does.
func (b *box) listen() {
	defer close(b.keys)
	var line []byte
	buf := make([]byte, 256)
	for {
		n, err := b.conn.Read(buf)
		for _, x := range buf[:n] {
			switch {
			case b.single.Load():
				b.note(string(x))
			case x == '\n':
				b.note(string(line))
				line = line[:0]
			default:
				line = append(line, x)
			}
		}
		if err != nil {
			return
		}
	}
}

func (b *box) note(line string) {
	b.mu.Lock()
	b.typed = append(b.typed, line)
	b.mu.Unlock()
	b.keys <- line
}

func (b *box) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.typed)
}

func (b *box) write(s string) { _, _ = io.WriteString(b.conn, s) }

// drip writes a byte at a time.
func (b *box) drip(s string, pause time.Duration) {
	for i := range len(s) {
		time.Sleep(pause) // of the bubble's clock
		b.write(s[i : i+1])
	}
}

// until waits for one line; false when the session is over.
func (b *box) until(want string) bool {
	for got := range b.keys {
		if got == want {
			return true
		}
	}
	return false
}

// cli is a command line as the family of OSm has it.
type cli struct {
	host     string
	motd     string
	prompt   func(c *cli) string
	mode     string // standard, enable, config
	prefix   string // "(maintenance) "
	password string // of enable
	taken    bool   // somebody else is in config mode
	commands map[string]func(c *cli, b *box)
}

func osmPrompt(c *cli) string {
	return c.prefix + c.host + map[string]string{"standard": " > ", "enable": " # ", "config": " (config) # "}[c.mode]
}

func (c *cli) run(b *box) {
	if c.host == "" {
		c.host = "lon-probe-01"
	}
	if c.mode == "" {
		c.mode = "standard"
	}
	if c.prompt == nil {
		c.prompt = osmPrompt
	}
	b.write(c.motd)
	for {
		b.write(c.prompt(c))
		line, ok := <-b.keys
		if !ok {
			return
		}
		b.write(line + "\r\n")
		if strings.TrimSpace(line) != "" {
			c.do(line, b)
		}
	}
}

func (c *cli) do(line string, b *box) {
	if f := c.commands[line]; f != nil {
		f(c, b)
		return
	}
	switch line {
	case "enable":
		if c.password != "" && !c.login(b) {
			b.write("% Authentication failed\r\n")
			return
		}
		c.mode = "enable"
	case "disable":
		c.mode = "standard"
	case "conf t":
		if c.taken {
			b.write("User admin is in configuration mode.\r\nEnter 'YES' to enter configuration mode anyway: ")
			got := <-b.keys
			b.write(got + "\r\n")
			if got != "YES" {
				return
			}
		}
		c.mode = "config"
	case "exit":
		c.mode = "enable"
	case "no cli session paging enable":
	default:
		b.write("% Unrecognized command \"" + line + "\".\r\n")
	}
}

// login asks for the enable password three times, as some do.
func (c *cli) login(b *box) bool {
	for range 3 {
		b.write("Password: ")
		got := <-b.keys
		b.write("\r\n")
		if got == c.password {
			return true
		}
	}
	return false
}

func prints(text string) func(*cli, *box) {
	return func(_ *cli, b *box) { b.write(crlf(text)) }
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func osm(t *testing.T) *device.Definition {
	t.Helper()
	d, err := endace.New("")
	if err != nil {
		t.Fatal(err)
	}
	return d.Definition()
}

func f5(t *testing.T) *device.Definition {
	t.Helper()
	d, err := bigip.New("")
	if err != nil {
		t.Fatal(err)
	}
	return d.Definition()
}

func options() shell.Options {
	return shell.Options{Device: "lon-probe-01", CommandTimeout: 30 * time.Second}
}

// open opens a shell on a scripted OSm.
func open(t *testing.T, c *cli) (*shell.Shell, *box) {
	t.Helper()
	ch, b := newBox(t, c.run)
	sh, err := shell.Open(t.Context(), ch, osm(t), options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, sh) })
	return sh, b
}

func closed(t *testing.T, sh io.Closer) {
	t.Helper()
	if err := sh.Close(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("close: %v", err)
	}
}

func run(t *testing.T, sh device.Shell, cmd device.Command) device.Output {
	t.Helper()
	out, err := sh.Run(t.Context(), cmd)
	if err != nil {
		t.Fatalf("run %q: %v\n%s", cmd.Line, err, out.Text)
	}
	return out
}

func withEnable(o shell.Options, password string) shell.Options {
	o.Enable = func(context.Context) (secret.String, error) { return secret.New(password), nil }
	return o
}

func lines(n int) string {
	var b bytes.Buffer
	for i := range n {
		b.WriteString("2026-03-14T15:09:26Z kernel: dag0: stream ")
		b.WriteByte(byte('0' + i%10))
		b.WriteString(": ring buffer wrapped at lon-probe-01\n")
	}
	return b.String()
}

func openOn(t *testing.T, ch shell.Channel) (*shell.Shell, error) {
	t.Helper()
	return openWith(t, ch, osm(t), options())
}

func openWith(t *testing.T, ch shell.Channel, def *device.Definition, o shell.Options) (*shell.Shell, error) {
	t.Helper()
	sh, err := shell.Open(t.Context(), ch, def, o)
	if err == nil {
		t.Cleanup(func() { closed(t, sh) })
	}
	return sh, err
}

// pagerBox is a device with a pager, which takes single keys.
func pagerBox(b *box, prompt, erase string, late bool) {
	const host = "lon-probe-01 # "
	b.write(host)
	for line := range b.keys {
		b.write(line + "\r\n")
		if line == "show long" {
			b.raw(true)
			for _, page := range []string{"  one\r\n  two\r\n", "  three\r\n  four\r\n"} {
				b.write(page + prompt)
				if <-b.keys != " " {
					return
				}
				for i := range len(erase) {
					if late {
						time.Sleep(300 * time.Millisecond)
						b.write(erase[i : i+1])
					}
				}
				if !late {
					b.write(erase)
				}
			}
			b.write("  five\r\n")
			b.raw(false)
		}
		b.write(host)
	}
}

// raw makes every key count by itself, as in a pager.
func (b *box) raw(on bool) { b.single.Store(on) }
