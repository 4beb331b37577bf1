package shell_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn/shell"
	"capfleet/internal/fault"
)

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("error %v is %s, want %s", err, fault.KindOf(err), kind)
	}
}

// Whatever the size, a byte costs the same. Not parallel, as the time is taken.
func TestLargeOutput(t *testing.T) {
	took := func(n int) time.Duration {
		text := lines(n)
		sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){"show log": prints(text)}})
		best := time.Hour
		for range 3 {
			started := time.Now()
			out := run(t, sh, device.Command{Line: "show log"})
			best = min(best, time.Since(started))
			if out.Text != text {
				t.Fatalf("%d bytes came, %d were sent", len(out.Text), len(text))
			}
		}
		return best
	}
	small, large := took(1<<20/82), took(16<<20/82)
	if large > 100*small { // quadratic would be 256
		t.Errorf("1 MB took %v, 16 MB took %v", small, large)
	}
	t.Logf("1 MB took %v, 16 MB took %v", small, large)
}

// A device that floods is cut off at the cap, and the shell with it. Not
// parallel, as the memory is counted.
func TestFlood(t *testing.T) {
	block := crlf(lines(500))
	sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
		"show log": func(_ *cli, b *box) {
			for {
				if _, err := b.conn.Write([]byte(block)); err != nil {
					return
				}
			}
		},
	}})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out, err := sh.Run(t.Context(), device.Command{Line: "show log", MaxBytes: 1 << 20})
	runtime.ReadMemStats(&after)
	wantKind(t, err, fault.TooLarge)
	if !strings.Contains(err.Error(), "cut at 1048576 bytes") {
		t.Errorf("the error does not say how much is allowed: %v", err)
	}
	if !out.Truncated || len(out.Text) != 1<<20 || !strings.HasPrefix(out.Text, "2026-03-14T15:09:26Z kernel") {
		t.Errorf("truncated %v, %d bytes", out.Truncated, len(out.Text))
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d bytes were allocated for a cap of 1 MiB", used)
	}
	_, err = sh.Run(t.Context(), device.Command{Line: "show version"})
	wantKind(t, err, fault.Disconnected)
}

// An answer that is complete, but over the cap, is an error as well; the shell
// stays in step.
func TestOverTheCap(t *testing.T) {
	t.Parallel()
	sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){"show log": prints("12345\n"), "show it": prints("it\n")}})
	out, err := sh.Run(t.Context(), device.Command{Line: "show log", MaxBytes: 3})
	wantKind(t, err, fault.TooLarge)
	if out.Text != "123" || !out.Truncated {
		t.Errorf("output %q, truncated %v", out.Text, out.Truncated)
	}
	if got := run(t, sh, device.Command{Line: "show it"}).Text; got != "it\n" {
		t.Errorf("the next command's output is %q", got)
	}
}

// A byte a second is slow, not wrong.
func TestDrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		text := "  Bytes Total 43980.5\r\n  Bytes Free 2199.1\r\n"
		sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
			"show it": func(_ *cli, b *box) { b.drip(text, time.Second) },
		}})
		if got := run(t, sh, device.Command{Line: "show it", Timeout: time.Hour}).Text; got != strings.ReplaceAll(text, "\r", "") {
			t.Errorf("output %q", got)
		}
		_, err := sh.Run(t.Context(), device.Command{Line: "show it", Timeout: 5 * time.Second})
		wantKind(t, err, fault.Timeout)
	})
}

func TestDrop(t *testing.T) {
	t.Parallel()
	sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
		"show log": func(_ *cli, b *box) {
			b.write("half of the out")
			_ = b.conn.Close()
		},
	}})
	out, err := sh.Run(t.Context(), device.Command{Line: "show log"})
	wantKind(t, err, fault.Disconnected)
	if out.Text != "half of the out" {
		t.Errorf("output %q", out.Text)
	}
	_, err = sh.Run(t.Context(), device.Command{Line: "show log"})
	wantKind(t, err, fault.Disconnected)
}

// A prompt that is cut off with the connection is none.
func TestDropBehindPrompt(t *testing.T) {
	t.Parallel()
	sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
		"show log": func(_ *cli, b *box) {
			b.write("one\r\nlon-probe-01 # ")
			_ = b.conn.Close()
		},
	}})
	_, err := sh.Run(t.Context(), device.Command{Line: "show log"})
	wantKind(t, err, fault.Disconnected)
}

