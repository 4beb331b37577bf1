package capture

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"capfleet/internal/capture/capturejob"
	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/pcap"
	"capfleet/internal/pcap/info"
	"capfleet/internal/pcap/merge"
	"capfleet/internal/transfer"
)

// RingRow is what the ring of one interface gave.
type RingRow = capturejob.RingRow

// Manifest says which files there were on one device and what became of them.
type Manifest struct {
	Device    string         `json:"device"`
	Tcpdump   string         `json:"tcpdump"` // its version
	BeganAt   time.Time      `json:"began_at"`
	StoppedAt time.Time      `json:"stopped_at"`
	StoppedBy string         `json:"stopped_by"`
	Rings     []ManifestRing `json:"rings"`
}

// ManifestRing is the ring of one interface.
type ManifestRing struct {
	Interface string         `json:"interface"`
	Command   []string       `json:"command"`
	Said      string         `json:"said"`            // by tcpdump, with its counts
	Files     []ManifestFile `json:"files"`           // in order of time, the newest last
	Merged    string         `json:"merged"`          // SHA-256 of the artifact
	Repeated  uint64         `json:"repeated"`        // packets that were in two files and are written once
	Ended     string         `json:"ended,omitempty"` // why it ended before it was told to
}

// ManifestFile is one file of a ring.
type ManifestFile struct {
	Name      string     `json:"name"`
	Bytes     int64      `json:"bytes"`
	SHA256    string     `json:"sha256"`
	Verified  string     `json:"verified"` // how it was compared with the device's
	Packets   uint64     `json:"packets"`
	FirstTime *time.Time `json:"first_time"`
	LastTime  *time.Time `json:"last_time"`
	Damage    string     `json:"damage,omitempty"` // where reading it ended early

	local string
}

// overlapSlack is by how much two tcpdumps that run at once may differ in the time
// of one packet: older kernels give each its own.
const overlapSlack = time.Millisecond

const pcapngType = "application/x-pcapng"

// collect fetches the files, makes one of each ring, writes down what there was,
// and then removes the rings from the device.
func (r *ring) collect(ctx context.Context, env operation.Env) (operation.Observation, error) {
	spool := filepath.Join(r.opts.Spool, r.state.Run)
	if r.state.Phase == phaseCollected {
		return r.report(ctx, env, spool)
	}
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return operation.Observation{}, fault.Wrap(fault.Storage, "make a folder for the captures", err)
	}
	names, err := r.names(ctx, env)
	if err != nil {
		return operation.Observation{}, err
	}
	m := Manifest{Device: r.dev.Name, Tcpdump: r.state.Version, BeganAt: r.state.Began, StoppedAt: r.state.Stopped, StoppedBy: r.state.Why}
	r.state.Rows = nil
	for _, f := range r.state.Rings {
		row, ring, err := r.gather(ctx, env, f, names, spool)
		if err != nil {
			return operation.Observation{}, err
		}
		r.state.Rows, m.Rings = append(r.state.Rows, row), append(m.Rings, *ring)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return operation.Observation{}, fault.Wrap(fault.Internal, "write the manifest", err)
	}
	sum, err := env.Keep(ctx, r.dev, r.dev.Name+"_manifest.json", "application/json", strings.NewReader(string(text)+"\n"))
	if err != nil {
		return operation.Observation{}, err
	}
	for _, row := range r.state.Rows {
		row.Manifest = sum
	}
	if r.spec.Evidence {
		r.gatherEvidence(ctx, env)
	}
	if err := r.remember(ctx, env, phaseCollected); err != nil {
		return operation.Observation{}, err
	}
	return r.report(ctx, env, spool)
}

