package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/dossier"
	"capfleet/internal/fault"
)

// dossierRow is what the commands look at of a row of the operation "dossier".
type dossierRow struct {
	Device   string `json:"device"`
	Artifact string `json:"artifact"`
	File     string `json:"file"`
	Failed   int    `json:"failed"`
	Signer   string `json:"signer"`
}

type dossierOptions struct {
	outputFlags
	dir string
}

func (a *app) selDossierCommand() *cobra.Command {
	var opts dossierOptions
	cmd := &cobra.Command{
		Use:   "dossier DEVICE...",
		Short: "gather what is known of a device into one signed archive",
		Long: `Gathers, within five minutes, what is in reach after an error: the BMC's event
log and sensors; from the device itself its software, RAID, file systems,
capture state and logs; and what fleetd did with it. What cannot be had is named
in the archive and as a warning and is no failure: a dead probe still has a BMC.

The archive is a .tar.gz with a manifest of hashes and an SSH signature by
fleetd's own key (dossier_key.pub in its state directory). "sel dossier verify"
checks it without fleetd, and so does
  ssh-keygen -Y verify -n dossier@capfleet -f ALLOWED -I ID \
      -s manifest.json.sig < manifest.json
Passwords, keys and tokens are blanked. The archive is kept as an artifact too.

` + jsonHelp("job, rows, failures and warnings", "row", `device, artifact (SHA-256), file, bytes, complete, failed (parts), signer,
collected_at`) + `
` + failureKeysHelp + `

` + workExits(),
		Example: `  fleetctl sel dossier lon-probe-01
  fleetctl sel dossier verify lon-probe-01-dossier-*.tar.gz --key dossier_key.pub`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeDevices,
	}
	opts.outputFlags.register(cmd)
	cmd.Flags().StringVar(&opts.dir, "dir", ".", "`directory` to write the archives to")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error { return a.dossier(ctx, f, &opts, args) })
	cmd.AddCommand(a.selDossierVerifyCommand())
	return cmd
}

func (a *app) dossier(ctx context.Context, f fleet, opts *dossierOptions, names []string) error {
	if _, err := opts.format(); err != nil {
		return err
	}
	if stat, err := os.Stat(opts.dir); err != nil || !stat.IsDir() {
		return fault.New(fault.Invalid, "--dir %s is no directory", opts.dir)
	}
	job, err := a.start(ctx, f, "dossier", struct{}{}, api.Selection{Names: names})
	if err != nil {
		return err
	}
	res, err := a.await(ctx, f, job)
	if err != nil {
		return a.detached(ctx, job, err)
	}
	for _, raw := range res.Rows {
		var row dossierRow
		if err := json.Unmarshal(raw, &row); err != nil {
			return fault.Wrap(fault.Internal, "read the result", err)
		}
		// A name from fleetd must not lead out of the directory.
		if row.File == "" || row.File != filepath.Base(row.File) || strings.HasPrefix(row.File, ".") {
			return fault.New(fault.Internal, "fleetd names the archive of %s %q", row.Device, row.File)
		}
		if err := a.getArtifact(ctx, f, row.Artifact, filepath.Join(opts.dir, row.File)); err != nil {
			return err
		}
	}
	if err := a.printResults(&opts.outputFlags, res); err != nil {
		return err
	}
	a.reportFailures(res)
	return statusOf(jobCode(res.Job))
}

func dossierView() output.View {
	return output.View{Table: []output.Column{
		{Key: "device", Head: "DEVICE", Fixed: true},
		{Key: "complete", Head: "PARTS", Kind: output.Number},
		{Key: "failed", Head: "MISSING", Kind: output.Number},
		{Key: "file", Head: "FILE", Fixed: true},
		{Key: "bytes", Head: "BYTES", Kind: output.Number, Wide: true},
		{Key: "artifact", Head: "SHA-256", Wide: true},
		{Key: "signer", Head: "SIGNER", Wide: true},
	}}
}

