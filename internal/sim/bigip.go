package sim

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// bigipPersonality is a BIG-IP: root logs in to bash, admin to tmsh, and each
// can reach the other shell. The prompts show the failover and sync states as
// they are at that moment.
type bigipPersonality struct{ commands map[string]command }

func newBigIP() *bigipPersonality {
	p := &bigipPersonality{commands: programs()}
	p.commands["tmsh"] = p.runTmsh
	return p
}

func (p *bigipPersonality) version() string { return "OpenSSH_7.4" }

func (p *bigipPersonality) home(user string) string {
	if user == "root" {
		return "/root"
	}
	return "/home/" + user
}

func (p *bigipPersonality) furnish(d *device) map[string]string {
	v := releaseOf(d)
	return map[string]string{
		"/root/": "", "/home/admin/": "", "/config/": "", "/shared/images/": "", "/var/tmp/": "", "/var/log/": "", "/var/local/ucs/": "", "/tmp/": "", "/dev/shm/": "",
		"/VERSION": fmt.Sprintf("Product: BIG-IP\nVersion: %s\nBuild: %s\nBase_build: %s\nEdition: %s\nDate: %s\n",
			v.version, v.build, v.build, v.edition, v.date),
		systemLog: bootLog(d), "/config/bigip.license": "", "/config/bigip.conf": "",
		"/proc/uptime": "", "/proc/sys/kernel/random/boot_id": "",
	}
}

func (p *bigipPersonality) settings(*device) map[string]string { return nil }

func (p *bigipPersonality) live(d *device, path string) []byte {
	if path == "/config/bigip.conf" {
		return savedConfig(d)
	}
	if path == "/config/bigip.license" {
		return fmt.Appendf(nil, "Licensed date :                    20240601\nService check date :               %s\n", d.licence())
	}
	return procFile(d, path)
}

// savedConfig is the file of the saved configuration.
func savedConfig(d *device) []byte {
	var saved map[string]string
	d.fleet.store.read(func() { saved = maps.Clone(d.st.Saved) })
	b := []byte("#TMSH-VERSION: " + running(d).Version + "\n\n")
	for _, key := range slices.Sorted(maps.Keys(saved)) {
		b = fmt.Appendf(b, "%s %s\n", key, saved[key])
	}
	return b
}

func (p *bigipPersonality) kernel(*device) kernel {
	return kernel{release: "3.10.0-862.14.4.el7.ve.x86_64", version: "#1 SMP Wed Oct 21 14:01:58 PDT 2020", machine: "x86_64"}
}

// mounts follows the volume set that is booted; /shared, /var/log and /appdata
// belong to all sets. /usr is read-only and nearly full on every device.
func (p *bigipPersonality) mounts(d *device) []mount {
	r := d.random("mounts")
	set := strings.TrimPrefix(activeVolume(d), "HD1.")
	lv := func(name string) string { return "/dev/mapper/vg--db--sda-" + name }
	return []mount{
		newMount(lv("set."+set+".root"), "ext3", "/", 436342, 0.2+0.3*r.Float64(), 50),
		newMount("none", "devtmpfs", "/dev", 8173968, 0.00002, 0),
		newMount("none", "tmpfs", "/dev/shm", 8183320, 0.0001, 0),
		newMount(lv("set."+set+"._config"), "ext3", "/config", 3269592, 0.01+0.02*r.Float64(), 50),
		newMount(lv("set."+set+"._usr"), "ext3", "/usr", 4135792, 0.75+0.1*r.Float64(), 50),
		newMount(lv("set."+set+"._var"), "ext3", "/var", 3096336, 0.2+0.3*r.Float64(), 50),
		newMount(lv("dat.share"), "ext3", "/shared", 20642428, 0.1+0.5*r.Float64(), 50),
		newMount(lv("dat.log"), "ext3", "/var/log", 7224824, 0.02+0.3*r.Float64(), 50),
		newMount(lv("dat.appdata"), "ext3", "/appdata", 25717852, 0.02+0.05*r.Float64(), 50),
		newMount("prompt", "tmpfs", "/var/prompt", 4096, 0.003, 0),
	}
}

// bashPrompt is "[root@host:Active:In Sync] config # ".
func (p *bigipPersonality) bashPrompt(b *bash) string {
	d := b.s.dev
	dir := b.dir()
	if dir != "~" && dir != "/" {
		dir = path.Base(dir)
	}
	text := fmt.Sprintf("[%s@%s:%s:%s] %s # ", b.s.user, d.hostname(), d.failoverState(), d.syncState(), dir)
	if d.ordered.Load().ansi {
		return "\x1b[1m" + text + "\x1b[0m"
	}
	return text
}

// flap is the fault that changes the state under a connected client.
func (s *session) flap() {
	if s.dev.ordered.Load().failoverFlap {
		if err := s.dev.swapRoles("flapping"); err != nil {
			s.dev.fleet.log.Debug("simulated pair does not flap", "device", s.dev.name, "err", err)
		}
	}
}

// open makes a bash of the session; root's starts in /config.
func (p *bigipPersonality) open(ctx context.Context, s *session) (*bash, error) {
	dir := ""
	if s.user == "root" {
		dir = "/config"
	}
	return newBash(ctx, s, shellSetup{commands: p.commands, prompt: p.bashPrompt, dir: dir,
		stdin: s.stdin(), stdout: s.stdout(), stderr: s.stderr()})
}

func (p *bigipPersonality) shell(s *session) int {
	s.greet("")
	if s.conn.account.tmsh {
		return p.newTmsh(s).interact()
	}
	b, err := p.open(s.ctx, s)
	if err != nil {
		return s.broken(err)
	}
	defer b.close()
	return b.interact()
}

func (p *bigipPersonality) exec(ctx context.Context, s *session, line string) int {
	s.flap()
	if s.conn.account.tmsh {
		return p.newTmsh(s).run(ctx, line, s.stdout(), s.stderr())
	}
	b, err := p.open(ctx, s)
	if err != nil {
		return s.broken(err)
	}
	defer b.close()
	return b.script(line)
}

// runTmsh is tmsh as a program of bash: interactive, or for one command.
func (p *bigipPersonality) runTmsh(c *call) int {
	t := p.newTmsh(c.s)
	args := c.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-q", "-a": // no questions, no syntax check ahead: nothing to change here
			args = args[1:]
		case "-c":
			if len(args) != 2 {
				return c.fail("-c needs one command")
			}
			return t.run(c.ctx, args[1], c.out, c.err)
		default:
			return c.fail("unknown option %s", args[0])
		}
	}
	if len(args) > 0 {
		return t.run(c.ctx, joinTmsh(args), c.out, c.err)
	}
	if c.s.term == nil {
		return c.fail("a terminal is needed")
	}
	return t.interact()
}

// joinTmsh makes one line of arguments that bash has taken apart.
func joinTmsh(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\"'") {
			a = `"` + strings.ReplaceAll(a, `"`, `\"`) + `"`
		}
		quoted[i] = a
	}
	return strings.Join(quoted, " ")
}
