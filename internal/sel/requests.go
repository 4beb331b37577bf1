package sel

import "capfleet/internal/device"

// request is one command whose output goes into a dossier.
type request struct {
	name string
	line string
	mode string // of the platform's command line; "" is its working mode
}

// requests is what a dossier asks of a platform: software, RAID, file systems,
// logs and the state of what captures, in the order in which a device that is
// about to die should be asked. They only read; what a device does not know it
// answers with an error, and the part says so. Which commands a probe has is
// partly known from the manuals of its family only (show log, show interfaces).
func requests(platform string) []request {
	switch platform {
	case "endace_osm":
		return []request{
			{"software", "show version", ""},
			{"clock", "show clock", ""},
			{"raid-status", "show raid status", ""},
			{"raid-disk-health", "show raid disk health", ""},
			{"file-systems", "show files system", ""},
			{"rotation-files", "show erfstream rotation-file", ""},
			{"capture", "show erfstream statistics", ""},
			{"packages", "show packages", ""},
			{"interfaces", "show interfaces", ""},
			{"log", "show log", ""},
		}
	case "f5_bigip":
		return []request{
			{"software", "show sys version", "tmsh"},
			{"volumes", "show sys software status", "tmsh"},
			{"hardware", "show sys hardware", "tmsh"},
			{"raid", "show sys raid", "tmsh"},
			{"failover", "show sys failover", "tmsh"},
			{"file-systems", "df -P", "bash"},
			{"log-ltm", "show sys log ltm lines 1000", "tmsh"},
			{"log-kernel", "show sys log kernel lines 1000", "tmsh"},
		}
	case "linux":
		return []request{
			{"software", "cat /etc/os-release", ""},
			{"kernel", "uname -a", ""},
			{"uptime", "uptime", ""},
			{"raid", "cat /proc/mdstat", ""},
			{"file-systems", "df -P -k", ""},
			{"memory", "cat /proc/meminfo", ""},
			{"interfaces", "cat /proc/net/dev", ""},
			{"kernel-log", "dmesg", ""},
			{"journal", "journalctl --no-pager -n 2000", ""},
			{"pci", "lspci -vv", ""},
		}
	default:
		return nil
	}
}

// allowed tells whether a request may be sent under a platform's definition, which
// an operator may have narrowed. A Linux host has no list; what is asked of it is
// the list above and nothing else.
func allowed(def *device.Definition, r request) bool {
	return def.Platform == "linux" || def.IsReadOnly(r.line) || r.mode == "bash" && r.line == "df -P"
}
