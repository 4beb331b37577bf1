package sim

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
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

// add appends one entry, whole, in the order in which things happened.
func (j *journal) add(device, event, detail string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	line, err := json.Marshal(JournalEntry{Time: time.Now().UTC(), Device: device, Event: event, Detail: detail})
	if err == nil {
		_, err = j.f.Write(append(line, '\n'))
	}
	if err != nil {
		j.log.Error("simulator journal not written", "device", device, "event", event, "err", err)
	}
}

func (j *journal) close() error { return j.f.Close() }
