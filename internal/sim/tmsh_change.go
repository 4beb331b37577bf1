package sim

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// tmsh commands by which a BIG-IP is given new software.

// install is install sys software image|hotfix FILE volume NAME [create-volume]
// [reboot], its options in any order.
func (t *tmsh) install(args []string, errw io.Writer) int {
	if len(args) < 4 || args[0] != "sys" || args[1] != "software" || args[2] != "image" && args[2] != "hotfix" {
		return unexpected(errw, args, "install")
	}
	file, target := args[3], ""
	create, reboot := false, false
	for i := 4; i < len(args); i++ {
		switch {
		case args[i] == "create-volume":
			create = true
		case args[i] == "reboot":
			reboot = true
		case args[i] == "volume" && i+1 < len(args):
			i++
			target = args[i]
		default:
			return unexpected(errw, args[i:i+1], "")
		}
	}
	if t.s.cutAt(stepInstall, cutBefore) {
		return 1
	}
	if err := t.s.dev.installImage(file, args[2] == "hotfix", target, create, reboot, t.s.user); err != nil {
		_, _ = fmt.Fprintf(errw, "%v.\n", err)
		return 1
	}
	if t.s.cutAt(stepInstall, cutDuring) || t.s.cutAt(stepInstall, cutAfter) {
		return 1
	}
	return 0
}

// remove is delete sys software volume NAME.
func (t *tmsh) remove(args []string, errw io.Writer) int {
	d := t.s.dev
	if len(args) != 4 || strings.Join(args[:3], " ") != "sys software volume" {
		return unexpected(errw, args, "delete")
	}
	switch {
	case findVolume(volumesOf(d), args[3]) < 0:
		_, _ = fmt.Fprintf(errw, "01020036:3: The requested volume (%s) was not found.\n", args[3])
		return 1
	case args[3] == activeVolume(d):
		_, _ = fmt.Fprintf(errw, "01071003:3: Cannot delete the running volume (%s).\n", args[3])
		return 1
	}
	d.changeVolumes(func(list []volume) []volume {
		return slices.DeleteFunc(list, func(v volume) bool { return v.Name == args[3] })
	})
	return 0
}

// load is load sys config verify. Loading for good is not offered.
func (t *tmsh) load(ctx context.Context, args []string, out, errw io.Writer) int {
	if strings.Join(args, " ") != "sys config verify" {
		return unexpected(errw, args, "load")
	}
	text := `Validating system configuration...
  /defaults/asm_base.conf
  /defaults/config_base.conf
  /defaults/low_profile_base.conf
  /usr/share/monitors/base_monitors.conf
Validating configuration...
  /config/bigip_base.conf
  /config/bigip_user.conf
  /config/bigip.conf
  /config/bigip_script.conf
`
	if t.s.dev.ordered.Load().change.badConfig {
		_, _ = io.WriteString(out, text)
		_, _ = fmt.Fprint(errw, "01070734:3: Configuration error: Invalid cipher string (NATIVE:!EXPORT) in profile /Common/clientssl-test\n"+
			"Unexpected Error: Validating configuration process failed.\n")
		return 1
	}
	text += "There were warnings:\nSSLv2 is no longer supported and has been removed. The 'sslv2' keyword in the cipher string of the ssl profile (/Common/clientssl-test) has been ignored.\n"
	return boolInt(t.s.answer(ctx, out, []byte(text), t.prompt()) != nil)
}