// verifyDoc is the JSON of `sel dossier verify`.
type verifyDoc struct {
	File        string            `json:"file"`
	Device      string            `json:"device"`
	CreatedAt   string            `json:"created_at"`
	Signer      string            `json:"signer"`
	Fingerprint string            `json:"fingerprint"`
	Trusted     *bool             `json:"trusted"`
	Problems    []string          `json:"problems"`
	Rows        []json.RawMessage `json:"rows"`
}

func (a *app) selDossierVerifyCommand() *cobra.Command {
	var (
		opts outputFlags
		keys string
	)
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "check a dossier's signature and hashes, without fleetd",
		Long: `Checks that the manifest of a dossier is what was signed, that every file is
what the manifest says, and, with --key, that the signing key is one of yours.
Nothing of the archive is written anywhere.

Without --key the fingerprint of the key is shown for you to compare: a
signature proves nothing about who made it until then.

JSON: one object with file, device, created_at, signer, fingerprint, trusted
(null without --key), problems and rows.
Keys of a row:
name, source, request, state (complete, partial, failed, absent), reason, file,
sha256, bytes, collected_at, seconds

` + exitHelp(fault.ExitDone, fault.ExitFailed, fault.ExitUsage, fault.ExitInterrupted),
		Example: `  fleetctl sel dossier verify lon-probe-01-dossier-20260611T020000Z.tar.gz \
      --key dossier_key.pub`,
		Args: cobra.ExactArgs(1),
	}
	opts.register(cmd)
	cmd.Flags().StringVar(&keys, "key", "", "`file` with the public keys to trust (.pub, authorized_keys or allowed_signers)")
	cmd.RunE = a.local(func(_ context.Context, args []string) error { return a.verifyDossier(&opts, args[0], keys) })
	return cmd
}

func (a *app) verifyDossier(opts *outputFlags, file, keyFile string) error {
	open := func(name string) (*os.File, error) {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.NotFound, "%s does not exist", name)
		}
		return f, fault.Wrap(fault.Invalid, "open "+name, err)
	}
	var trust []byte
	if keyFile != "" {
		var err error
		if trust, err = os.ReadFile(keyFile); err != nil {
			return fault.Wrap(fault.Invalid, "read the keys to trust", err)
		}
	}
	in, err := open(file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	rep, err := dossier.Verify(in, trust)
	if err != nil {
		return err
	}
	rows, err := output.Rows(rep.Manifest.Parts)
	if err != nil {
		return fault.Wrap(fault.Internal, "print the result", err)
	}
	doc := verifyDoc{File: file, Device: rep.Manifest.Device, CreatedAt: rep.Manifest.CreatedAt.UTC().Format("2006-01-02T15:04:05Z"), Signer: rep.Key,
		Fingerprint: rep.Fingerprint, Trusted: rep.Trusted, Problems: append([]string{}, rep.Problems...), Rows: rows}
	if err := a.print(opts, answer{view: partsView(), rows: rows, doc: doc}); err != nil {
		return err
	}
	for _, p := range rep.Problems {
		a.say("%s", p)
	}
	switch {
	case len(rep.Problems) > 0:
		a.say("the dossier is not what was signed")
		return status(fault.ExitFailed)
	case rep.Trusted != nil && !*rep.Trusted:
		a.say("it is signed by\n  %s\nwhich is none of the keys in %s", rep.Fingerprint, keyFile)
		return status(fault.ExitFailed)
	case rep.Trusted == nil:
		a.remark("it is whole and signed by\n  %s\ncompare that with fleetd's dossier_key.pub, or use --key", rep.Fingerprint)
	default:
		a.remark("it is whole and signed by\n  %s\nwhich is in %s", rep.Fingerprint, keyFile)
	}
	return nil
}

func partsView() output.View {
	return output.View{Table: []output.Column{
		{Key: "name", Head: "PART", Fixed: true},
		{Key: "source", Head: "SOURCE"},
		{Key: "state", Head: "STATE", Kind: output.State},
		{Key: "bytes", Head: "BYTES", Kind: output.Number},
		{Key: "reason", Head: "REASON"},
		{Key: "request", Head: "REQUEST", Wide: true},
		{Key: "sha256", Head: "SHA-256", Wide: true},
		{Key: "collected_at", Head: "COLLECTED", Kind: output.Time, Wide: true},
	}}
}
