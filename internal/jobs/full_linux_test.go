package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"capfleet/internal/childtest"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

// logged is closed when a message is logged for the first time.
type logged struct {
	slog.Handler
	message string
	once    *sync.Once
	seen    chan struct{}
}

func (l logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l logged) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.message {
		l.once.Do(func() { close(l.seen) })
	}
	return nil
}

// runOnFullDisk is the child of TestDiskFull: a result comes when there is no
// space for it. A limit on the size of files stands for the full disk.
func runOnFullDisk(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	db, opts, err := openDir(dir)
	if err != nil {
		return err
	}
	running, full := make(chan struct{}), make(chan int64)
	opts.Runner = runnertest.Func(func(_ context.Context, w jobs.Work, _ jobs.Journal) jobs.Result {
		close(running)
		// More than the whole file, which may have grown ahead of what is in it.
		return result(w, succeeds(`"`+strings.Repeat("x", int(<-full)+1<<20)+`"`))
	})
	waits := logged{Handler: slog.DiscardHandler, message: "result could not be stored; trying again", once: &sync.Once{}, seen: make(chan struct{})}
	opts.Logger = slog.New(waits)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	engine, err := jobs.Open(ctx, opts)
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- engine.Run(ctx) }()
	job, err := engine.Submit(ctx, request("read", nil, "a"))
	if err != nil {
		return err
	}
	<-running

	info, err := os.Stat(db.Path())
	if err != nil {
		return err
	}
	var unlimited syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	limited := unlimited
	limited.Cur = uint64(info.Size())
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
		return err
	}
	full <- info.Size()
	<-waits.seen
	large := request("read", nil, names(100)...) // more than the whole file, once again
	for i := range large.Targets {
		large.Targets[i].Snapshot = json.RawMessage(`{"padding":"` + strings.Repeat("x", int(info.Size()/100)+1<<14) + `"}`)
	}
	if _, err := engine.Submit(ctx, large); !fault.Is(err, fault.Storage) {
		return fmt.Errorf("a job was taken on a full disk: %v", err)
	}
	if _, state, err := engine.Job(ctx, job.ID); err != nil || state != jobs.Running {
		return fmt.Errorf("with its result waiting for space the job is %s: %v", state, err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	for ev, err := range engine.Watch(ctx, jobs.WatchOptions{Job: job.ID}) {
		if err != nil {
			return err
		}
		if ev.Type == jobs.EventJobFinished {
			break
		}
	}
	cancel()
	return errors.Join(<-stopped, db.Close())
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if out, err := childtest.Command(t, "full", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	db, opts, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	h := &harness{t: t, db: db, opts: opts}
	h.reopen()
	if _, state, err := h.Job(t.Context(), "1"); err != nil || state != jobs.Succeeded {
		t.Errorf("%s %v", state, err)
	}
	if got := h.rows("1"); got["a"] != 1 {
		t.Errorf("rows %v", got)
	}
}
