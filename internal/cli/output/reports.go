package output

import (
	"encoding/json"
	"strings"
	"time"
)

// ReportView gives the columns of a report; the CSV files begin with the headings
// that people's spreadsheets already have. One that is not
// known has an empty view.
func ReportView(name string) View {
	switch name {
	case "filesystem":
		return filesystemView()
	case "rotation-file":
		return rotationFileView()
	case "software":
		return softwareView()
	case "capacity":
		return capacityView()
	default:
		return View{}
	}
}

func filesystemView() View {
	return View{
		Table: []Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "filesystem", Head: "FILESYSTEM"},
			{Key: "total_bytes", Head: "TOTAL GB", Kind: Bytes},
			{Key: "used_bytes", Head: "USED GB", Kind: Bytes},
			{Key: "usable_bytes", Head: "USABLE GB", Kind: Bytes},
			{Key: "free_bytes", Head: "FREE GB", Kind: Bytes},
			{Key: "used_percent", Head: "USED", Kind: Percent},
			{Key: "assumed_unit", Head: "ASSUMED UNIT", Wide: true},
			{Key: "collected_at", Head: "COLLECTED", Kind: Time, Wide: true},
		},
		CSV: []Column{
			{Key: "device", Head: "Device"},
			{Key: "total_bytes", Head: "Total Space (GB)", Kind: Bytes},
			{Key: "used_bytes", Head: "Used Space (GB)", Kind: Bytes},
			{Key: "usable_bytes", Head: "Usable Space (GB)", Kind: Bytes},
			{Key: "free_bytes", Head: "Free Space (GB)", Kind: Bytes},
			{Key: "filesystem", Head: "File System"},
			{Key: "used_percent", Head: "Used (%)", Kind: Percent},
			{Key: "assumed_unit", Head: "Assumed Unit"},
			{Key: "collected_at", Head: "Collected At", Kind: Time},
		},
	}
}

func rotationFileView() View {
	return View{
		Table: []Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "name", Head: "NAME"},
			{Key: "user_limit_bytes", Head: "LIMIT GB", Kind: Bytes},
			{Key: "actual_limit_bytes", Head: "ACTUAL GB", Kind: Bytes, Wide: true},
			{Key: "disk_usage_bytes", Head: "USAGE GB", Kind: Bytes},
			{Key: "current_size_bytes", Head: "CURRENT GB", Kind: Bytes, Wide: true},
			{Key: "vision_retention_seconds", Head: "RETENTION", Kind: Duration},
			{Key: "vision_size_bytes", Head: "VISION GB", Kind: Bytes},
			{Key: "source", Head: "SOURCE"},
			{Key: "assumed_unit", Head: "ASSUMED UNIT", Wide: true},
			{Key: "collected_at", Head: "COLLECTED", Kind: Time, Wide: true},
		},
		CSV: []Column{
			{Key: "device", Head: "Device"},
			{Key: "name", Head: "Rot File Name"},
			{Key: "user_limit_bytes", Head: "User Size Limit (GB)", Kind: Bytes},
			{Key: "actual_limit_bytes", Head: "Actual Size Limit (GB)", Kind: Bytes},
			{Key: "disk_usage_bytes", Head: "Disk Usage (GB)", Kind: Bytes},
			{Key: "vision_retention_seconds", Head: "Vision Retention Time", Kind: Duration},
			{Key: "vision_size_bytes", Head: "Vision Size (GB)", Kind: Bytes},
			{Key: "current_size_bytes", Head: "Current Size (GB)", Kind: Bytes},
			{Key: "source", Head: "Source"},
			{Key: "vision_retention_seconds", Head: "Vision Retention (s)", Kind: Number},
			{Key: "assumed_unit", Head: "Assumed Unit"},
			{Key: "collected_at", Head: "Collected At", Kind: Time},
		},
	}
}

func softwareView() View {
	return View{
		Table: []Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "platform", Head: "PLATFORM"},
			{Key: "version", Head: "VERSION"},
			{Key: "build", Head: "BUILD", Wide: true},
			{Key: "hotfixes", Head: "HOTFIXES", Kind: List},
			{Key: "active_volume", Head: "ACTIVE"},
			{Key: "volumes", Head: "VOLUMES", Kind: List, Member: volumeText, Wide: true},
			{Key: "maintenance", Head: "MAINTENANCE", Wide: true},
			{Key: "failover_state", Head: "FAILOVER"},
			{Key: "collected_at", Head: "COLLECTED", Kind: Time, Wide: true},
		},
		CSV: []Column{
			{Key: "device", Head: "Device"},
			{Key: "platform", Head: "Platform"},
			{Key: "version", Head: "Version"},
			{Key: "build", Head: "Build"},
			{Key: "hotfixes", Head: "Hotfixes", Kind: List},
			{Key: "active_volume", Head: "Active Volume"},
			{Key: "volumes", Head: "Volumes", Kind: List, Member: volumeText},
			{Key: "maintenance", Head: "Maintenance"},
			{Key: "failover_state", Head: "Failover State"},
			{Key: "collected_at", Head: "Collected At", Kind: Time},
		},
	}
}