// report gives the rows and removes what is not needed any more. Everything is
// kept by now, so that it can be done again after a kill.
func (r *ring) report(ctx context.Context, env operation.Env, spool string) (operation.Observation, error) {
	packets := uint64(0)
	for _, row := range r.state.Rows {
		packets += row.Packets
		env.Row(r.dev, row)
	}
	if err := r.insist(ctx, env, func() error { return r.remove(ctx, env) }); err != nil {
		// What was captured is kept; the rest is the device's disk.
		env.Warn(r.dev, "the files are still in %s: %v", r.state.Directory, err)
	}
	if err := os.RemoveAll(spool); err != nil {
		env.Logger().Warn("folder of collected captures left behind", "device", r.dev.Name, "err", err)
	}
	return operation.Observation{Verdict: operation.Done, Detail: fmt.Sprintf("%d packets from %d rings", packets, len(r.state.Rows))}, nil
}

// names lists the run's folder, which is made readable to the login first.
func (r *ring) names(ctx context.Context, env operation.Env) (names []string, err error) {
	err = r.insist(ctx, env, func() error {
		conn, err := env.Conn(ctx, r.dev)
		if err != nil {
			return err
		}
		if r.spec.Sudo {
			res, err := conn.Exec(ctx, device.ExecRequest{Args: []string{"sh", "-c", `sudo -n chown -R "$(id -u)" "$1"`, "sh", r.state.Directory}, MaxBytes: maxSaid})
			if err != nil {
				return err
			}
			if res.Status != 0 {
				return r.refuse(fault.Denied, "read "+r.state.Directory, "", "%s", clip(device.CleanText(res.Stderr)))
			}
		}
		names, err = r.list(ctx, conn)
		return err
	})
	return names, err
}

