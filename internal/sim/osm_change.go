package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What a probe goes through when it is given a hotfix: maintenance mode,
// package install, configuration write, reload.

// maintenance stops the probe's services, capture among them. Only a reboot
// leads out of it.
func (c *osmCLI) maintenance() {
	d := c.s.dev
	if c.s.cutAt(stepMaintenance, cutBefore) {
		return
	}
	_, _, captured := d.capturing()
	entered := false
	d.fleet.store.change(func() {
		entered = !d.st.Maintenance
		d.st.Maintenance = true
		if captured {
			d.st.CaptureStopped = time.Now().UTC()
		}
	})
	if entered {
		d.note(eventMaintenanceOn, "user=%s", c.s.user)
	}
	if entered && captured {
		d.note(eventCaptureStop, "reason=maintenance")
	}
	c.s.cutAt(stepMaintenance, cutAfter)
}

// save makes the configuration the one that boots.
func (c *osmCLI) save() {
	if c.s.cutAt(stepSave, cutBefore) {
		return
	}
	c.s.dev.saveConfig(c.s.user)
	if c.s.cutAt(stepSave, cutAfter) {
		return
	}
	c.t.printf("Saving configuration file ... Done!\n")
}

// install installs NAME.end from the upload directory. It is then listed under
// its name without the version suffix.
func (c *osmCLI) install(name string) {
	d := c.s.dev
	if c.s.cutAt(stepInstall, cutBefore) {
		return
	}
	if !d.state().Maintenance {
		c.t.printf("%% Packages can be installed in maintenance mode only.\n")
		return
	}
	info, err := d.files.stat(packageDir+"/"+name+".end", true)
	if strings.Contains(name, "/") || errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		c.t.printf("%% Package \"%s\" not found.\n", name)
		return
	}
	if err != nil {
		c.t.printf("%% Package \"%s\" cannot be read.\n", name)
		return
	}
	// An installation goes on when the session that asked for it is gone, but not
	// over a loss of power. It is the device's, not the session's.
	done, ok := d.startInstall(func(power context.Context) error { return d.installPackage(power, name, c.s.user) })
	if !ok {
		d.note(eventInstall, "package=%s user=%s result=refused", name, c.s.user)
		c.t.printf("%% Another installation is in progress.\n")
		return
	}
	c.t.printf("Installing package %s ...\n", name)
	if c.t.Flush() != nil || c.s.cutAt(stepInstall, cutDuring) {
		return
	}
	select {
	case err = <-done:
	case <-c.s.ctx.Done():
		return
	}
	switch {
	case c.s.cutAt(stepInstall, cutAfter):
	case err != nil:
		c.t.printf("%% Installation of package %s failed: %v.\n", name, err)
	default:
		c.t.printf("Package %s installed.\n", name)
	}
}

// errHalfWay is what the fault install_fails ends an installation with.
var errHalfWay = errors.New("cannot unpack the archive")

// startInstall runs one installation until it ends or the power goes. It refuses
// while another runs. What do gives is sent to done.
func (d *device) startInstall(do func(power context.Context) error) (done <-chan error, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.installing || d.power == nil {
		return nil, false
	}
	ended := make(chan error, 1)
	power := d.power
	d.installing = d.fleet.spawn(func() {
		err := do(power)
		d.mu.Lock()
		d.installing = false
		d.mu.Unlock()
		ended <- err
	})
	return ended, d.installing
}

// installPackage is the installation itself. Every one that begins is in the
// journal once, however it ends.
func (d *device) installPackage(power context.Context, name, user string) error {
	f := d.ordered.Load()
	took := f.installTime
	if f.change.installFail {
		took /= 2
	}
	if err := pause(power, took); err != nil {
		d.note(eventInstall, "package=%s user=%s result=interrupted", name, user)
		return err
	}
	if f.change.installFail {
		d.note(eventInstall, "package=%s user=%s result=failed", name, user)
		return errHalfWay
	}
	d.fleet.store.change(func() {
		if !d.st.Unbooted {
			d.st.PackagesBefore, d.st.Unbooted = slices.Clone(d.st.Packages), true
		}
		if !f.change.listedOld {
			d.st.addPackage(name, time.Now())
		}
	})
	d.note(eventInstall, "package=%s user=%s result=ok", name, user)
	return nil
}

// addPackage puts a package in the place of its earlier versions. The store's
// lock is held.
func (st *deviceState) addPackage(name string, at time.Time) {
	base, version := splitPackage(name)
	st.Packages = append(slices.DeleteFunc(slices.Clone(st.Packages), func(p installed) bool { return p.Name == base }),
		installed{Name: base, Version: version, At: at.UTC()})
}

// hadPackage is an installation of long ago, which the journal knows nothing of.
func (d *device) hadPackage(name string) error {
	if !packageName.MatchString(name) {
		return fmt.Errorf("%w: %q is not the name of a package", ErrInvalid, name)
	}
	d.fleet.store.change(func() { d.st.addPackage(name, d.st.BootTime) })
	return nil
}

var packageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// splitPackage takes "-v2" off a package's name.
func splitPackage(name string) (base, version string) {
	m := regexp.MustCompile(`^(.+)-(v[0-9][0-9.]*)$`).FindStringSubmatch(name)
	if m == nil {
		return name, ""
	}
	return m[1], m[2]
}

// reload reboots, after the questions of the variant where asking is allowed.
func (c *osmCLI) reload(ctx context.Context, asking bool) {
	if c.s.cutAt(stepReload, cutBefore) {
		return
	}
	d := c.s.dev
	way := d.ordered.Load().change.reload
	if asking && way == reloadUnsaved {
		answer, err := c.t.ask(ctx, "Configuration has been modified; save first? [yes] ", false)
		switch {
		case err != nil:
			return
		case answer == "" || strings.EqualFold(answer, "yes"):
			d.saveConfig(c.s.user)
		case !strings.EqualFold(answer, "no"):
			c.t.printf("%% Reload canceled.\n")
			return
		}
	}
	if asking && way == reloadConfirm {
		answer, err := c.t.ask(ctx, "Confirm reload? (yes/no) ", false)
		if err != nil || !strings.EqualFold(answer, "yes") {
			c.t.printf("%% Reload canceled.\n")
			return
		}
	}
	if way != reloadDrop {
		c.t.printf("System is going down.\n")
		if c.t.Flush() != nil {
			return // the client has left
		}
	}
	if err := d.reboot("user=" + c.s.user); err != nil {
		c.t.printf("%% %v.\n", err)
	}
}
