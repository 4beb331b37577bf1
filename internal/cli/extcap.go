package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/capture/capturejob"
	"capfleet/internal/capture/filter"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

func (a *app) extcapCommand() *cobra.Command {
	cmd := a.group("extcap", "devices as interfaces inside Wireshark")
	cmd.AddCommand(a.extcapInstallCommand(), a.extcapUninstallCommand(), a.extcapRunCommand(), a.extcapRefreshCommand())
	return cmd
}

func (a *app) extcapInstallCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "make each device an interface in Wireshark",
		Long: `Puts a small program into Wireshark's extcap folder, which calls this fleetctl.
Each device that can capture is then an interface in Wireshark, with filter,
device interface and limits in its dialog. What goes wrong is shown there.

The folder is the one that tshark names, else the usual one of this system.
Wireshark up to 4.0 has none of your own; set WIRESHARK_EXTCAP_DIR to the folder
that you give with --dir, or install it as root for everybody.

Which fleetd is meant is fixed now, as --server, --context and the environment
say; no password is ever in an argument.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage),
		Example: `  fleetctl extcap install
  fleetctl --context lab extcap install --dir ~/extcap`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&dir, "dir", "", "extcap `folder` (default the one that tshark names)")
	_ = cmd.MarkFlagDirname("dir")
	cmd.RunE = a.local(func(ctx context.Context, _ []string) error { return a.installExtcap(ctx, dir) })
	return cmd
}

func (a *app) installExtcap(ctx context.Context, dir string) error {
	server, err := a.server()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap(fault.Internal, "find this program", err)
	}
	if dir == "" {
		if dir, err = extcapFolder(ctx, a.streams.Getenv); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return extcapFolderFault(dir, err)
	}
	name, text := extcapScript(self, server)
	file := filepath.Join(dir, name)
	// Written beside and renamed: Wireshark may be looking.
	if err := os.WriteFile(file+".new", []byte(text), 0o755); err != nil { //nolint:gosec // a program for everybody
		return extcapFolderFault(dir, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return errors.Join(extcapFolderFault(dir, err), os.Remove(file+".new"))
	}
	a.remark("installed %s for %s", file, server)
	if _, err := a.refreshExtcap(ctx, server); err != nil {
		a.remark("the devices will show once fleetd can be reached: %v", err)
	}
	return nil
}

func (a *app) extcapUninstallCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "take the devices out of Wireshark",
		Long: `Removes the program that extcap install put into Wireshark's folder, and what is
kept of fleets for it. A program of somebody else's is left alone.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage),
		Example: `  fleetctl extcap uninstall
  fleetctl extcap uninstall --dir ~/extcap`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&dir, "dir", "", "extcap `folder` (default the one that tshark names)")
	_ = cmd.MarkFlagDirname("dir")
	cmd.RunE = a.local(func(ctx context.Context, _ []string) error { return a.uninstallExtcap(ctx, dir) })
	return cmd
}

func (a *app) uninstallExtcap(ctx context.Context, dir string) error {
	var err error
	if dir == "" {
		if dir, err = extcapFolder(ctx, a.streams.Getenv); err != nil {
			return err
		}
	}
	name, _ := extcapScript("", "")
	file := filepath.Join(dir, name)
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fault.Error{Kind: fault.NotFound, Act: file + " is not there", Next: "name the folder that it was installed to with --dir"}
	case err != nil:
		return fault.Wrap(fault.Storage, "read "+file, err)
	case !strings.Contains(string(text), extcapCall):
		return fault.New(fault.Conflict, "%s is no program of ours", file)
	}
	if err := os.Remove(file); err != nil {
		return fault.Wrap(fault.Storage, "remove "+file, err)
	}
	a.remark("removed %s", file)
	cache, err := a.extcapCache("*")
	if err != nil {
		return err
	}
	known, err := filepath.Glob(filepath.Join(filepath.Dir(cache), "extcap-*.json"))
	for _, k := range known {
		err = errors.Join(err, os.Remove(k))
	}
	return fault.Wrap(fault.Storage, "remove what is kept of fleets", err)
}

// extcapCall is in the program for the folder, and in nobody else's.
const extcapCall = " extcap run -- "

func extcapFolderFault(dir string, err error) error {
	return &fault.Error{Kind: fault.Storage, Act: "write to " + dir, Err: err, Next: "give a folder of your own with --dir and set WIRESHARK_EXTCAP_DIR to it"}
}

