package bmc

import "encoding/json"

// ParseSELInfo is for tests and fuzzing.
var ParseSELInfo = parseSELInfo

// DecodeRedfish is for tests and fuzzing.
func DecodeRedfish(body []byte) (Entry, error) {
	var e logEntry
	if err := json.Unmarshal(body, &e); err != nil {
		return Entry{}, err
	}
	return e.entry(), nil
}
