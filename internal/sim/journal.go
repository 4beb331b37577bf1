package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const journalFile = "journal.jsonl"

// The events of the journal.
const (
	eventLogin          = "login"
	eventUpload         = "upload"
	eventMaintenanceOn  = "maintenance_on"
	eventMaintenanceOff = "maintenance_off"
	eventInstall        = "install"
	eventSave           = "save"
	eventReload         = "reload"
	eventBoot           = "boot"
	eventFailover       = "failover"
	eventCaptureStart   = "capture_start"
	eventCaptureStop    = "capture_stop"
)

// JournalEntry is one line of journal.jsonl: what a device truly did, whatever
// a client believes.
type JournalEntry struct {
	Time   time.Time `json:"time"` // UTC
	Device string    `json:"device"`
	Event  string    `json:"event"`
	Detail string    `json:"detail"` // key=value pairs; values with spaces are quoted
}

type journal struct {
	log *slog.Logger
	mu  sync.Mutex
	f   *os.File
}

func openJournal(path string, log *slog.Logger) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("simulator journal: %w", err)
	}
	return &journal{log: log, f: f}, nil
}

// add appends one entry, whole, in the order in which things happened. What
// changes a device is on the disk when add returns: no kill of anybody may make
// an installation unhappened.
func (j *journal) add(device, event, detail string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	line, err := json.Marshal(JournalEntry{Time: time.Now().UTC(), Device: device, Event: event, Detail: detail})
	if err == nil {
		_, err = j.f.Write(append(line, '\n'))
	}
	if err == nil && event != eventLogin {
		err = j.f.Sync()
	}
	if err != nil {
		j.log.Error("simulator journal not written", "device", device, "event", event, "err", err)
	}
}

// ReadJournal reads the journal of the fleet in dir, running or not, from its
// first entry to the last whole one.
func ReadJournal(dir string) ([]JournalEntry, error) {
	raw, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil {
		return nil, fmt.Errorf("simulator journal: %w", err)
	}
	var entries []JournalEntry
	for line := range bytes.Lines(raw) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // being written
		}
		var e JournalEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("simulator journal: line %d: %w", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Value gives the value of one key of the entry's detail, unquoted.
func (e JournalEntry) Value(key string) string {
	for rest := e.Detail; rest != ""; {
		name, after, found := strings.Cut(rest, "=")
		if !found {
			return ""
		}
		value, next, _ := strings.Cut(after, " ")
		if quoted, err := strconv.QuotedPrefix(after); err == nil {
			value, next = quoted, strings.TrimPrefix(after[len(quoted):], " ")
		}
		rest = next
		if name != key {
			continue
		}
		if plain, err := strconv.Unquote(value); err == nil {
			return plain
		}
		return value
	}
	return ""
}

func (j *journal) close() error { return j.f.Close() }
