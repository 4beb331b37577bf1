package daemon

import (
	"context"
	"encoding/json"
	"path/filepath"
	"sync"

	"capfleet/internal/audit"
	"capfleet/internal/dossier"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/secret"
	"capfleet/internal/sel"
	"capfleet/internal/sshsig"
)

const (
	// signingKeyFile is in the state directory; its public half is beside it.
	signingKeyFile = "dossier_key"

	// How far back the actions in a dossier go.
	actionJobs    = 300
	actionEntries = 300
)

// dossiers is what the operation that gathers dossiers is made of.
func (d *Daemon) dossiers(secrets *secret.Resolver, through sel.Through) sel.GatherOptions {
	return sel.GatherOptions{Options: sel.Options{Secrets: secrets, Through: through}, Actions: actions{d}, Definitions: d.definition, Signer: d.dossierSigner()}
}

// dossierSigner gives the key that signs dossiers, which is made on first use.
func (d *Daemon) dossierSigner() func() (dossier.Signer, error) {
	var one sync.Mutex
	return func() (dossier.Signer, error) {
		one.Lock()
		defer one.Unlock()
		key, err := sshsig.OpenKey(filepath.Join(d.opts.StateDir, signingKeyFile), "fleetd dossiers")
		if err != nil {
			return nil, err // not key: a nil *Key in an interface is not nil
		}
		return key, nil
	}
}

// actions tells what was done with a device, for its dossier.
type actions struct{ d *Daemon }

// deviceAction is a job that worked on the device.
type deviceAction struct {
	Job     jobs.Job     `json:"job"`
	Journal []jobs.Entry `json:"journal"`
}

// Actions implements sel.Actions.
func (a actions) Actions(ctx context.Context, device string) ([]byte, error) {
	out := struct {
		Device string         `json:"device"`
		Jobs   []deviceAction `json:"jobs"`
		Audit  []audit.Entry  `json:"audit"`
	}{Device: device, Jobs: []deviceAction{}, Audit: []audit.Entry{}}
	list, _, err := a.d.engine.List(ctx, jobs.ListOptions{Limit: actionJobs})
	if err != nil {
		return nil, err
	}
	worked := map[string]bool{}
	for _, job := range list {
		journal, err := a.d.engine.Journal(ctx, job.ID, device)
		if fault.Is(err, fault.NotFound) {
			continue // it was about other devices
		}
		if err != nil {
			return nil, err
		}
		worked[job.ID] = true
		out.Jobs = append(out.Jobs, deviceAction{job, journal})
	}
	entries, _, err := audit.List(ctx, a.d.ledger, audit.Query{Limit: actionEntries})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Device == device || worked[e.Job] {
			out.Audit = append(out.Audit, e)
		}
	}
	raw, err := json.MarshalIndent(out, "", "  ")
	return raw, fault.Wrap(fault.Internal, "write what was done with the device", err)
}