// gather fetches one ring and makes an artifact of it.
func (r *ring) gather(ctx context.Context, env operation.Env, f *ringFile, names []string, spool string) (*RingRow, *ManifestRing, error) {
	out := &ManifestRing{Interface: f.Interface, Command: f.Command, Files: []ManifestFile{}, Ended: f.Ended}
	err := r.insist(ctx, env, func() error {
		conn, err := env.Conn(ctx, r.dev)
		if err != nil {
			return err
		}
		out.Said, err = r.said(ctx, conn, f)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if !r.numbered(f, name) {
			continue
		}
		file, err := r.fetch(ctx, env, name, filepath.Join(spool, name))
		if err != nil {
			return nil, nil, err
		}
		if file.Damage != "" {
			env.Warn(r.dev, "%s: %s; what is before that is kept", name, file.Damage)
		}
		out.Files = append(out.Files, file)
	}
	slices.SortStableFunc(out.Files, byTime)
	row, err := r.merge(ctx, env, f, out, filepath.Join(spool, path.Base(f.Base)+"ng"))
	if err != nil {
		return nil, nil, err
	}
	if !r.state.Rotated {
		// With our own rotation each file has counts of its own, which overlap.
		row.Captured, row.Received = countOf(out.Said, "captured"), countOf(out.Said, "received by filter")
	}
	row.DroppedByKernel, row.DroppedByInterface = sumOf(out.Said, "dropped by kernel"), sumOf(out.Said, "dropped by interface")
	if n := row.DroppedByKernel; n != nil && *n > 0 {
		env.Warn(r.dev, "%s: %d packets were dropped by the kernel: what is missing in the capture proves nothing", f.Interface, *n)
	}
	return row, out, nil
}

// sumOf adds up one of tcpdump's counts, which is there once for each process.
func sumOf(said, what string) *int64 {
	var sum *int64
	for line := range strings.Lines(said) {
		if n := countOf(line, what); n != nil {
			if sum == nil {
				sum = new(int64)
			}
			*sum += *n
		}
	}
	return sum
}

// byTime puts the oldest first; a file without packets is the newest: its packets
// were still to come.
func byTime(a, b ManifestFile) int {
	switch {
	case a.FirstTime == nil && b.FirstTime == nil:
		return cmp.Compare(a.Name, b.Name)
	case a.FirstTime == nil:
		return 1
	case b.FirstTime == nil:
		return -1
	}
	return a.FirstTime.Compare(*b.FirstTime)
}

// fetch brings one file here, going on with what is here of it.
func (r *ring) fetch(ctx context.Context, env operation.Env, name, local string) (ManifestFile, error) {
	f, err := os.OpenFile(local, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return ManifestFile{}, fault.Wrap(fault.Storage, "write "+name, err)
	}
	defer func() { _ = f.Close() }()
	have := int64(0)
	if info, err := f.Stat(); err == nil {
		have = info.Size()
	}
	got, err := transfer.Receive(ctx, func(ctx context.Context) (device.Conn, error) { return env.Conn(ctx, r.dev) }, transfer.Download{
		Path: path.Join(r.state.Directory, name), Into: f, Have: have, Tools: r.tools, Buffers: r.opts.Buffers,
		Progress: func(done, total int64) { env.Progress(r.dev, done, total, "bytes") },
	})
	if err != nil {
		return ManifestFile{}, err
	}
	out := ManifestFile{Name: name, Bytes: got.Size, SHA256: got.SHA256, Verified: got.Verified, local: local}
	if got.Size == 0 {
		return out, nil // tcpdump had not written its header yet
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ManifestFile{}, fault.Wrap(fault.Storage, "read "+name, err)
	}
	sum, err := info.Read(ctx, f, info.Options{})
	switch {
	case ctx.Err() != nil:
		return ManifestFile{}, context.Cause(ctx)
	case err != nil:
		out.Damage = clip(err.Error())
	}
	if sum != nil {
		out.Packets, out.FirstTime, out.LastTime = sum.Packets, sum.First, sum.Last
	}
	return out, nil
}

// merge makes one file of a ring and keeps it.
func (r *ring) merge(ctx context.Context, env operation.Env, f *ringFile, out *ManifestRing, local string) (*RingRow, error) {
	source := merge.Source{Name: r.dev.Name + " " + f.Interface}
	if r.state.Rotated {
		source.Slack = overlapSlack
	}
	for _, file := range out.Files {
		if file.Bytes == 0 {
			continue
		}
		part, err := os.Open(file.local)
		if err != nil {
			return nil, fault.Wrap(fault.Storage, "read "+file.Name, err)
		}
		defer func() { _ = part.Close() }()
		source.Parts = append(source.Parts, merge.Part{Name: file.Name, Capture: part})
	}
	to, err := os.Create(local)
	if err != nil {
		return nil, fault.Wrap(fault.Storage, "write "+filepath.Base(local), err)
	}
	defer func() { _ = to.Close() }()
	w, err := pcap.NewNGWriter(to, pcap.Section{Application: "fleetd", Comments: []string{strings.Join(f.Command, " ")}})
	if err != nil {
		return nil, fault.Wrap(fault.Storage, "write "+filepath.Base(local), err)
	}
	merged, err := merge.Merge(ctx, []merge.Source{source}, w)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var broken *fs.PathError
	if errors.As(err, &broken) {
		return nil, fault.Wrap(fault.Storage, "write "+filepath.Base(local), err)
	}
	// Any other error is damage of a part, which is known by now.
	if err := w.Flush(); err != nil {
		return nil, fault.Wrap(fault.Storage, "write "+filepath.Base(local), err)
	}
	for _, p := range merged.Parts {
		out.Repeated += p.Repeated
	}
	size, err := to.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = to.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Storage, "read "+filepath.Base(local), err)
	}
	name := fmt.Sprintf("%s_%s.pcapng", r.dev.Name, fileName(f.Interface))
	sum, err := env.Keep(ctx, r.dev, name, pcapngType, to)
	if err != nil {
		return nil, err
	}
	out.Merged = sum
	return &RingRow{Device: r.dev.Name, Interface: f.Interface, Filter: f.Filter, File: name, SHA256: sum, Bytes: size,
		Packets: merged.Packets, FirstTime: merged.First, LastTime: merged.Last,
		BeganAt: r.state.Began, StoppedAt: r.state.Stopped, RunningFrom: r.state.Running, RunningTo: r.state.Ordered, StoppedBy: r.state.Why, EndedBy: f.Ended}, nil
}
