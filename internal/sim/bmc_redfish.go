package sim

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	redfishRoot = "/redfish/v1"
	redfishPage = 5 // entries
)

// redfish is a service as some boards have it: the log under the manager, beside
// one of another type, in pages with whole entries.
func (b *board) redfish(mux *http.ServeMux) {
	ref := func(path string) map[string]any { return map[string]any{"@odata.id": path} }
	members := func(paths ...string) map[string]any {
		list := make([]any, 0, len(paths))
		for _, p := range paths {
			list = append(list, ref(p))
		}
		return map[string]any{"Members": list, "Members@odata.count": len(paths)}
	}
	serve := func(path string, body func(r *http.Request) map[string]any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if path != redfishRoot+"/{$}" { // the root alone is for everybody
				user, password, ok := r.BasicAuth()
				if !ok || !b.admits(user, password) {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
			}
			b.writeJSON(w, body(r))
		})
	}
	fixed := func(path string, body map[string]any) {
		serve(path, func(*http.Request) map[string]any { return body })
	}
	const (
		manager = redfishRoot + "/Managers/1"
		chassis = redfishRoot + "/Chassis/1"
		logs    = manager + "/LogServices"
		entries = logs + "/Log1/Entries"
	)
	fixed(redfishRoot+"/{$}", map[string]any{"RedfishVersion": "1.8.0", "Managers": ref(redfishRoot + "/Managers"), "Chassis": ref(redfishRoot + "/Chassis")})
	fixed(redfishRoot+"/Managers", members(manager))
	fixed(redfishRoot+"/Chassis", members(chassis))
	fixed(manager, map[string]any{"Id": "1", "LogServices": ref(logs)})
	fixed(chassis, map[string]any{"Id": "1", "Thermal": ref(chassis + "/Thermal")})
	fixed(logs, members(logs+"/Audit", logs+"/Log1"))
	fixed(logs+"/Audit", map[string]any{"Id": "Audit", "LogEntryType": "Event", "Entries": ref(logs + "/Audit/Entries")})
	fixed(logs+"/Log1", map[string]any{"Id": "Log1", "LogEntryType": "SEL", "Entries": ref(entries)})
	serve(entries, func(r *http.Request) map[string]any { return b.redfishEntries(r, entries) })
	serve(chassis+"/Thermal", func(*http.Request) map[string]any {
		temperatures, fans := []any{}, []any{}
		for _, s := range b.sensors() {
			switch s.unit {
			case "C":
				temperatures = append(temperatures, map[string]any{"Name": s.name, "ReadingCelsius": s.value})
			case "RPM":
				fans = append(fans, map[string]any{"Name": s.name, "Reading": s.value, "ReadingUnits": "RPM"})
			}
		}
		return map[string]any{"Id": "Thermal", "Temperatures": temperatures, "Fans": fans}
	})
}

func (b *board) redfishEntries(r *http.Request, path string) map[string]any {
	log, _ := b.records()
	from, err := strconv.Atoi(r.URL.Query().Get("$skip"))
	if err != nil || from < 0 || from > len(log) {
		from = 0
	}
	to := min(from+redfishPage, len(log))
	list := make([]any, 0, to-from)
	for _, raw := range log[from:to] {
		list = append(list, redfishEntry(raw, path))
	}
	body := map[string]any{"Members": list, "Members@odata.count": len(log)}
	switch {
	case b.dev.ordered.Load().bmc.loop:
		body["Members@odata.nextLink"] = path + "?$skip=0"
	case to < len(log):
		body["Members@odata.nextLink"] = fmt.Sprintf("%s?$skip=%d", path, to)
	}
	return body
}

// redfishEntry is a record as words: the bytes, and with them the place on the PCI
// bus, are not among its fields.
func redfishEntry(raw []byte, path string) map[string]any {
	id := binary.LittleEndian.Uint16(raw)
	e := map[string]any{
		"@odata.id": fmt.Sprintf("%s/%d", path, id), "Id": strconv.Itoa(int(id)), "EntryType": "SEL", "EntryCode": "Assert",
		"Created":      time.Unix(int64(binary.LittleEndian.Uint32(raw[3:])), 0).UTC().Format(time.RFC3339),
		"SensorNumber": raw[11], "Severity": "OK", "SensorType": "OEM", "Message": fmt.Sprintf("OEM event of sensor type 0x%02x", raw[10]),
	}
	switch raw[10] {
	case 0x05:
		e["SensorType"], e["Severity"], e["Message"] = "Physical Chassis Security", "Warning", "General Chassis Intrusion"
	case 0x13:
		e["SensorType"], e["Severity"], e["Message"] = "Critical Interrupt", "Critical", "PCI SERR"
	}
	return e
}
