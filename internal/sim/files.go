package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The files that clients use.
const (
	inventoryFile  = "inventory.yaml"
	knownHostsFile = "known_hosts"
	sshConfigFile  = "ssh_config"
	clientKeyFile  = "id_ed25519"
	secretsDir     = "secrets"
)

// writeFiles writes what clients need. Files that somebody edited are replaced
// only when the fleet itself has changed.
func (f *Fleet) writeFiles() error {
	if err := f.writeSecrets(); err != nil {
		return fmt.Errorf("write simulated fleet's secrets: %w", err)
	}
	if err := f.writeKnownHosts(); err != nil {
		return fmt.Errorf("write simulated fleet's known_hosts: %w", err)
	}
	if err := f.writeBMCs(); err != nil {
		return fmt.Errorf("write simulated fleet's BMCs: %w", err)
	}
	for name, content := range map[string][]byte{
		inventoryFile: f.inventory(),
		sshConfigFile: f.sshConfig(),
	} {
		if err := f.writeOwn(name, content); err != nil {
			return fmt.Errorf("write simulated fleet's %s: %w", name, err)
		}
	}
	return nil
}

// writeOwn writes a generated file unless the same content was generated before
// and the file is still there.
func (f *Fleet) writeOwn(name string, content []byte) error {
	path := filepath.Join(f.dir, name)
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	var before string
	f.store.read(func() { before = f.store.state.Written[name] })
	if _, err := os.Stat(path); err == nil && before == digest {
		return nil
	}
	if err := replaceFile(path, content, 0o600); err != nil {
		return err
	}
	f.store.change(func() { f.store.state.Written[name] = digest })
	return nil
}

func (f *Fleet) writeSecrets() error {
	if err := os.MkdirAll(filepath.Join(f.dir, secretsDir), 0o700); err != nil {
		return err
	}
	specs := make([]spec, 0, len(f.ordered))
	for _, d := range f.ordered {
		specs = append(specs, d.spec)
	}
	for _, name := range secretNames(specs) {
		content := []byte(f.keys.password(name) + "\n")
		if _, err := writeChanged(filepath.Join(f.dir, secretsDir, name), content, 0o600); err != nil {
			return err
		}
	}
	key := f.keys.clientKey()
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	private := filepath.Join(f.dir, clientKeyFile)
	changed, err := writeChanged(private+".pub", ssh.MarshalAuthorizedKey(pub), 0o644)
	if err != nil {
		return err
	}
	// The private form holds random padding: its public half says whether it is
	// still the right one.
	if _, err := os.Stat(private); err == nil && !changed {
		return nil
	}
	block, err := ssh.MarshalPrivateKey(key, "simulated fleet")
	if err != nil {
		return err
	}
	return replaceFile(private, pem.EncodeToMemory(block), 0o600)
}

// writeChanged replaces a file whose content differs and says whether it did.
func writeChanged(path string, content []byte, mode fs.FileMode) (bool, error) {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, replaceFile(path, content, mode)
}

// writeKnownHosts puts every device's true host keys into known_hosts and keeps
// the lines that are not about this fleet's ports, hashed ones among them.
func (f *Fleet) writeKnownHosts() error {
	f.hosts.Lock()
	defer f.hosts.Unlock()
	path := filepath.Join(f.dir, knownHostsFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ours := map[string]bool{}
	var fresh bytes.Buffer
	for _, d := range f.ordered {
		host := fmt.Sprintf("[127.0.0.1]:%d", d.listenPort())
		ours[host] = true
		keys, err := d.publicHostKeys()
		if err != nil {
			return err
		}
		for _, k := range keys {
			fmt.Fprintf(&fresh, "%s %s", host, ssh.MarshalAuthorizedKey(k))
		}
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

// inventory describes the fleet as fleetd wants it. Names and addresses are our
// own and need no quoting.
func (f *Fleet) inventory() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# A simulated fleet of %d devices, written by its simulator. Everything is on this\n# machine; the credentials are worth nothing elsewhere.\nversion: 1\nknown_hosts: %s\n", len(f.ordered), knownHostsFile)

	fmt.Fprint(&b, "\nsites:\n")
	for _, s := range sites() {
		if slices.ContainsFunc(f.ordered, func(d *device) bool { return d.site == s.name }) {
			fmt.Fprintf(&b, "  %s: {timezone: %s}\n", s.name, s.timezone)
		}
	}

	fmt.Fprint(&b, "\ncredentials:\n")
	for _, name := range f.distinct(func(d *device) string { return d.login }) {
		l := credential(name)
		how := fmt.Sprintf("password: {file: %s/%s}", secretsDir, l.secret)
		if l.key {
			how = fmt.Sprintf("private_key: {file: %s}", clientKeyFile)
		}
		if l.enable != "" {
			how += fmt.Sprintf(", enable: {file: %s/%s}", secretsDir, l.enable)
		}
		fmt.Fprintf(&b, "  %s: {username: %s, %s}\n", name, l.username, how)
	}
	fmt.Fprintf(&b, "  %s: {username: %s, password: {file: %s/%s}}\n", bmcSecret, bmcUser, secretsDir, bmcSecret)

	fmt.Fprint(&b, "\ngroups:\n")
	for _, name := range f.distinct(func(d *device) string { return d.group }) {
		i := slices.IndexFunc(f.ordered, func(d *device) bool { return d.group == name })
		d := f.ordered[i]
		fmt.Fprintf(&b, "  %s: {platform: %s, credentials: %s, labels: {role: %s}}\n", name, d.platform, d.login, d.role)
	}

	fmt.Fprint(&b, "\ndevices:\n")
	for _, d := range f.ordered {
		fmt.Fprintf(&b, "  - name: %s\n    address: %s\n    site: %s\n    groups: [%s]\n    labels: {tier: %s}\n",
			d.name, loopback(d.listenPort()), d.site, d.group, d.tier)
		if len(d.covers) > 0 {
			fmt.Fprintf(&b, "    covers: [%s]\n", strings.Join(d.covers, ", "))
		}
		if d.haPeer != "" {
			fmt.Fprintf(&b, "    ha_peer: %s\n", d.haPeer)
		}
		if d.jump != "" {
			fmt.Fprintf(&b, "    jump: %s\n", d.jump)
		}
		d.inventoryBMC(&b)
	}
	return b.Bytes()
}

func (f *Fleet) distinct(field func(*device) string) []string {
	out := make([]string, 0, len(f.ordered))
	for _, d := range f.ordered {
		out = append(out, field(d))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sshConfig makes `ssh -F DIR/ssh_config NAME` work for every device. The fleet's
// key is offered first; devices that do not take it ask for the password.
func (f *Fleet) sshConfig() []byte {
	quote := func(name string) string {
		return `"` + strings.ReplaceAll(filepath.Join(f.dir, name), "%", "%%") + `"`
	}
	var b bytes.Buffer
	for _, d := range f.ordered {
		fmt.Fprintf(&b, "Host %s\n    HostName 127.0.0.1\n    Port %d\n    User %s\n", d.name, d.listenPort(), credential(d.login).username)
		if d.jump != "" {
			fmt.Fprintf(&b, "    ProxyJump %s\n", d.jump)
		}
	}
	fmt.Fprintf(&b, "Host *\n    UserKnownHostsFile %s\n    GlobalKnownHostsFile none\n    StrictHostKeyChecking yes\n    UpdateHostKeys no\n    IdentityFile %s\n    IdentitiesOnly yes\n",
		quote(knownHostsFile), quote(clientKeyFile))
	return b.Bytes()
}
