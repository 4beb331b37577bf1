// Package internal_test holds the rules about who may import whom. The table is
// the architecture (docs/architecture.md draws it); imports only point down.
package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "capfleet/"

// allowed lists, for each package, which of our own packages it may import. A
// name ending in /... stands for a package and all below it. Packages under one
// entry may import each other only where the entry says so.
var allowed = map[string][]string{
	"cmd/fleetctl": {"internal/cli"},
	"cmd/fleetd":   {"internal/daemon", "internal/config", "internal/fault"},

	"internal/cli":        {"internal/cli/output", "internal/api", "internal/api/client", "internal/parse", "internal/demo", "internal/sim", "internal/config", "internal/ansible", "internal/dossier", "internal/pcap/...", "internal/capture/capturejob", "internal/capture/filter", "internal/fault"},
	"internal/cli/output": {},
	"internal/demo":       {"internal/daemon", "internal/sim", "internal/config", "internal/device", "internal/fault"},
	"internal/daemon": {
		"internal/api", "internal/metrics", "internal/jobs", "internal/rollout", "internal/runner", "internal/operation", "internal/artifact", "internal/config",
		"internal/ledger", "internal/parse", "internal/report", "internal/command", "internal/check", "internal/hostkeys", "internal/hotfix", "internal/transfer", "internal/sel", "internal/bmc", "internal/dossier", "internal/sshsig", "internal/override", "internal/doctor", "internal/audit",
		"internal/schedule", "internal/history", "internal/notify", "internal/cli/output", "internal/capture", "internal/stream",
		"internal/device/...", "internal/secret", "internal/fault",
	},
	"internal/metrics":    {"internal/jobs", "internal/ledger", "internal/device", "internal/fault"},
	"internal/api":        {"internal/fault"},
	"internal/api/client": {"internal/api", "internal/rows", "internal/fault"},
	"internal/runner":     {"internal/jobs", "internal/operation", "internal/artifact", "internal/device", "internal/fault"},
	"internal/jobs":       {"internal/rollout", "internal/rows", "internal/audit", "internal/ledger", "internal/fault"},
	"internal/rollout":    {"internal/fault"},
	"internal/schedule":   {"internal/audit", "internal/ledger", "internal/fault"},
	"internal/history":    {"internal/operation", "internal/device", "internal/ledger", "internal/fault"},
	"internal/notify":     {"internal/config", "internal/ledger", "internal/secret", "internal/fault"},
	"internal/artifact":   {"internal/audit", "internal/ledger", "internal/fault"},

	// Operations: alike, and blind to each other and to the queue.
	"internal/report":   {"internal/operation", "internal/device", "internal/parse", "internal/transcript", "internal/fault", "templates"},
	"internal/command":  {"internal/operation", "internal/device", "internal/parse", "internal/transcript", "internal/fault"},
	"internal/check":    {"internal/operation", "internal/device", "internal/fault"},
	"internal/hostkeys": {"internal/operation", "internal/device", "internal/fault"},
	"internal/capture":  {"internal/capture/capturejob", "internal/operation", "internal/device", "internal/stream", "internal/transfer", "internal/pcap/...", "internal/hint", "internal/fault"},
	"internal/hotfix":   {"internal/operation", "internal/device", "internal/transfer", "internal/fault"},
	"internal/sel":      {"internal/operation", "internal/device", "internal/bmc", "internal/dossier", "internal/secret", "internal/fault"},

	// It makes an inventory of ours, and reads it as fleetd would.
	"internal/ansible": {"internal/device/inventory", "internal/fault"},

	// Files that operators own, tried as the operations would use them.
	"internal/override": {"internal/report", "internal/parse", "internal/fault", "templates"},
	"internal/doctor":   {"internal/report", "internal/parse", "internal/device", "internal/secret", "internal/fault"},

	"internal/operation":            {"internal/device", "internal/fault"},
	"internal/device":               {"internal/hint", "internal/secret", "internal/fault"},
	"internal/device/inventory":     {"internal/device", "internal/hint", "internal/secret", "internal/fault"},
	"internal/device/endace":        {"internal/device", "internal/fault"},
	"internal/device/bigip":         {"internal/device", "internal/fault"},
	"internal/device/linux":         {"internal/device", "internal/fault"},
	"internal/device/sshconn":       {"internal/device", "internal/device/sshconn/shell", "internal/secret", "internal/fault"},
	"internal/device/sshconn/shell": {"internal/device", "internal/secret", "internal/fault"},

	// Archives that prove what was gathered, and the signatures of OpenSSH.
	"internal/dossier": {"internal/sshsig", "internal/fault"},
	"internal/sshsig":  {},

	// Event logs of BMCs, which are read while the device is dead.
	"internal/bmc":      {"internal/bmc/rmcp", "internal/secret", "internal/fault"},
	"internal/bmc/rmcp": {"internal/fault"},

	// Files to devices and from them, for operations.
	"internal/transfer": {"internal/device", "internal/fault"},

	"internal/parse":      {"internal/hint", "internal/fault", "templates"},
	"internal/transcript": {},

	// Captures: no fleet, and only itself below.
	"internal/pcap":          {},
	"internal/pcap/layers":   {"internal/pcap"},
	"internal/pcap/flow":     {"internal/pcap", "internal/pcap/layers"},
	"internal/pcap/info":     {"internal/pcap", "internal/pcap/layers"},
	"internal/pcap/tlsaudit": {"internal/pcap", "internal/pcap/flow", "internal/pcap/layers", "internal/pcap/tlshello"},
	"internal/pcap/records":  {},
	"internal/pcap/tlshello": {},
	"internal/pcap/xff":      {"internal/pcap", "internal/pcap/flow"},
	"internal/pcap/merge":    {"internal/pcap"},
	"internal/pcap/replay":   {"internal/pcap", "internal/pcap/layers"},
	"internal/pcap/f5":       {"internal/pcap", "internal/pcap/layers"},
	"internal/pcap/path":     {"internal/pcap", "internal/pcap/layers"},
	"internal/pcap/ipfix":    {"internal/pcap", "internal/pcap/layers"},
	"internal/pcap/rewrite":  {"internal/pcap", "internal/pcap/layers"},

	// What both ends of a capture job know, and no more.
	"internal/capture/capturejob": {"internal/pcap/..."},
	"internal/capture/filter":     {"internal/fault"},
	"internal/stream":             {"internal/fault"},
	"internal/audit":              {"internal/ledger", "internal/fault"},
	"internal/ledger":             {"internal/fault"},
	"internal/config":             {"internal/hint", "internal/secret", "internal/fault"},
	"internal/rows":               {},
	"internal/secret":             {},
	"internal/hint":               {},
	"internal/fault":              {},
	"internal/sim":                {},
	"templates":                   {},
}

