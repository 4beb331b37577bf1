package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// hotfixSpec is the spec of the operation "hotfix".
type hotfixSpec struct {
	Action           string   `json:"action"`
	File             string   `json:"file,omitempty"` // SHA-256
	FileName         string   `json:"file_name,omitempty"`
	Size             int64    `json:"size_bytes,omitempty"`
	InstallName      string   `json:"install_name,omitempty"`
	InstalledAs      string   `json:"installed_as,omitempty"`
	Version          string   `json:"version,omitempty"`
	Base             string   `json:"base,omitempty"` // SHA-256
	BaseName         string   `json:"base_name,omitempty"`
	BaseOnDevice     bool     `json:"base_on_device,omitempty"`
	Volume           string   `json:"volume,omitempty"`
	Takeover         bool     `json:"takeover,omitempty"`
	AcceptUnobserved []string `json:"accept_unobserved,omitempty"`
}

func (a *app) hotfixCommand() *cobra.Command {
	cmd := a.group("hotfix", "bring devices to a hotfix, and prove that they are back")
	cmd.AddCommand(a.hotfixPlanCommand(), a.hotfixStageCommand(), a.hotfixApplyCommand(), a.hotfixRollbackCommand(), a.hotfixReportCommand())
	return cmd
}

// hotfixOptions say what is installed.
type hotfixOptions struct {
	selectionFlags
	installName  string
	installedAs  string
	base         string
	baseOnDevice bool
	volume       string
	takeover     bool
	accept       []string
}

func (o *hotfixOptions) register(a *app, cmd *cobra.Command) {
	o.selectionFlags.register(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&o.installName, "install-name", "", "the `name` that is typed to install it (default: derived from the file's name)")
	fl.StringVar(&o.installedAs, "installed-as", "", "the `name` under which devices list it (default: derived from the install name)")
	fl.StringVar(&o.base, "base", "", "BIG-IP: the image `file` that a hotfix is installed on top of")
	fl.BoolVar(&o.baseOnDevice, "base-on-device", false, "BIG-IP: that image is on the devices already")
	fl.StringVar(&o.volume, "volume", "", "BIG-IP: the `volume` to install to (default: one that is not running)")
}

// registerChange are the flags of what changes devices.
func (o *hotfixOptions) registerChange(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&o.takeover, "takeover", false, "push somebody else out of configuration mode; without it a device where somebody is in there is left alone")
	fl.StringSliceVar(&o.accept, "accept-unobserved", nil, "pass a device although it does not show this `proof`: installed, rebooted, normal_mode, capturing or licence; repeatable")
	_ = cmd.RegisterFlagCompletionFunc("accept-unobserved", cobra.FixedCompletions([]string{"installed", "rebooted", "normal_mode", "capturing", "licence"}, cobra.ShellCompDirectiveNoFileComp))
}

// spec makes the request's spec; the files are with fleetd when it returns. Nothing is
// sent there for a request that fleetd would refuse whatever the content is.
func (o *hotfixOptions) spec(ctx context.Context, a *app, f fleet, action, file string, sel api.Selection, policy *api.Rollout) (hotfixSpec, error) {
	s := hotfixSpec{Action: action, InstallName: o.installName, InstalledAs: o.installedAs, BaseOnDevice: o.baseOnDevice, Volume: o.volume,
		Takeover: o.takeover, AcceptUnobserved: o.accept}
	if o.base != "" && o.baseOnDevice {
		return s, fault.New(fault.Invalid, "--base sends the image and --base-on-device says that it is there: give one of them")
	}
	images := []*localFile{{name: file}}
	if o.base != "" {
		images = append(images, &localFile{name: o.base})
	}
	known := true
	for _, i := range images {
		if err := a.identify(ctx, f, i); err != nil {
			return s, err
		}
		known = known && i.known
	}
	s.File, s.FileName, s.Size = images[0].sum, filepath.Base(file), images[0].size
	if o.base != "" {
		s.Base, s.BaseName = images[1].sum, filepath.Base(o.base)
	}
	if !known {
		if err := acceptable(ctx, f, s, sel, policy); err != nil {
			return s, err
		}
	}
	for _, i := range images {
		if err := a.addOnce(ctx, f, i); err != nil {
			return s, err
		}
	}
	return s, nil
}