// A server that never speaks, or speaks and shows no prompt.
func TestMute(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ says, told string }{
		"silent":         {"", "the device wrote nothing"},
		"no prompt":      {"Welcome\r\n", "no prompt follows"},
		"another prompt": {"Welcome\r\nBoot Loader>", `"Boot Loader>"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ch, _ := newBox(t, func(b *box) {
					b.write(c.says)
					b.until("never")
				})
				started := time.Now()
				_, err := openOn(t, ch)
				wantKind(t, err, fault.Timeout)
				if d := time.Since(started); d != 30*time.Second {
					t.Errorf("it took %v", d)
				}
				if fault.StageOf(err) != "prompt" || !strings.Contains(err.Error(), c.told) {
					t.Errorf("stage %q, error %v", fault.StageOf(err), err)
				}
			})
		})
	}
}

// After a timeout the late answer must not become the next command's.
func TestNoCrossTalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
			"show slow": func(_ *cli, b *box) {
				time.Sleep(time.Minute)
				b.write("slow\r\n")
			},
			"show fast": prints("fast\n"),
		}})
		_, err := sh.Run(t.Context(), device.Command{Line: "show slow", Timeout: time.Second})
		wantKind(t, err, fault.Timeout)
		time.Sleep(2 * time.Minute)
		out, err := sh.Run(t.Context(), device.Command{Line: "show fast"})
		wantKind(t, err, fault.Disconnected)
		if out.Text != "" {
			t.Errorf("output %q", out.Text)
		}
	})
}

// Without a timeout in between either: each answer belongs to its command.
func TestConcurrentCallers(t *testing.T) {
	t.Parallel()
	commands := map[string]func(*cli, *box){}
	for _, n := range []string{"a", "b", "c", "d"} {
		commands["show "+n] = prints("this is " + n + "\n")
	}
	sh, _ := open(t, &cli{commands: commands})
	var all sync.WaitGroup
	for _, n := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			for range 25 {
				out, err := sh.Run(t.Context(), device.Command{Line: "show " + n})
				if err != nil || out.Text != "this is "+n+"\n" {
					t.Errorf("show %s gave %q, %v", n, out.Text, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// A caller that waits for its turn gives up when its own context ends, and the
// one at work is not disturbed.
func TestWaitingCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
			"show slow": func(_ *cli, b *box) { time.Sleep(10 * time.Second); b.write("slow\r\n") },
		}})
		var first sync.WaitGroup
		first.Go(func() {
			if out, err := sh.Run(t.Context(), device.Command{Line: "show slow"}); err != nil || out.Text != "slow\n" {
				t.Errorf("output %q, %v", out.Text, err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := sh.Run(ctx, device.Command{Line: "show slow"})
		wantKind(t, err, fault.Timeout)
		first.Wait()
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
		"show slow": func(_ *cli, b *box) {
			b.write("begun\r\n")
			close(reached)
			b.until("never")
		},
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var ended time.Time
	go func() {
		<-reached
		ended = time.Now()
		cancel()
	}()
	_, err := sh.Run(ctx, device.Command{Line: "show slow"})
	if d := time.Since(ended); d > 5*time.Second {
		t.Errorf("it took %v to stop", d)
	}
	wantKind(t, err, fault.Canceled)
	_, err = sh.Run(t.Context(), device.Command{Line: "show it"})
	wantKind(t, err, fault.Disconnected)
	if strings.Contains(err.Error(), "never") {
		t.Error(err)
	}
}

// A context that had ended before costs nothing.
func TestCancelledBefore(t *testing.T) {
	t.Parallel()
	sh, b := open(t, &cli{commands: map[string]func(*cli, *box){"show it": prints("it\n")}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	typed := len(b.lines())
	_, err := sh.Run(ctx, device.Command{Line: "show it"})
	wantKind(t, err, fault.Canceled)
	if len(b.lines()) != typed {
		t.Errorf("typed %q", b.lines()[typed:])
	}
	run(t, sh, device.Command{Line: "show it"})
}

// A device that takes nothing in: the write itself has to end.
func TestStuckWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near := &stuck{release: make(chan struct{}), says: "lon-probe-01 # "}
		_, err := openOn(t, near)
		wantKind(t, err, fault.Timeout)
	})
}

type stuck struct {
	once    sync.Once
	release chan struct{}
	says    string
}

func (s *stuck) Read(p []byte) (int, error) {
	if s.says != "" {
		n := copy(p, s.says)
		s.says = s.says[n:]
		return n, nil
	}
	<-s.release
	return 0, errors.New("closed")
}

func (s *stuck) Write([]byte) (int, error) {
	<-s.release
	return 0, errors.New("closed")
}

func (s *stuck) Close() error {
	s.once.Do(func() { close(s.release) })
	return nil
}

// Closing is quick and leaves nothing: goleak watches the whole package.
func TestClose(t *testing.T) {
	t.Parallel()
	var closing time.Duration
	for range 100 {
		ch, _ := newBox(t, (&cli{}).run)
		sh, err := shell.Open(t.Context(), ch, osm(t), options())
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		closed(t, sh)
		closed(t, sh)
		closing += time.Since(started)
		_, err = sh.Run(t.Context(), device.Command{Line: "show it"})
		wantKind(t, err, fault.Disconnected)
	}
	if closing > 100*200*time.Millisecond {
		t.Errorf("closing 100 shells took %v", closing)
	}
}

// A command under way ends when the shell is closed.
func TestCloseDuringRun(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
		"show slow": func(_ *cli, b *box) { close(reached); b.until("never") },
	}})
	var ended sync.WaitGroup
	ended.Go(func() {
		_, err := sh.Run(t.Context(), device.Command{Line: "show slow"})
		if !fault.Is(err, fault.Disconnected) {
			t.Errorf("error %v", err)
		}
	})
	<-reached
	closed(t, sh)
	ended.Wait()
}

// The polite farewell is typed, and not waited for.
func TestLogout(t *testing.T) {
	t.Parallel()
	said := make(chan bool, 1)
	c := &cli{commands: map[string]func(*cli, *box){"exit": func(_ *cli, b *box) { said <- true; b.until("never") }}}
	ch, _ := newBox(t, c.run)
	sh, err := shell.Open(t.Context(), ch, osm(t), options())
	if err != nil {
		t.Fatal(err)
	}
	closed(t, sh)
	<-said
}

// What a device writes unasked, a broadcast message say, is put aside.
func TestUnasked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, text := range []string{"\r\nBroadcast message: going down\r\n", "\r\nmessage\r\nlon-probe-01 # ", "lon-probe-01 # "} {
			c := &cli{commands: map[string]func(*cli, *box){"show it": prints("it\n")}}
			sh, b := open(t, c)
			run(t, sh, device.Command{Line: "show it"})
			b.write(text)
			synctest.Wait()
			if got := run(t, sh, device.Command{Line: "show it"}).Text; got != "it\n" {
				t.Errorf("after %q the output is %q", text, got)
			}
			if got := run(t, sh, device.Command{Line: "show it"}).Text; got != "it\n" {
				t.Errorf("after %q the second output is %q", text, got)
			}
		}
	})
}

// A device that writes unasked for ever is given up, whatever the time allowed.
func TestUnaskedFlood(t *testing.T) {
	t.Parallel()
	sh, b := open(t, &cli{commands: map[string]func(*cli, *box){"show it": prints("it\n")}})
	var flood sync.WaitGroup
	begun := make(chan struct{})
	flood.Go(func() {
		block := []byte(crlf(lines(500)))
		close(begun)
		for {
			if _, err := b.conn.Write(block); err != nil {
				return
			}
		}
	})
	<-begun
	_, err := sh.Run(t.Context(), device.Command{Line: "show it", MaxBytes: 1 << 20})
	wantKind(t, err, fault.Disconnected)
	flood.Wait()
}

// Something else in front of the echo: whose output it is cannot be told.
func TestForeignText(t *testing.T) {
	t.Parallel()
	ch, _ := newBox(t, func(b *box) {
		b.write("lon-probe-01 # ")
		for line := range b.keys {
			if line == "show it" {
				b.write("the end of something else\r\nlon-probe-01 # ")
			}
			b.write(line + "\r\nlon-probe-01 # ")
		}
	})
	sh, err := openOn(t, ch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := sh.Run(t.Context(), device.Command{Line: "show it"})
	wantKind(t, err, fault.Disconnected)
	if out.Text != "" {
		t.Errorf("output %q", out.Text)
	}
}

// A device that shows no blanks at its prompt is found out, and worked with.
func TestNoBlankEcho(t *testing.T) {
	t.Parallel()
	const prompt = "lon-probe-01 # "
	for name, c := range map[string]struct {
		parts []string
		stops []time.Duration
	}{
		"a line":             {[]string{"it\r\n"}, nil},
		"nothing":            {nil, nil},
		"a prompt":           {[]string{"one\r\n", prompt, "\r\ntwo\r\n"}, nil},
		"a prompt and stops": {[]string{"one\r\n" + prompt, "\r\ntwo\r\n"}, []time.Duration{time.Second}},
		"a prompt last":      {[]string{"one\r\n" + prompt, "\r\n"}, []time.Duration{time.Second}},
		"two prompts":        {[]string{prompt, "\r\n" + prompt, "\r\ntwo\r\n"}, []time.Duration{time.Millisecond, 3 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ch, _ := newBox(t, func(b *box) {
					b.write(prompt)
					for line := range b.keys {
						b.write(strings.TrimSpace(line) + "\r\n")
						for i, part := range c.parts {
							if line != "show it" {
								break
							}
							b.write(part)
							if i < len(c.stops) {
								time.Sleep(c.stops[i])
							}
						}
						b.write(prompt)
					}
				})
				sh, err := openOn(t, ch)
				if err != nil {
					t.Fatal(err)
				}
				want := strings.ReplaceAll(strings.Join(c.parts, ""), "\r", "")
				for range 2 {
					if got := run(t, sh, device.Command{Line: "show it"}).Text; got != want {
						t.Errorf("output %q, want %q", got, want)
					}
				}
			})
		})
	}
}

// A device that comes to print an empty line before each prompt, and stops to.
func TestEmptyLinesBeforePrompt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lead := ""
		c := &cli{
			prompt:   func(c *cli) string { return lead + osmPrompt(c) },
			commands: map[string]func(*cli, *box){"show it": prints("it\n")},
		}
		sh, _ := open(t, c)
		for _, lead = range []string{"", "\r\n", "\r\n", "\r\n\r\n", ""} {
			if got := run(t, sh, device.Command{Line: "show it"}).Text; strings.TrimRight(got, "\n") != "it" {
				t.Errorf("with %q before the prompt the output is %q", lead, got)
			}
		}
	})
}

// A device that throws away what is typed while it writes.
func TestTypeaheadLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
			"show it": prints("it\n"),
			"show log": func(_ *cli, b *box) {
				b.write("one\r\nlon-probe-01 # ")
				time.Sleep(time.Second)
				<-b.keys
				b.write("\r\ntwo\r\n")
			},
		}})
		run(t, sh, device.Command{Line: "show it"}) // blanks are echoed: learned
		if got := run(t, sh, device.Command{Line: "show log"}).Text; got != "one\nlon-probe-01 # \ntwo\n" {
			t.Errorf("output %q", got)
		}
		if got := run(t, sh, device.Command{Line: "show it"}).Text; got != "it\n" {
			t.Errorf("the next output %q", got)
		}
	})
}

// A shell that waits does nothing: a day passes at once. A library that polls
// every 250 us would wake up 345 million times for each of these.
func TestWaitingCostsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		for range 20 {
			sh, _ := open(t, &cli{commands: map[string]func(*cli, *box){
				"show slow": func(_ *cli, b *box) {
					time.Sleep(24 * time.Hour)
					b.write("slow\r\n")
				},
			}})
			all.Go(func() {
				if out, err := sh.Run(t.Context(), device.Command{Line: "show slow", Timeout: 25 * time.Hour}); err != nil || out.Text != "slow\n" {
					t.Errorf("output %q, %v", out.Text, err)
				}
			})
		}
		all.Wait()
	})
}

// Shells of one platform share what was worked out of its definition.
func TestManyShells(t *testing.T) {
	t.Parallel()
	def := osm(t)
	var all sync.WaitGroup
	for range 64 {
		ch, _ := newBox(t, (&cli{commands: map[string]func(*cli, *box){"show it": prints("it\n"), "configuration write": prints("")}}).run)
		all.Go(func() {
			sh, err := shell.Open(t.Context(), ch, def, options())
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = sh.Close() }()
			for _, cmd := range []device.Command{{Line: "show it"}, {Line: "configuration write", Mode: "config"}, {Line: "show it"}} {
				if _, err := sh.Run(t.Context(), cmd); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
