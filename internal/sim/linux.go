package sim

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// linuxPersonality is a Debian host that captures packets, or a bastion.
type linuxPersonality struct{ commands map[string]command }

func newLinux() *linuxPersonality { return &linuxPersonality{commands: programs()} }

func (p *linuxPersonality) version() string { return "OpenSSH_9.2p1 Debian-2+deb12u2" }

func (p *linuxPersonality) home(user string) string {
	if user == "root" {
		return "/root"
	}
	return "/home/" + user
}

func (p *linuxPersonality) furnish(d *device) map[string]string {
	return map[string]string{
		"/etc/hostname": d.name + "\n",
		"/etc/os-release": `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
SUPPORT_URL="https://www.debian.org/support"
BUG_REPORT_URL="https://bugs.debian.org/"
`,
		systemLog:      bootLog(d),
		"/proc/uptime": "", "/proc/sys/kernel/random/boot_id": "",
		p.home(d.accounts()[0].username) + "/": "", "/root/": "", "/capture/": "", "/tmp/": "", "/var/tmp/": "", "/var/log/": "", "/run/": "", "/dev/shm/": "",
	}
}

func (p *linuxPersonality) settings(*device) map[string]string { return nil }

func (p *linuxPersonality) live(d *device, path string) []byte { return procFile(d, path) }

// procFile gives the files of /proc by which a boot can be told from another.
func procFile(d *device, path string) []byte {
	switch path {
	case "/proc/uptime":
		up := d.uptime().Seconds()
		return fmt.Appendf(nil, "%.2f %.2f\n", up, up*3.7)
	case "/proc/sys/kernel/random/boot_id":
		id := d.fleet.keys.derive("boot id", d.name+d.state().BootTime.Format(time.RFC3339Nano))
		return fmt.Appendf(nil, "%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
	default:
		return nil
	}
}

func (p *linuxPersonality) kernel(*device) kernel {
	return kernel{release: "6.1.0-18-amd64", version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", machine: "x86_64"}
}

// mounts: the capture store of a capture host is a full ring, as on any host
// that has captured for long enough.
func (p *linuxPersonality) mounts(d *device) []mount {
	r := d.random("mounts")
	list := []mount{
		newMount("udev", "devtmpfs", "/dev", 16373420, 0, 0),
		newMount("tmpfs", "tmpfs", "/run", 3277320, 0.0005, 0),
		newMount("/dev/sda1", "ext4", "/", 61255492, 0.15+0.3*r.Float64(), 50),
		newMount("/dev/sda2", "ext4", "/var/log", 20465148, 0.1+0.6*r.Float64(), 50),
	}
	if d.role == roleCapture {
		sizes := []int64{7751366384, 15624292352, 31247540224}
		list = append(list, newMount("/dev/md0", "xfs", "/capture", sizes[r.IntN(len(sizes))], 0.94+0.02*r.Float64(), 0))
	}
	return list
}

func (p *linuxPersonality) prompt(b *bash) string {
	sign := "$"
	if b.s.user == "root" {
		sign = "#"
	}
	where := fmt.Sprintf("%s@%s:%s", b.s.user, b.s.dev.hostname(), b.dir())
	if b.s.dev.ordered.Load().ansi {
		return fmt.Sprintf("\x1b]0;%s\x07\x1b[?2004h\x1b[01;32m%s\x1b[00m%s ", where, where, sign)
	}
	return where + sign + " "
}

// open makes the session's login shell.
func (p *linuxPersonality) open(ctx context.Context, s *session) (*bash, error) {
	return newBash(ctx, s, shellSetup{commands: p.commands, prompt: p.prompt, stdin: s.stdin(), stdout: s.stdout(), stderr: s.stderr()})
}

func (p *linuxPersonality) shell(s *session) int {
	b, err := p.open(s.ctx, s)
	if err != nil {
		return s.broken(err)
	}
	defer b.close()
	s.greet("Linux " + s.dev.hostname() + " " + p.kernel(s.dev).release + "\n")
	return b.interact()
}

func (p *linuxPersonality) exec(ctx context.Context, s *session, line string) int {
	b, err := p.open(ctx, s)
	if err != nil {
		return s.broken(err)
	}
	defer b.close()
	return b.script(line)
}

// stdin is what programs read: the client's bytes where there is no terminal.
func (s *session) stdin() io.Reader {
	if s.term != nil {
		return strings.NewReader("")
	}
	return s.ch
}

// greet prints what a login shows before the first prompt.
func (s *session) greet(text string) {
	if !s.hasPTY {
		return
	}
	if s.dev.ordered.Load().banner {
		_, _ = io.WriteString(s.term, motd(s.dev.hostname())) // errors surface at the prompt
	}
	_, _ = io.WriteString(s.term, text)
	s.term.printf("Last login: %s from %s\n", time.Now().UTC().Add(-17*time.Hour).Format("Mon Jan _2 15:04:05 2006"), hostOf(s.conn.raw.RemoteAddr().String()))
}

func hostOf(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i > 0 {
		return addr[:i]
	}
	return addr
}

// broken reports what the simulator itself could not do.
func (s *session) broken(err error) int {
	s.dev.fleet.log.Error("simulated session failed", "device", s.dev.name, "err", err)
	return statusKilled
}
