package daemon

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"capfleet/internal/api"
	"capfleet/internal/artifact"
	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

// A job and its files go when their time has come, the facts about the devices
// stay, and a backup is made when one is due and not before.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	f := fleet(t, 3)
	opts := options(t, place(t), f.Inventory())
	c, stop := run(t, opts)
	job, err := c.Submit(t.Context(), api.JobRequest{Operation: "report", Spec: json.RawMessage(`{"report":"software"}`), Selection: api.Selection{All: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Events(t.Context(), job.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()

	const day = 24 * time.Hour
	later := time.Now()
	opts.Now = func() time.Time { return later }
	opts.Upkeep = Upkeep{BackupEvery: day, BackupKeep: 2, Jobs: jobs.Retention{Age: 90 * day}, AuditAge: 80 * day}
	d, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := d.artifacts.Put(t.Context(), artifact.Meta{Job: job.ID, Name: "raw"}, strings.NewReader("text")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.artifacts.Put(t.Context(), artifact.Meta{Name: "image"}, strings.NewReader("image")); err != nil {
		t.Fatal(err)
	}
	pruner := jobs.NewPruner(d.engine, opts.Upkeep.Jobs)
	check := func(when string, wantJob bool, wantFiles, wantBackups, wantAudit int) {
		t.Helper()
		d.prune(t.Context(), pruner)
		if next := d.backUp(t.Context(), later); !next.After(later) {
			t.Errorf("%s: the next backup is at %v", when, next)
		}
		_, _, err := d.engine.Job(t.Context(), job.ID)
		if wantJob && err != nil || !wantJob && !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: job: %v", when, err)
		}
		if files, err := d.artifacts.List(t.Context(), ""); err != nil || len(files) != wantFiles {
			t.Errorf("%s: %d artifacts, %v; want %d", when, len(files), err, wantFiles)
		}
		if facts, err := d.engine.AllDeviceFacts(t.Context()); err != nil || facts.Len() != 3 {
			t.Errorf("%s: facts of %d devices, %v", when, facts.Len(), err)
		}
		entries, err := os.ReadDir(opts.backups().Dir)
		if err != nil || len(entries) != wantBackups {
			t.Errorf("%s: %d backups, %v; want %d", when, len(entries), err, wantBackups)
		}
		if list, _, err := audit.List(t.Context(), d.ledger, audit.Query{Action: audit.JobSubmit}); err != nil || len(list) != wantAudit {
			t.Errorf("%s: %d submissions in the audit, %v; want %d", when, len(list), err, wantAudit)
		}
	}
	check("at once", true, 2, 1, 1)
	later = later.Add(23 * time.Hour)
	check("after 23 hours", true, 2, 1, 1)
	later = later.Add(2 * time.Hour)
	check("after 25 hours", true, 2, 2, 1)
	later = later.Add(88 * day)
	check("after 89 days", true, 2, 2, 0)
	later = later.Add(2 * day)
	check("after 91 days", false, 1, 2, 0)
}

// While there is less space than the reserve, work is refused and all that is
// there can be read; with space it is accepted again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	opts := options(t, place(t), "")
	request := api.JobRequest{Operation: "check", Selection: api.Selection{Names: []string{"a"}}}
	c, stop := run(t, opts)
	job, err := c.Submit(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Events(t.Context(), job.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()

	full := opts
	full.Upkeep.MinFree = 1 << 60
	c, stop = run(t, full)
	refused := func(what string, err error) {
		t.Helper()
		if !fault.Is(err, fault.Storage) || fault.KindOf(err).HTTPStatus() != 507 || !strings.Contains(err.Error(), "free some space") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = c.Submit(t.Context(), request)
	refused("submit", err)
	_, err = c.Retry(t.Context(), job.ID)
	refused("retry", err)
	if got, err := c.Job(t.Context(), job.ID); err != nil || got.ID != job.ID {
		t.Errorf("job: %+v, %v", got, err)
	}
	if tasks, err := c.Tasks(t.Context(), job.ID); err != nil || len(tasks) != 1 {
		t.Errorf("tasks: %+v, %v", tasks, err)
	}
	stop()

	c, _ = run(t, opts)
	if _, err := c.Submit(t.Context(), request); err != nil {
		t.Error(err)
	}
}
