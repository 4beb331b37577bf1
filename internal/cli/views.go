package cli

import (
	"encoding/json"
	"slices"
	"strings"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// resultAnswer gives the result of a job of any operation as an answer to print,
// so that `job watch` shows what the command that made the job would have shown.
func resultAnswer(res api.Results) (answer, error) {
	res = complete(res)
	ans := answer{rows: res.Rows, doc: res}
	switch res.Job.Operation {
	case "report":
		var spec reportSpec
		if err := json.Unmarshal(res.Job.Spec, &spec); err != nil {
			return ans, fault.Wrap(fault.Internal, "read job "+res.Job.ID, err)
		}
		if spec.Record {
			err := recordingAnswer(&ans, res)
			return ans, err
		}
		ans.view = reportView(spec.Report)
	case "command":
		if err := commandAnswer(&ans, res); err != nil {
			return ans, err
		}
	case "check":
		ans.view = checkView()
	case "hostkeys":
		ans.view = hostKeyView()
	case "bmccerts":
		ans.view = certificateView()
	case "hotfix":
		if err := hotfixAnswer(&ans, res); err != nil {
			return ans, err
		}
	case "sel":
		if err := selAnswer(&ans, res); err != nil {
			return ans, err
		}
	}
	if ans.view.Table == nil && ans.people == nil {
		ans.view = viewOfKeys(res.Rows)
	}
	return ans, nil
}

// complete makes absent lists empty ones: rows and failures are always arrays.
func complete(res api.Results) api.Results {
	if res.Rows == nil {
		res.Rows = []json.RawMessage{}
	}
	if res.Failures == nil {
		res.Failures = []api.Failure{}
	}
	if res.Warnings == nil {
		res.Warnings = []string{}
	}
	return res
}

// reportView gives the columns of a report; the CSV files begin with the headings
// that people's spreadsheets already have. A report that this fleetctl does not
// know has a view made from its rows.
func reportView(name string) output.View {
	switch name {
	case "filesystem":
		return filesystemView()
	case "rotation-file":
		return rotationFileView()
	case "software":
		return softwareView()
	default:
		return output.View{}
	}
}

func filesystemView() output.View {
	return output.View{
		Table: []output.Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "filesystem", Head: "FILESYSTEM"},
			{Key: "total_bytes", Head: "TOTAL GB", Kind: output.Bytes},
			{Key: "used_bytes", Head: "USED GB", Kind: output.Bytes},
			{Key: "usable_bytes", Head: "USABLE GB", Kind: output.Bytes},
			{Key: "free_bytes", Head: "FREE GB", Kind: output.Bytes},
			{Key: "used_percent", Head: "USED", Kind: output.Percent},
			{Key: "assumed_unit", Head: "ASSUMED UNIT", Wide: true},
			{Key: "collected_at", Head: "COLLECTED", Kind: output.Time, Wide: true},
		},
		CSV: []output.Column{
			{Key: "device", Head: "Device"},
			{Key: "total_bytes", Head: "Total Space (GB)", Kind: output.Bytes},
			{Key: "used_bytes", Head: "Used Space (GB)", Kind: output.Bytes},
			{Key: "usable_bytes", Head: "Usable Space (GB)", Kind: output.Bytes},
			{Key: "free_bytes", Head: "Free Space (GB)", Kind: output.Bytes},
			{Key: "filesystem", Head: "File System"},
			{Key: "used_percent", Head: "Used (%)", Kind: output.Percent},
			{Key: "assumed_unit", Head: "Assumed Unit"},
			{Key: "collected_at", Head: "Collected At", Kind: output.Time},
		},
	}
}

func rotationFileView() output.View {
	return output.View{
		Table: []output.Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "name", Head: "NAME"},
			{Key: "user_limit_bytes", Head: "LIMIT GB", Kind: output.Bytes},
			{Key: "actual_limit_bytes", Head: "ACTUAL GB", Kind: output.Bytes, Wide: true},
			{Key: "disk_usage_bytes", Head: "USAGE GB", Kind: output.Bytes},
			{Key: "current_size_bytes", Head: "CURRENT GB", Kind: output.Bytes, Wide: true},
			{Key: "vision_retention_seconds", Head: "RETENTION", Kind: output.Duration},
			{Key: "vision_size_bytes", Head: "VISION GB", Kind: output.Bytes},
			{Key: "source", Head: "SOURCE"},
			{Key: "assumed_unit", Head: "ASSUMED UNIT", Wide: true},
			{Key: "collected_at", Head: "COLLECTED", Kind: output.Time, Wide: true},
		},
		CSV: []output.Column{
			{Key: "device", Head: "Device"},
			{Key: "name", Head: "Rot File Name"},
			{Key: "user_limit_bytes", Head: "User Size Limit (GB)", Kind: output.Bytes},
			{Key: "actual_limit_bytes", Head: "Actual Size Limit (GB)", Kind: output.Bytes},
			{Key: "disk_usage_bytes", Head: "Disk Usage (GB)", Kind: output.Bytes},
			{Key: "vision_retention_seconds", Head: "Vision Retention Time", Kind: output.Duration},
			{Key: "vision_size_bytes", Head: "Vision Size (GB)", Kind: output.Bytes},
			{Key: "current_size_bytes", Head: "Current Size (GB)", Kind: output.Bytes},
			{Key: "source", Head: "Source"},
			{Key: "vision_retention_seconds", Head: "Vision Retention (s)", Kind: output.Number},
			{Key: "assumed_unit", Head: "Assumed Unit"},
			{Key: "collected_at", Head: "Collected At", Kind: output.Time},
		},
	}
}

func softwareView() output.View {
	return output.View{
		Table: []output.Column{
			{Key: "device", Head: "DEVICE", Fixed: true},
			{Key: "platform", Head: "PLATFORM"},
			{Key: "version", Head: "VERSION"},
			{Key: "build", Head: "BUILD", Wide: true},
			{Key: "hotfixes", Head: "HOTFIXES", Kind: output.List},
			{Key: "active_volume", Head: "ACTIVE"},
			{Key: "volumes", Head: "VOLUMES", Kind: output.List, Member: volumeText, Wide: true},
			{Key: "maintenance", Head: "MAINTENANCE", Wide: true},
			{Key: "failover_state", Head: "FAILOVER"},
			{Key: "collected_at", Head: "COLLECTED", Kind: output.Time, Wide: true},
		},
		CSV: []output.Column{
			{Key: "device", Head: "Device"},
			{Key: "platform", Head: "Platform"},
			{Key: "version", Head: "Version"},
			{Key: "build", Head: "Build"},
			{Key: "hotfixes", Head: "Hotfixes", Kind: output.List},
			{Key: "active_volume", Head: "Active Volume"},
			{Key: "volumes", Head: "Volumes", Kind: output.List, Member: volumeText},
			{Key: "maintenance", Head: "Maintenance"},
			{Key: "failover_state", Head: "Failover State"},
			{Key: "collected_at", Head: "Collected At", Kind: output.Time},
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

// viewOfKeys makes a view from the rows themselves: every key, in the order in
// which the rows first have it, under its own name.
func viewOfKeys(rows []json.RawMessage) output.View {
	var keys []string
	for _, row := range rows {
		for _, key := range output.Keys(row) {
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return viewOfNames(keys)
}

// viewOfNames makes a view with a column for each key.
func viewOfNames(keys []string) output.View {
	view := output.View{Table: make([]output.Column, len(keys))}
	for i, key := range keys {
		view.Table[i] = output.Column{Key: key, Head: key, Kind: output.List}
	}
	return view
}