// acceptable asks fleetd whether it would take a request but for files that it does
// not keep yet.
func acceptable(ctx context.Context, f fleet, s hotfixSpec, sel api.Selection, policy *api.Rollout) error {
	if s.Action == "plan" {
		s.Action = "apply"
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return fault.Wrap(fault.Internal, "write the request", err)
	}
	_, err = f.Plan(ctx, api.JobRequest{Operation: "hotfix", Spec: raw, Selection: sel, Rollout: policy})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// localFile is a file that fleetd is to keep, and what it was when it was read first.
type localFile struct {
	name  string
	sum   string // SHA-256
	size  int64
	known bool // to fleetd
}

// identify reads a file for its digest and asks fleetd whether it keeps it.
func (a *app) identify(ctx context.Context, f fleet, i *localFile) error {
	in, err := openPlain(i.name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if i.sum, i.size, err = a.digest(ctx, in); err != nil {
		return err
	}
	if i.size == 0 {
		return fault.New(fault.Invalid, "%s is empty", i.name)
	}
	kept, err := f.FindArtifacts(ctx, "", i.sum)
	i.known = len(kept) > 0
	return err
}

// addOnce has fleetd keep a file, unless it has its content already. The file is
// read a second time, and one that is being written meanwhile is refused: what goes to
// the devices is what it was when its digest was shown.
func (a *app) addOnce(ctx context.Context, f fleet, i *localFile) error {
	base := filepath.Base(i.name)
	if i.known {
		a.remark("%s: %d bytes, sha256 %s, known to fleetd", base, i.size, i.sum)
		return nil
	}
	in, err := openPlain(i.name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	kept, err := a.sendArtifact(ctx, f, base, "application/octet-stream", &unchanged{r: in, sum: sha256.New(), want: i.sum, name: i.name}, i.size)
	if err != nil {
		return err
	}
	if kept.SHA256 != i.sum {
		return changedFile(i.name)
	}
	a.remark("%s: %d bytes, sha256 %s", base, i.size, i.sum)
	return nil
}

func changedFile(name string) error {
	return &fault.Error{Kind: fault.Invalid, Act: "read " + name, Err: errors.New("it changed while it was read"), Next: "wait until it is complete"}
}

// openPlain opens a regular file.
func openPlain(name string) (*os.File, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "read the file", err)
	}
	info, err := in.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		_ = in.Close()
		return nil, fault.Wrap(fault.Invalid, "read the file", err)
	}
	return in, nil
}

// digest reads a file to its end.
func (a *app) digest(ctx context.Context, in *os.File) (string, int64, error) {
	sum := sha256.New()
	info, err := in.Stat()
	if err != nil {
		return "", 0, fault.Wrap(fault.Invalid, "read "+in.Name(), err)
	}
	p := a.newTransfer("hash "+filepath.Base(in.Name()), info.Size())
	defer p.Close()
	n, err := io.Copy(sum, stopping{ctx, p.Reader(in)})
	if err != nil {
		return "", 0, fault.Wrap(fault.Invalid, "read "+in.Name(), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), n, nil
}

// stopping is a reader that a context ends.
type stopping struct {
	ctx context.Context //nolint:containedctx // io.Reader has no other way
	r   io.Reader
}

func (s stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// unchanged is a file that is read a second time: it fails at the end, so that
// nothing is kept, when the content is not what it was.
type unchanged struct {
	r    io.Reader
	sum  hash.Hash
	want string
	name string
}

func (u *unchanged) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	_, _ = u.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(u.sum.Sum(nil)) != u.want {
		err = changedFile(u.name)
	}
	return n, err
}

const hotfixFileHelp = `FILE is sent to fleetd, which keeps it once however often it is used; its
SHA-256 is shown. Three spellings of one hotfix are in play: the file's name,
the name that is typed to install it and the name that devices list. The latter
two are derived by the platform's definition, and can be given.`
