package capture

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/hint"
)

//go:embed probe.sh
var probeText string

// Answer is what one program of the device answered.
type answer struct {
	asked  bool
	status int
	text   string
}

// Probe is what a device says before a capture begins.
type probe struct {
	tcpdump bool
	// peer is our end of the SSH session as the device sees it, own is its own.
	peer, own netip.AddrPort
	help      string
	list      answer // tcpdump -D
	open      answer // tcpdump -d on the interface without a filter
	filter    answer // and with it
}

// ask runs probe.sh. It starts no capture and changes nothing.
func ask(ctx context.Context, conn device.Conn, dev *device.Device, iface, filter string, sudo bool) (probe, error) {
	args := []string{"sh", "-c", probeText, "capfleet", iface, filter}
	if sudo {
		// sudo drops the variable that says from where we are seen.
		args = append([]string{"sh", "-c", `exec sudo -n env SSH_CONNECTION="$SSH_CONNECTION" "$@"`, "capfleet"}, args...)
	}
	res, err := conn.Exec(ctx, device.ExecRequest{Args: args, MaxBytes: 4 << 20})
	if err != nil {
		return probe{}, err
	}
	p, ok := readProbe(device.CleanText(res.Stdout))
	if ok {
		return p, nil
	}
	said := clip(device.CleanText(res.Stdout) + " " + device.CleanText(res.Stderr))
	e := &fault.Error{Kind: fault.Refused, Act: "look for tcpdump on " + dev.Name, Device: dev.Name, Stage: "check",
		Err: fmt.Errorf("the login's shell does not run sh (exit status %d): %s", res.Status, said)}
	switch {
	case sudo:
		e.Next = "the login must be allowed sh and env by sudo without a password, or leave --sudo out"
	case dev.Platform == platformBigIP:
		e.Next = "the login's shell must be bash: tmsh modify auth user " + dev.Credentials.Username + " shell bash"
	}
	return probe{}, e
}

// readProbe reads what probe.sh printed; false where that is something else.
func readProbe(text string) (probe, bool) {
	var p probe
	known := false
	for line := range strings.Lines(text) {
		what, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		var to *answer
		switch what {
		case "connection":
			p.peer, p.own = ends(rest)
		case "found":
			known, p.tcpdump = true, rest == "yes"
		case "help":
			p.help += rest + "\n"
		case "list":
			to = &p.list
		case "open":
			to = &p.open
		case "filter":
			to = &p.filter
		}
		if to == nil {
			continue
		}
		if status, ok := strings.CutPrefix(rest, "@status "); ok {
			to.asked = true
			to.status, _ = strconv.Atoi(status) // what is no number is no failure to see
			continue
		}
		to.text += rest + "\n"
	}
	return p, known
}

// ends reads $SSH_CONNECTION: address and port of the client, then of the server.
func ends(text string) (peer, own netip.AddrPort) {
	f := strings.Fields(text)
	if len(f) != 4 {
		return
	}
	at := func(host, port string) netip.AddrPort {
		addr, err := netip.ParseAddr(host)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(addr.Unmap().WithZone(""), uint16(n))
	}
	return at(f[0], f[1]), at(f[2], f[3])
}

// flushes reports whether the device's tcpdump knows -U, which writes each packet at
// once: the help begins with all options that are a letter, "tcpdump [-AbdD...]".
func (p probe) flushes() bool {
	_, after, ok := strings.Cut(p.help, "[-")
	letters, _, closed := strings.Cut(after, "]")
	return ok && closed && strings.Contains(letters, "U")
}

// takes reports whether its help names an option with an argument or a long one.
func (p probe) takes(option string) bool { return strings.Contains(p.help, "[ "+option) }

// version is the first line of its help, for people.
func (p probe) version() string {
	for line := range strings.Lines(p.help) {
		if strings.Contains(line, "version") {
			return clip(line)
		}
	}
	return "tcpdump"
}

// interfaces reads tcpdump -D: "1.eth0 [Up, Running]", or on old ones "1.eth0".
func (p probe) interfaces() []string {
	var names []string
	if p.list.status != 0 {
		return nil
	}
	for line := range strings.Lines(p.list.text) {
		number, rest, ok := strings.Cut(strings.TrimSpace(line), ".")
		if _, err := strconv.Atoi(number); err != nil || !ok {
			continue
		}
		if f := strings.Fields(rest); len(f) > 0 {
			names = append(names, f[0])
		}
	}
	return names
}

// check says what is in the way of a capture, naming the device and the remedy.
func (p probe) check(dev *device.Device, iface, filter string) error {
	refuse := func(kind fault.Kind, act, next, format string, args ...any) error {
		return &fault.Error{Kind: kind, Act: act + " on " + dev.Name, Device: dev.Name, Stage: "check", Err: fmt.Errorf(format, args...), Next: next}
	}
	if !p.tcpdump {
		return refuse(fault.Unsupported, "capture", "install tcpdump there", "there is no tcpdump")
	}
	if p.open.status != 0 {
		return p.cannotOpen(dev, iface, refuse)
	}
	// Where tcpdump lists its interfaces the one asked for is among them, but for a
	// BIG-IP, whose list is not known to name 0.0 and its VLANs.
	if names := p.interfaces(); len(names) > 0 && dev.Platform != platformBigIP && !slices.Contains(names, iface) {
		return p.unknownInterface(dev, iface, refuse)
	}
	if filter != "" && p.filter.status != 0 {
		return refuse(fault.Invalid, fmt.Sprintf("compile filter %q", clip(filter)), "see fleetctl capture filter --help, or pcap-filter(7)", "%s", complaint(p.filter.text))
	}
	return nil
}

type refusal func(kind fault.Kind, act, next, format string, args ...any) error

func (p probe) unknownInterface(dev *device.Device, iface string, refuse refusal) error {
	names := p.interfaces()
	next := "see tcpdump -D there"
	switch {
	case dev.Platform == platformBigIP:
		next = "0.0 is all of TMM, a VLAN's name one VLAN, eth0 or mgmt the management port"
	case len(names) > 0:
		next = "there are: " + strings.Join(names[:min(len(names), 20)], ", ")
	}
	return refuse(fault.Invalid, "open interface "+iface, next, "there is no such interface%s", hint.DidYouMean(iface, slices.Values(names)))
}

func (p probe) cannotOpen(dev *device.Device, iface string, refuse refusal) error {
	said := strings.ToLower(p.open.text)
	switch {
	case strings.Contains(said, "permission") || strings.Contains(said, "not permitted"):
		return refuse(fault.Denied, "open interface "+iface, "log in as root, use --sudo, or give tcpdump the right: setcap cap_net_raw,cap_net_admin=eip", "%s", complaint(p.open.text))
	case strings.Contains(said, "no such device"), strings.Contains(said, "syntax error"),
		len(p.interfaces()) > 0 && dev.Platform != platformBigIP && !slices.Contains(p.interfaces(), iface):
		return p.unknownInterface(dev, iface, refuse)
	}
	return refuse(fault.Refused, "open interface "+iface, "", "%s", complaint(p.open.text))
}

// complaint is what tcpdump said, without its name and its preamble.
func complaint(text string) string {
	var said []string
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "tcpdump: ")
		if line == "" || strings.HasPrefix(line, "(0") || strings.HasPrefix(line, "WARNING") || strings.HasPrefix(line, "Warning:") {
			continue
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return errors.New("tcpdump gives no reason").Error()
	}
	return clip(strings.Join(said, "; "))
}