var ucsName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// saveUCS is save sys ucs NAME: the whole configuration, keys and all, as one
// archive.
func (t *tmsh) saveUCS(ctx context.Context, name string, out, errw io.Writer) int {
	d := t.s.dev
	name = strings.TrimPrefix(name, "/var/local/ucs/")
	if !ucsName.MatchString(name) {
		_, _ = fmt.Fprintf(errw, "01071005:3: Invalid archive name (%s).\n", name)
		return 1
	}
	if t.s.cutAt(stepSave, cutBefore) {
		return 1
	}
	if !strings.HasSuffix(name, ".ucs") {
		name += ".ucs"
	}
	_, _ = fmt.Fprint(out, "Saving active configuration...\n")
	if err := flush(out); err != nil {
		return 1
	}
	f := d.ordered.Load().change
	if pause(ctx, f.ucsTime) != nil {
		return 1
	}
	if f.ucsFails {
		_, _ = fmt.Fprint(errw, "/var/tmp is full.\nError: UCS archive creation failed.\n")
		return 1
	}
	archive, err := d.archive()
	if err == nil {
		err = d.writeFile("/var/local/ucs/"+name, archive)
	}
	if err != nil {
		_, _ = fmt.Fprintf(errw, "Error: %v\n", err)
		return 1
	}
	d.note(eventSave, "user=%s ucs=%s", t.s.user, name)
	if t.s.cutAt(stepSave, cutAfter) {
		return 1
	}
	_, _ = fmt.Fprintf(out, "/var/local/ucs/%s is saved.\n", name)
	return 0
}

// archive is a UCS: compressed, with the running configuration and something that
// must not get about.
func (d *device) archive() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	st := d.state()
	if _, err := fmt.Fprintf(z, "hostname %s\nmaster-key %x\n", d.hostname(), d.fleet.keys.derive("master key", d.name)); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(st.Running)) {
		if _, err := fmt.Fprintf(z, "%s %s\n", key, st.Running[key]); err != nil {
			return nil, err
		}
	}
	noise := make([]byte, 96<<10)
	r := d.random("archive")
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	if _, err := z.Write(noise); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// writeFile puts a file of the device's own into its tree.
func (d *device) writeFile(name string, content []byte) error {
	f, err := d.files.openFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// failover is run sys failover standby.
func (t *tmsh) failover(errw io.Writer) int {
	d := t.s.dev
	if t.s.cutAt(stepFailover, cutBefore) {
		return 1
	}
	if d.state().Standby {
		_, _ = fmt.Fprint(errw, "01070921:3: This device is already standby.\n")
		return 1
	}
	if !d.ordered.Load().change.failoverStuck {
		if err := d.swapRoles("user=" + t.s.user); err != nil {
			_, _ = fmt.Fprintf(errw, "01070921:3: Cannot fail over: %v.\n", err)
			return 1
		}
	}
	t.s.cutAt(stepFailover, cutAfter)
	return 0
}

func showLicense(d *device) string {
	date := func(s string) string { return s[:4] + "/" + s[4:6] + "/" + s[6:] }
	return fmt.Sprintf("\nSys::License\nLicensed Version    %s\nRegistration key    SIMUL-ATED0-00000-00000-0000000\nLicensed On         2024/06/01\nService Check Date  %s\nPlatform ID         Z100\n\n",
		releaseOf(d).version, date(d.licence()))
}

func (d *device) trafficGroup() string {
	failback := map[bool]string{true: "true", false: "false"}[d.ordered.Load().change.autoFailback]
	return "cm traffic-group traffic-group-1 {\n    auto-failback-enabled " + failback + "\n    unit-id 1\n}\n"
}

// listVirtuals lists where the virtual servers listen: those of the pair, as long as
// the configuration is loaded.
func listVirtuals(d *device) string {
	if d.state().Inoperative {
		return ""
	}
	pair := d
	if d.peer != nil && d.peer.name < d.name {
		pair = d.peer
	}
	r := pair.random("virtual servers")
	var b strings.Builder
	for _, v := range []struct{ name, service string }{{"web01_vs1", "https"}, {"web02_vs1", "http"}, {"dns01_vs1", "domain"}} {
		fmt.Fprintf(&b, "ltm virtual %s {\n    destination 198.51.100.%d:%s\n}\n", v.name, 1+r.IntN(250), v.service)
	}
	return b.String()
}