// extcapScript is the program for the folder.
func extcapScript(self, server string) (name, text string) {
	if runtime.GOOS == "windows" {
		return "capfleet.bat", "@echo off\r\n\"" + self + "\" --server \"" + server + "\"" + extcapCall + "%*\r\n"
	}
	return "capfleet", "#!/bin/sh\nexec " + filter.Quote([]string{self, "--server", server, "extcap", "run", "--"}) + " \"$@\"\n"
}

// extcapFolder finds Wireshark's folder: one of the user's own, where there is one.
func extcapFolder(ctx context.Context, getenv func(string) string) (string, error) {
	if dir := getenv("WIRESHARK_EXTCAP_DIR"); dir != "" {
		return dir, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "tshark", "-G", "folders").Output(); err == nil {
		everybody := ""
		for line := range strings.Lines(string(out)) {
			what, dir, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch dir = strings.TrimSpace(dir); strings.ToLower(what) {
			case "personal extcap path":
				return dir, nil
			case "extcap path", "global extcap path":
				everybody = dir
			}
		}
		if everybody != "" {
			return everybody, nil
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &fault.Error{Kind: fault.Invalid, Act: "find Wireshark's extcap folder", Err: err, Next: "give it with --dir"}
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(getenv("APPDATA"), "Wireshark", "extcap"), nil
	}
	return filepath.Join(home, ".local", "lib", "wireshark", "extcap"), nil
}

func (a *app) extcapRunCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run -- OPTION...",
		Short: "answer Wireshark (the program in its folder calls this)",
		Long: `Speaks Wireshark's extcap protocol. Lists and dialogs are answered from what is
known of the fleet, without waiting for fleetd; that is brought up to date
behind Wireshark's back.

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitUnavailable),
		Hidden: true,
	}
	cmd.RunE = a.local(a.runExtcap)
	return cmd
}

func (a *app) extcapRefreshCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "refresh", Short: "bring up to date what Wireshark is shown", Hidden: true, Args: cobra.NoArgs,
		Long: "Asks fleetd for its devices and keeps them for Wireshark.\n\n" + exitHelp(fault.ExitDone, fault.ExitUnavailable)}
	cmd.RunE = a.local(func(ctx context.Context, _ []string) error {
		server, err := a.server()
		if err != nil {
			return err
		}
		_, err = a.refreshExtcap(ctx, server)
		return err
	})
	return cmd
}

// extcapRequest is what Wireshark asks, and the options of its dialog.
type extcapRequest struct {
	interfaces, dlts, config, capture bool
	id, fifo, filter                  string
	filtered                          bool
	options                           map[string]string
}

// extcapPrefix begins the interfaces' ids.
const extcapPrefix = "capfleet-"

// parseExtcap reads Wireshark's options; one that is not known is kept as the
// dialog's.
func parseExtcap(args []string) (extcapRequest, error) {
	r := extcapRequest{options: map[string]string{}}
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(args[i], "=")
		take := func() string {
			if !has && i+1 < len(args) {
				i++
				return args[i]
			}
			return value
		}
		switch name {
		case "--extcap-interfaces":
			r.interfaces = true
		case "--extcap-dlts":
			r.dlts = true
		case "--extcap-config":
			r.config = true
		case "--capture":
			r.capture = true
		case "--extcap-version", "--extcap-control-in", "--extcap-control-out", "--extcap-reload-option":
			take()
		case "--extcap-interface":
			r.id = take()
		case "--fifo":
			r.fifo = take()
		case "--extcap-capture-filter":
			r.filter, r.filtered = take(), true
		case "--sudo", "--no-promiscuous-mode":
			r.options[name] = "true"
			if has {
				r.options[name] = value
			}
		case "--device-interface", "--duration", "--snap-length", "--packets", "--f5":
			r.options[name] = take()
		default:
			return r, fault.New(fault.Invalid, "unknown extcap option %q", args[i])
		}
	}
	return r, nil
}

func (a *app) runExtcap(ctx context.Context, args []string) error {
	r, err := parseExtcap(args)
	if err != nil {
		return err
	}
	server, err := a.server()
	if err != nil {
		return err
	}
	if r.interfaces {
		return a.extcapInterfaces(ctx, server)
	}
	name, ok := strings.CutPrefix(r.id, extcapPrefix)
	if !ok {
		return fault.New(fault.Invalid, "%q is no interface of ours", r.id)
	}
	known, err := a.knownExtcap(ctx, server)
	if err != nil {
		return err
	}
	platform := known.platform(name)
	switch {
	case r.capture:
		return a.extcapCapture(ctx, server, name, r)
	case r.dlts:
		_, err = fmt.Fprintln(a.streams.Out, "dlt {number=1}{name=EN10MB}{display=Ethernet}")
	case r.config:
		_, err = io.WriteString(a.streams.Out, extcapConfig(platform))
	case r.filtered:
		// Any output says that the filter will not do.
		if f := strings.TrimSpace(r.filter); strings.HasPrefix(f, "-") {
			_, err = fmt.Fprintln(a.streams.Out, "A filter cannot begin with -; put it in brackets.")
		}
	default:
		return fault.New(fault.Invalid, "nothing is asked for")
	}
	return fault.Wrap(fault.Internal, "answer Wireshark", err)
}

// extcapInterfaces lists the devices. What is known is answered at once, and asked
// for anew when it is older than a minute, by a process that nobody waits for.
func (a *app) extcapInterfaces(ctx context.Context, server string) error {
	known, err := a.knownExtcap(ctx, server)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "extcap {version=%s}{help=https://www.tcpdump.org/manpages/pcap-filter.7.html}\n", word(a.build.Version, "dev"))
	for _, d := range known.Devices {
		fmt.Fprintf(&b, "interface {value=%s%s}{display=Capture Fleet: %s (%s)}\n", extcapPrefix, d.Name, d.Name, d.Platform)
	}
	if _, err := io.WriteString(a.streams.Out, b.String()); err != nil {
		return fault.Wrap(fault.Internal, "answer Wireshark", err)
	}
	if a.streams.Now().Sub(known.At) > time.Minute {
		self, err := os.Executable()
		if err != nil {
			return nil //nolint:nilerr // what is known was answered
		}
		refresh := exec.Command(self, "--quiet", "--server", server, "extcap", "refresh") //nolint:noctx,gosec // outlives this process
		if refresh.Start() == nil {
			_ = refresh.Process.Release()
		}
	}
	return nil
}

func word(s, otherwise string) string {
	if s == "" || strings.ContainsAny(s, "{}\n") {
		return otherwise
	}
	return s
}

// extcapConfig is the dialog of a device.
func extcapConfig(platform string) string {
	args := []string{
		"{call=--device-interface}{display=Interface on the device}{type=string}{default=" + usualInterface(platform) + "}{required=true}{tooltip=as the device's tcpdump names it}",
		"{call=--duration}{display=End after}{type=string}{default=1h}{tooltip=such as 30s, 10m or 2h; at most 24h}",
		"{call=--packets}{display=End after packets}{type=string}{default=}{tooltip=empty is no limit}",
		"{call=--snap-length}{display=Bytes of each packet}{type=unsigned}{default=0}{tooltip=0 is all}",
		"{call=--no-promiscuous-mode}{display=No promiscuous mode}{type=boolflag}{default=false}",
	}
	if platform == "f5_bigip" {
		args = append(args, "{call=--f5}{display=Details (--f5)}{type=string}{default=}{tooltip=such as n,ssl:v; with ssl the device is changed while it captures, and the capture holds keys}")
	} else {
		args = append(args, "{call=--sudo}{display=Through sudo -n}{type=boolflag}{default=false}")
	}
	var b strings.Builder
	for i, arg := range args {
		fmt.Fprintf(&b, "arg {number=%d}%s\n", i, arg)
	}
	return b.String()
}

func usualInterface(platform string) string {
	if platform == "f5_bigip" {
		return "0.0:nnnp"
	}
	return "eth0"
}

// extcapCapture captures into Wireshark's pipe until Wireshark closes it or ends
// this process.
func (a *app) extcapCapture(ctx context.Context, server, device string, r extcapRequest) (err error) {
	f, err := a.connect(server)
	if err != nil {
		return err
	}
	opts := captureLiveOptions{iface: r.options["--device-interface"], filter: r.filter, f5: r.options["--f5"], duration: time.Hour,
		sudo: r.options["--sudo"] == "true", noPromiscuous: r.options["--no-promiscuous-mode"] == "true"}
	if opts.iface == "" {
		opts.iface = "eth0"
		if d, err := f.Device(ctx, device); err == nil {
			opts.iface = usualInterface(d.Platform)
		}
	}
	given := map[string]bool{}
	for name, into := range map[string]any{"duration": &opts.duration, "snap-length": &opts.snapLen, "packets": &opts.packets} {
		text := strings.TrimSpace(r.options["--"+name])
		if text == "" {
			continue
		}
		given[name] = true
		var err error
		if d, ok := into.(*time.Duration); ok {
			*d, err = time.ParseDuration(text)
		} else {
			_, err = fmt.Sscan(text, into)
		}
		if err != nil {
			return fault.New(fault.Invalid, "%s: %q cannot be read", name, text)
		}
	}
	spec := opts.spec(func(name string) bool { return given[name] })
	fifo, err := os.OpenFile(r.fifo, os.O_WRONLY, 0)
	if err != nil {
		return fault.Wrap(fault.Invalid, "open Wireshark's pipe", err)
	}
	defer func() { _ = fifo.Close() }()
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	job, err := a.start(ctx, f, capturejob.Operation, capturejob.Spec{Live: spec}, api.Selection{Names: []string{device}})
	if err != nil {
		return err
	}
	res, err := a.readLive(ctx, f, job, fifo, func(text string) { a.note(job.ID, text) })
	// Wireshark takes what is on stderr for an error; a good end is silent.
	quiet := a.global.quiet
	a.global.quiet = err == nil && len(res.Failures) == 0
	defer func() { a.global.quiet = quiet }()
	if err := a.reportLive(res, "Wireshark", err); err != nil {
		return err
	}
	if len(res.Failures) > 0 {
		return statusOf(jobCode(res.Job))
	}
	return nil
}

// extcapKnown is what is kept of a fleet for Wireshark.
type extcapKnown struct {
	At      time.Time      `json:"at"`
	Server  string         `json:"server"`
	Devices []extcapDevice `json:"devices"`
}

type extcapDevice struct {
	Name     string `json:"name"`
	Platform string `json:"platform"`
}

func (k *extcapKnown) platform(device string) string {
	for _, d := range k.Devices {
		if d.Name == device {
			return d.Platform
		}
	}
	return ""
}

// firstPatience bounds how long Wireshark waits for a fleet that nothing is known
// of yet.
const firstPatience = 80 * time.Millisecond

// knownExtcap gives what is kept, or asks for a moment where nothing is.
func (a *app) knownExtcap(ctx context.Context, server string) (extcapKnown, error) {
	var k extcapKnown
	file, err := a.extcapCache(server)
	if err != nil {
		return k, err
	}
	if raw, err := os.ReadFile(file); err == nil && json.Unmarshal(raw, &k) == nil && k.Server == server {
		return k, nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstPatience)
	defer cancel()
	if k, err = a.refreshExtcap(ctx, server); err != nil {
		return extcapKnown{}, nil //nolint:nilerr // Wireshark would show no interface of anybody; the next start will know
	}
	return k, nil
}

// refreshExtcap asks fleetd and keeps the answer.
func (a *app) refreshExtcap(ctx context.Context, server string) (extcapKnown, error) {
	k := extcapKnown{At: a.streams.Now().UTC(), Server: server}
	f, err := a.connect(server)
	if err != nil {
		return k, err
	}
	devices, err := f.Devices(ctx, api.Selection{})
	if err != nil {
		return k, err
	}
	for _, d := range devices {
		if d.Platform == "linux" || d.Platform == "f5_bigip" {
			k.Devices = append(k.Devices, extcapDevice{Name: d.Name, Platform: d.Platform})
		}
	}
	file, err := a.extcapCache(server)
	if err != nil {
		return k, err
	}
	raw, err := json.Marshal(k)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = output.WriteFile(file, raw)
	}
	return k, fault.Wrap(fault.Storage, "keep the devices for Wireshark", err)
}

// extcapCache is where the devices of a fleet are kept.
func (a *app) extcapCache(server string) (string, error) {
	dir := a.streams.Getenv("XDG_CACHE_HOME")
	if dir == "" {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return "", fault.Wrap(fault.Invalid, "find the folder for what is kept", err)
		}
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, server)
	if len(name) > 100 {
		name = name[len(name)-100:]
	}
	return filepath.Join(dir, "fleetctl", "extcap-"+name+".json"), nil
}
