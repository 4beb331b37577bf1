package daemon

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"capfleet/internal/artifact"
	"capfleet/internal/audit"
	"capfleet/internal/fault"
	"capfleet/internal/history"
	"capfleet/internal/jobs"
	"capfleet/internal/ledger"
	"capfleet/internal/notify"
	"capfleet/internal/schedule"
)

// Upkeep says what is kept of what was done and how the ledger is backed up. The
// zero Upkeep keeps everything and makes no backups.
type Upkeep struct {
	BackupDir   string        // "" is backups in the state directory
	BackupEvery time.Duration // 0 is never
	BackupKeep  int           // the newest so many
	Jobs        jobs.Retention
	Artifacts   artifact.Retention
	// ArtifactQuota is what all artifacts may take; more is refused. 0 is no bound.
	ArtifactQuota int64
	AuditAge      time.Duration // 0 keeps all
	HistoryAge    time.Duration // of the history of storage; 0 is two years
	// MinFree is how many bytes must be free on the state directory's file system
	// for new work to be accepted.
	MinFree int64
}

const (
	upkeepEvery = time.Minute
	pruneEvery  = time.Hour
	// backupRetry is the pause after a backup that failed.
	backupRetry = 15 * time.Minute
)

func (o Options) ledgerPath() string { return filepath.Join(o.StateDir, "ledger.db") }

func (o Options) backups() ledger.Backups {
	dir := o.Upkeep.BackupDir
	if dir == "" {
		dir = filepath.Join(o.StateDir, "backups")
	}
	return ledger.Backups{Dir: dir, Keep: o.Upkeep.BackupKeep}
}

func (o Options) ledgerOptions() ledger.Options {
	return ledger.Options{
		Namespaces: slices.Concat(jobs.Namespaces(), artifact.Namespaces(), schedule.Namespaces(),
			history.Namespaces(), notify.Namespaces(), []ledger.Namespace{nsDerived}),
		Backups: o.backups().Dir,
		Reserve: o.Upkeep.MinFree,
		Logger:  o.Logger,
	}
}

// Restore puts a backup in the place of the ledger, while no fleetd runs on the
// state directory. It gives the name under which the ledger that was there is
// kept, "" when there was none. Whatever is wrong, the ledger is as it was.
func Restore(ctx context.Context, opts Options, from string) (replaced string, err error) {
	if err := privateDir(opts.StateDir); err != nil {
		return "", fault.Wrap(fault.Storage, "make the state directory", err)
	}
	release, err := lockState(opts.StateDir)
	if err != nil {
		return "", err
	}
	replaced, err = ledger.Restore(ctx, opts.ledgerPath(), from, opts.ledgerOptions(), time.Now())
	if unlock := release(); err == nil {
		err = unlock
	}
	return replaced, err
}

// upkeep makes backups and removes what is not kept, until ctx ends. Neither is in
// anybody's way; when one fails it is logged and tried again.
func (d *Daemon) upkeep(ctx context.Context) {
	var nextPrune, nextBackup time.Time
	pruner := jobs.NewPruner(d.engine, d.opts.Upkeep.Jobs)
	ticker := time.NewTicker(upkeepEvery)
	defer ticker.Stop()
	for {
		now := d.now()
		if !now.Before(nextPrune) {
			d.prune(ctx, pruner)
			nextPrune = now.Add(pruneEvery)
		}
		if !now.Before(nextBackup) {
			nextBackup = d.backUp(ctx, now)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// backUp makes a backup if it is time for one, by the newest that there is, and
// says when to ask again.
func (d *Daemon) backUp(ctx context.Context, now time.Time) (next time.Time) {
	every := d.opts.Upkeep.BackupEvery
	if every <= 0 {
		return now.Add(pruneEvery)
	}
	b := d.opts.backups()
	last, err := b.Last()
	if err == nil && !last.IsZero() && last.Add(every).After(now) && !last.After(now) {
		return last.Add(every)
	}
	var path string
	if err == nil {
		path, err = b.Make(ctx, d.ledger, now)
	}
	switch {
	case err == nil:
		d.log.Info("ledger backed up", "file", path, "took", d.now().Sub(now))
		return now.Add(every)
	case ctx.Err() == nil:
		d.log.Error("ledger could not be backed up; trying again", "dir", b.Dir, "err", err)
	}
	return now.Add(min(backupRetry, every))
}

// prune removes jobs, then the artifacts of jobs that are gone, and old entries of
// the audit, which outlive their jobs.
func (d *Daemon) prune(ctx context.Context, pruner *jobs.Pruner) {
	d.pruneDerived(ctx)
	if age := d.opts.Upkeep.AuditAge; age > 0 {
		switch n, err := audit.Prune(ctx, d.ledger, d.now().Add(-age)); {
		case err != nil && ctx.Err() == nil:
			d.log.Error("old entries of the audit could not be removed; trying again", "err", err)
		case n > 0:
			d.log.Info("old entries of the audit removed", "entries", n)
		}
	}
	gone, err := pruner.Prune(ctx)
	if err != nil && ctx.Err() == nil {
		d.log.Error("old jobs could not be removed; trying again", "err", err)
	}
	if gone.Jobs > 0 || gone.Entries > 0 {
		d.log.Info("old jobs removed", "jobs", gone.Jobs, "entries", gone.Entries, "bytes", gone.Bytes)
	}
	if err != nil {
		return
	}
	files, err := d.artifacts.Prune(ctx, d.opts.Upkeep.Artifacts, func(id string) (bool, error) {
		_, _, err := d.engine.Job(ctx, id)
		if fault.Is(err, fault.NotFound) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("old artifacts could not be removed; trying again", "err", err)
	}
	if files.Entries > 0 {
		d.log.Info("old artifacts removed", "entries", files.Entries, "files", files.Files, "bytes", files.Bytes)
	}
	if bound := d.opts.Upkeep.Artifacts.Bytes; err == nil && bound > 0 && files.Left > bound {
		d.log.Warn("artifacts take more than they should; those left are of kept jobs or were added by hand",
			"bytes", files.Left, "bound", bound)
	}
}
