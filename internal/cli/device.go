package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
)

func (a *app) deviceCommand() *cobra.Command {
	cmd := a.group("device", "the devices of the inventory")
	cmd.AddCommand(a.deviceListCommand(), a.deviceShowCommand(), a.deviceCheckCommand(), a.deviceTrustCommand(), a.deviceRecordCommand(), a.deviceImportCommand())
	return cmd
}

// deviceKeysHelp documents a device's JSON.
const deviceKeysHelp = `name, platform, address, site, groups, labels, covers, ha_peer, jump, bmc,
username, facts (last seen), last_seen_at, last_error`

// deviceLine is a device as a line of a table.
type deviceLine struct {
	Name     string   `json:"name"`
	Platform string   `json:"platform"`
	Site     string   `json:"site"`
	Address  string   `json:"address"`
	Version  string   `json:"version"`
	LastSeen string   `json:"last_seen_at"`
	Groups   []string `json:"groups"`
	Labels   string   `json:"labels"`
	HAPeer   string   `json:"ha_peer"`
	Jump     []string `json:"jump"`
	Error    string   `json:"last_error"`
}

func deviceLines(devices []api.Device) []deviceLine {
	lines := make([]deviceLine, len(devices))
	for i, d := range devices {
		lines[i] = deviceLine{Name: d.Name, Platform: d.Platform, Site: d.Site, Address: d.Address, Version: d.Facts["version"],
			Groups: d.Groups, Labels: pairs(d.Labels), HAPeer: d.HAPeer, Jump: d.Jump, Error: d.LastError}
		if d.LastSeenAt != nil {
			lines[i].LastSeen = showTime(d.LastSeenAt)
		}
	}
	return lines
}

func deviceView() output.View {
	return output.View{Table: []output.Column{
		{Key: "name", Head: "NAME", Fixed: true},
		{Key: "platform", Head: "PLATFORM"},
		{Key: "site", Head: "SITE"},
		{Key: "address", Head: "ADDRESS", Fixed: true},
		{Key: "version", Head: "VERSION"},
		{Key: "last_seen_at", Head: "LAST SEEN", Kind: output.Age, Fixed: true},
		{Key: "groups", Head: "GROUPS", Kind: output.List, Wide: true},
		{Key: "labels", Head: "LABELS", Wide: true},
		{Key: "ha_peer", Head: "HA PEER", Wide: true},
		{Key: "jump", Head: "JUMP", Kind: output.List, Wide: true},
		{Key: "last_error", Head: "LAST ERROR", Wide: true},
	}}
}

// pairs gives a map as "key=value" in order of key.
func pairs(m map[string]string) string {
	list := make([]string, 0, len(m))
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}
