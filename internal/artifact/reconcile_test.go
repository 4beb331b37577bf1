package artifact

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capfleet/internal/audit"
	"capfleet/internal/ledger"
)

// older puts an empty ledger beside the store's files, as a restore of a backup from
// before them does.
func (f fixture) older(t *testing.T) fixture {
	t.Helper()
	db, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Namespaces: append(Namespaces(), audit.Namespaces()...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return fixture{dir: f.dir, db: db}
}

// Files that an older ledger does not know can be fetched, count, and go after their
// time; what is among them and none of ours stays as it is.
func TestFilesNewerThanTheLedger(t *testing.T) {
	t.Parallel()
	was := open(t, Options{})
	pcap := was.put(t, Meta{Name: "ring.pcap", Job: "7", Device: "lon-cap-01"}, "packets")
	raw := was.put(t, Meta{Name: "raw.txt", Job: "7"}, "some text")
	strange := filepath.Join(was.objects(), "README")
	if err := os.WriteFile(strange, []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}

	f := was.older(t)
	var log bytes.Buffer
	now := epoch()
	opts := Options{Now: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	f.Store = f.reopen(t, opts)
	for _, say := range []string{"files=2 bytes=16", "files=1"} {
		if !strings.Contains(log.String(), say) {
			t.Errorf("the log does not say %q:\n%s", say, &log)
		}
	}
	log.Reset()
	f.Store = f.reopen(t, opts)
	list, err := f.List(t.Context(), "")
	if err != nil || len(list) != 2 {
		t.Fatalf("%d entries after opening twice, %v", len(list), err)
	}
	if strings.Contains(log.String(), "found") {
		t.Errorf("found again:\n%s", &log)
	}
	for _, a := range list {
		if a.Name != "recovered-"+a.SHA256[:12] || !a.Secret() || !a.Recovered || !a.CreatedAt.Equal(now) {
			t.Errorf("%+v", a)
		}
	}
	if got, err := f.read(t, pcap.SHA256); err != nil || got != "packets" {
		t.Errorf("read %q, %v", got, err)
	}
	if used := f.used.Load(); used != 16+8 { // the strange one takes room, too
		t.Errorf("%d bytes are used", used)
	}

	// A job that makes the same file again says what it is.
	f.put(t, Meta{Name: "raw.txt", Job: "3"}, "some text")
	if a, err := f.first(raw.SHA256); err != nil || a.Secret() || a.Name != "raw.txt" || a.Job != "3" {
		t.Errorf("%+v, %v", a, err)
	}

	keep := func(job string) (bool, error) { return job == "3", nil }
	now = epoch().Add(RecoveredAge - time.Second)
	if done, err := f.Prune(t.Context(), Retention{}, keep); err != nil || done.Entries != 0 {
		t.Errorf("before its time: %+v, %v", done, err)
	}
	now = epoch().Add(RecoveredAge)
	if done, err := f.Prune(t.Context(), Retention{Age: 2 * RecoveredAge}, keep); err != nil || done.Entries != 0 {
		t.Errorf("before the time of other files: %+v, %v", done, err)
	}
	if done, err := f.Prune(t.Context(), Retention{}, keep); err != nil || done.Files != 1 || done.Bytes != 7 {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := os.Stat(strange); err != nil {
		t.Error(err)
	}
}

// Entries whose files are gone are told of; they stay, for the file may come back.
func TestEntriesNewerThanTheFiles(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	gone := f.put(t, Meta{Name: "a", Job: "1"}, "a")
	f.put(t, Meta{Name: "again", Job: "2"}, "a")
	f.put(t, Meta{Name: "b", Job: "1"}, "b")
	if err := os.Remove(f.object(gone.SHA256)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f.Store = f.reopen(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), "artifacts=1 one="+gone.SHA256) {
		t.Errorf("the log says\n%s", &log)
	}
	if list, err := f.List(t.Context(), ""); err != nil || len(list) != 3 {
		t.Errorf("%d entries, %v", len(list), err)
	}
}
