package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"capfleet/internal/fault"
	"capfleet/internal/sim"
)

// A damaged ledger: fleetd names the command that helps, and the command as it
// was printed brings back what the last backup had.
func TestRestore(t *testing.T) {
	t.Setenv("FLEETD_BACKUP_INTERVAL", "1ns") // at each start
	f := fleet(t, sim.Options{Devices: 3})
	dir := place(t)
	state := filepath.Join(dir, "state")
	p := start(t, dir, f.Inventory())
	p.logged("ledger backed up")
	job := p.submit()
	p.wait(job, nil)
	want := p.rows(job)
	if code, _, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Fatalf("ended with %d", code)
	}
	p = start(t, dir, f.Inventory())
	p.logged("ledger backed up")
	if code, _, _ := p.end(syscall.SIGKILL); code != -1 {
		t.Fatalf("ended with %d", code)
	}
	if err := os.Truncate(filepath.Join(state, "ledger.db"), 5000); err != nil {
		t.Fatal(err)
	}

	var said bytes.Buffer
	refused := command(t, "--inventory", f.Inventory(), "--state", state, "--socket", p.socket)
	refused.Stderr = &said
	_ = refused.Run()
	found := regexp.MustCompile(`fleetd (--state \S+ --restore \S+) `).FindStringSubmatch(said.String())
	if refused.ProcessState.ExitCode() != fault.ExitFailed || found == nil || strings.Contains(said.String(), "panic") {
		t.Fatalf("ended with %d and said %s", refused.ProcessState.ExitCode(), &said)
	}
	restore := exec.CommandContext(t.Context(), "sh", "-c", os.Args[0]+" "+found[1])
	restore.Env = append(os.Environ(), asFleetd+"=1")
	if out, err := restore.CombinedOutput(); err != nil || !strings.Contains(string(out), "is kept as "+state+"/ledger.db.replaced-") {
		t.Fatalf("%v\n%s", err, out)
	}
	p = start(t, dir, f.Inventory())
	if got := p.rows(job); len(got) != len(want) {
		t.Errorf("%d rows after the restore, %d before", len(got), len(want))
	}
	again := command(t, "--state", state, "--restore", filepath.Join(state, "ledger.db.replaced-none"))
	said.Reset()
	again.Stderr = &said
	_ = again.Run()
	if again.ProcessState.ExitCode() == 0 || !strings.Contains(said.String(), "is using it") {
		t.Errorf("a restore under a fleetd that works: %s", &said)
	}
	if code, _, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("ended with %d", code)
	}
}