// support lists packages that only tests and benchmarks import; they may import
// anything, and no shipped package may import them.
var support = []string{
	"internal/childtest",
	"internal/leaktest",
	"internal/bmc/bmctest",
	"internal/capture/capturetest",
	"internal/device/sshconn/sshdtest",
	"internal/device/drivertest",
	"internal/jobs/runnertest",
	"internal/pcap/corpus",
	"internal/pcap/pcaptest",
	"bench/...",
}

// owners names the packages in which a library may appear, so that a reader
// finds each in one place and a change of library stays in it.
var owners = map[string][]string{
	"go.etcd.io/bbolt":                 {"internal/ledger"},
	"github.com/scrapli/scrapligo":     {"internal/device/sshconn/shell"},
	"github.com/sirikothe/gotextfsm":   {"internal/parse"},
	"golang.org/x/crypto/ssh":          {"internal/device/sshconn/...", "internal/sshsig", "internal/sim"}, // sshsig signs files and opens no connection
	"github.com/pkg/sftp":              {"internal/device/sshconn/...", "internal/sim"},
	"github.com/skeema/knownhosts":     {"internal/device/sshconn"},
	"github.com/danielgtaylor/huma/v2": {"internal/api"},
	"github.com/spf13/cobra":           {"internal/cli"},
	"github.com/prometheus":            {"internal/metrics"},
	"k8s.io/apimachinery":              {"internal/device/inventory"},
	"filippo.io/age":                   {"internal/secret"},
	"github.com/bougou/go-ipmi":        {"internal/bmc/...", "internal/sim"},
	"github.com/netresearch/go-cron":   {"internal/schedule"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

func TestImportsOnlyPointDown(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		name, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || name == "internal" {
			continue
		}
		if within(name, support) {
			continue
		}
		rule, ok := allowed[name]
		if !ok {
			t.Errorf("%s is not in the table: say what it owns and what it may import", name)
			continue
		}
		for _, imp := range p.Imports {
			if dep, ours := strings.CutPrefix(imp, module); ours && !within(dep, rule) {
				t.Errorf("%s imports %s, which its rule does not allow (%s)", name, dep, strings.Join(rule, ", "))
			}
		}
	}
}

func TestLibrariesHaveOneHome(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if within(name, support) {
			continue
		}
		for _, imp := range p.Imports {
			for lib, homes := range owners {
				if (imp == lib || strings.HasPrefix(imp, lib+"/")) && !within(name, homes) {
					t.Errorf("%s imports %s, which belongs to %s", name, imp, strings.Join(homes, ", "))
				}
			}
		}
	}
}

func within(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if dir, ok := strings.CutSuffix(p, "/..."); ok {
			return name == dir || strings.HasPrefix(name, dir+"/")
		}
		return name == p
	})
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