// volumeText gives a boot volume in a few words: "HD1.1 17.1.0 0.0.16 active".
func volumeText(v map[string]any) string {
	var words []string
	for _, key := range []string{"volume", "version", "build", "status"} {
		if word, ok := v[key].(string); ok && word != "complete" {
			words = append(words, word)
		}
	}
	if slot, ok := v["slot"].(json.Number); ok {
		words = append(words, "slot "+slot.String())
	}
	if v["active"] == true {
		words = append(words, "active")
	}
	return strings.Join(words, " ")
}

func capacityView() View {
	return View{
		Table: []Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "name", Head: "NAME"},
			{Key: "state", Head: "STATE", Kind: State},
			{Key: "limit_bytes", Head: "LIMIT GB", Kind: Bytes, Wide: true},
			{Key: "used_percent", Head: "USED", Kind: Percent},
			{Key: "growth_bytes_per_day", Head: "GB A DAY", Kind: Bytes, Wide: true},
			{Key: "retention_seconds", Head: "REACHES BACK", Kind: Duration},
			{Key: "trend_seconds_per_day", Head: "A DAY", Kind: Duration, Wide: true},
			{Key: "forecast_retention_seconds", Head: "FORECAST", Kind: Duration},
			{Key: "forecast_low_seconds", Head: "LOW", Kind: Duration, Wide: true},
			{Key: "forecast_high_seconds", Head: "HIGH", Kind: Duration, Wide: true},
			{Key: "vision_outlives_packets", Head: "VISION OUTLIVES", Wide: true},
			{Head: "AHEAD", Says: capacityAhead},
			{Key: "collected_at", Head: "COLLECTED", Kind: Time, Wide: true},
		},
		CSV: []Column{
			{Key: "device", Head: "Device"},
			{Key: "name", Head: "Name"},
			{Key: "kind", Head: "Kind"},
			{Key: "state", Head: "State"},
			{Key: "limit_bytes", Head: "Limit (GB)", Kind: Bytes},
			{Key: "used_bytes", Head: "Used (GB)", Kind: Bytes},
			{Key: "used_percent", Head: "Used (%)", Kind: Percent},
			{Key: "growth_bytes_per_day", Head: "Growth a Day (GB)", Kind: Bytes},
			{Key: "full_at", Head: "Full At", Kind: Time},
			{Key: "full_at_low", Head: "Full At (low)", Kind: Time},
			{Key: "full_at_high", Head: "Full At (high)", Kind: Time},
			{Key: "retention_seconds", Head: "Retention (s)", Kind: Number},
			{Key: "retention_basis", Head: "Retention From"},
			{Key: "forecast_at", Head: "Forecast For", Kind: Time},
			{Key: "forecast_retention_seconds", Head: "Forecast Retention (s)", Kind: Number},
			{Key: "forecast_low_seconds", Head: "Forecast Low (s)", Kind: Number},
			{Key: "forecast_high_seconds", Head: "Forecast High (s)", Kind: Number},
			{Key: "forecast_used_bytes", Head: "Forecast Used (GB)", Kind: Bytes},
			{Key: "crossed_at", Head: "Below Limit At", Kind: Time},
			{Key: "packet_retention_seconds", Head: "Packet Retention (s)", Kind: Number},
			{Key: "vision_retention_seconds", Head: "Vision Retention (s)", Kind: Number},
			{Key: "vision_outlives_packets", Head: "Vision Outlives Packets"},
			{Key: "reason", Head: "Reason"},
			{Key: "collected_at", Head: "Collected At", Kind: Time},
			{Key: "trend_seconds_per_day", Head: "Trend a Day (s)", Kind: Number},
			{Key: "trend_low_seconds_per_day", Head: "Trend Low (s)", Kind: Number},
			{Key: "trend_high_seconds_per_day", Head: "Trend High (s)", Kind: Number},
			{Key: "when_full_seconds", Head: "Retention When Full (s)", Kind: Number},
			{Key: "crossed_at_low", Head: "Below Limit At (low)", Kind: Time},
			{Key: "crossed_at_high", Head: "Below Limit At (high)", Kind: Time},
		},
	}
}

// capacityAhead gives what a ring or file system comes to, or why that is not known:
// "2026-05-01 full", "2026-05-01 <7d".
func capacityAhead(row map[string]any) string {
	for _, c := range []struct{ key, what string }{{"full_at", "full"}, {"crossed_at", "below limit"}} {
		text, ok := row[c.key].(string)
		at, err := time.Parse(time.RFC3339, text)
		if !ok || err != nil || row["state"] == "full" && c.key == "full_at" {
			continue
		}
		if n, ok := row["limit_seconds"].(json.Number); ok && c.key == "crossed_at" {
			if seconds, err := n.Int64(); err == nil {
				c.what = "<" + strings.TrimSuffix(Short(time.Duration(seconds)*time.Second), " 0h")
			}
		}
		return at.UTC().Format(time.DateOnly) + " " + c.what
	}
	reason, _ := row["reason"].(string)
	return reason
}

// ViewOfKeys makes a view from the rows themselves: every key, in the order in which
// the rows first have it, under its own name.
func ViewOfKeys(rows []json.RawMessage) View {
	var view View
	seen := map[string]bool{}
	for _, row := range rows {
		for _, key := range Keys(row) {
			if !seen[key] {
				seen[key] = true
				view.Table = append(view.Table, Column{Key: key, Head: key, Kind: List})
			}
		}
	}
	return view
}
