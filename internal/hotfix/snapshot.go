package hotfix

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// Snapshot is what a device showed of itself at one time: the file that is kept
// before and after a change.
type Snapshot struct {
	Device  string         `json:"device"`
	TakenAt time.Time      `json:"taken_at"`
	Items   []SnapshotText `json:"items"`
}

// SnapshotText is the output of one command of a snapshot.
type SnapshotText struct {
	Name string `json:"name"`
	Line string `json:"line"`
	Text string `json:"text"`
	// Missing says why there is no text: the device does not know the command.
	Missing string `json:"missing,omitempty"`
}

// maxSnapshotItem bounds one command's output in a snapshot, in bytes.
const maxSnapshotItem = 4 << 20

// snapshot takes one. Secrets in it are replaced by marks: another secret has
// another mark.
func (l look) snapshot(ctx context.Context, items []device.SnapshotItem) (Snapshot, error) {
	key, err := secretKey(ctx, l.env, l.dev)
	if err != nil {
		return Snapshot{}, err
	}
	out := Snapshot{Device: l.dev.Name, TakenAt: l.env.Now().UTC().Truncate(time.Millisecond), Items: []SnapshotText{}}
	for i, item := range items {
		l.env.Progress(l.dev, int64(i), int64(len(items)), "commands")
		text := SnapshotText{Name: item.Name, Line: item.Line}
		s, err := l.session(ctx)
		if err != nil {
			return out, err
		}
		got, err := s.Run(ctx, device.Command{Line: item.Line, Mode: item.Mode, Timeout: item.Timeout, MaxBytes: maxSnapshotItem})
		switch {
		case fault.Is(err, fault.Refused) && item.Optional:
			text.Missing = "the device does not know the command"
		case err != nil:
			return out, err
		default:
			text.Text = conceal(got.Text, item.Secret, key)
		}
		out.Items = append(out.Items, text)
	}
	return out, nil
}

// conceal replaces what the first groups of patterns match by a mark.
func conceal(text string, patterns []string, key []byte) string {
	for _, re := range compile(patterns) {
		var b strings.Builder
		end := 0
		for _, at := range re.FindAllStringSubmatchIndex(text, -1) {
			if len(at) < 4 || at[2] < 0 || strings.HasPrefix(text[at[2]:at[3]], secretMark) {
				continue
			}
			mac := hmac.New(sha256.New, key)
			_, _ = mac.Write([]byte(text[at[2]:at[3]])) // never fails
			fmt.Fprintf(&b, "%s%s%x>", text[end:at[2]], secretMark, mac.Sum(nil)[:6])
			end = at[3]
		}
		text = b.String() + text[end:]
	}
	return text
}

const secretMark = "<secret:"

// secretKey gives the key of the marks of a device in a job. It is kept in the
// ledger, apart from the marks, so that a weak secret cannot be found from one.
func secretKey(ctx context.Context, env operation.Env, dev *device.Device) ([]byte, error) {
	var key []byte
	name := "secrets/" + dev.Name
	if ok, err := env.Recall(name, &key); err != nil || ok {
		return key, err
	}
	key = make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key, env.Remember(ctx, name, key)
}

// keep stores a snapshot as an artifact and gives its digest.
func (s Snapshot) keep(ctx context.Context, env operation.Env, dev *device.Device, name string) (string, error) {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return "", fault.Wrap(fault.Internal, "write the snapshot of "+dev.Name, err)
	}
	return env.Keep(ctx, dev, name, "application/json", bytes.NewReader(append(raw, '\n')))
}

// openSnapshot reads a kept snapshot.
func openSnapshot(ctx context.Context, env operation.Env, sha string) (s Snapshot, err error) {
	f, err := env.Artifact(ctx, sha)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = json.NewDecoder(io.NewSectionReader(f, 0, f.Size())).Decode(&s)
	return s, fault.Wrap(fault.Storage, "read the snapshot "+sha[:min(12, len(sha))], err)
}

// Difference is a command whose output was not the same before and after.
type Difference struct {
	Item string   `json:"item"`
	Line string   `json:"line"`
	Gone []string `json:"gone"`
	New  []string `json:"new"`
	// Matters is set where a person has to look at it.
	Matters bool `json:"matters"`
}

// compare gives the differences between two snapshots. expected reports whether a
// line is the change that was asked for.
func (s Snapshot) compare(after Snapshot, items []device.SnapshotItem, expected func(item, line string) bool) []Difference {
	out := []Difference{}
	for _, item := range items {
		before, ok := s.item(item.Name)
		then, there := after.item(item.Name)
		if !ok || !there {
			continue // the definition was changed in between
		}
		if before.Missing != "" && then.Missing == "" {
			continue // there is nothing to compare with
		}
		d := Difference{Item: item.Name, Line: item.Line}
		if then.Missing != "" && before.Missing == "" {
			d.Gone = []string{then.Missing}
			d.Matters = item.Differences != device.NoDiffers
			out = append(out, d)
			continue
		}
		was, is := comparable(item, before.Text), comparable(item, then.Text)
		d.Gone, d.New = without(was, is), without(is, was)
		if len(d.Gone)+len(d.New) == 0 {
			continue
		}
		for _, line := range d.Gone {
			d.Matters = d.Matters || item.Differences != device.NoDiffers && !expected(item.Name, line)
		}
		for _, line := range d.New {
			d.Matters = d.Matters || item.Differences == device.AnyDiffers && !expected(item.Name, line)
		}
		out = append(out, d)
	}
	return out
}

func (s Snapshot) item(name string) (SnapshotText, bool) {
	for _, t := range s.Items {
		if t.Name == name {
			return t, true
		}
	}
	return SnapshotText{}, false
}

// comparable gives the lines of an output that are compared.
func comparable(item device.SnapshotItem, text string) []string {
	ignore, volatile := compile(item.Ignore), compile(item.Volatile)
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || matchAny(ignore, line) {
			continue
		}
		for _, v := range volatile {
			line = v.ReplaceAllLiteralString(line, "…")
		}
		out = append(out, line)
	}
	return out
}

// without gives the lines of a that b does not have, each as often as it is missing.
func without(a, b []string) []string {
	count := make(map[string]int, len(b))
	for _, line := range b {
		count[line]++
	}
	out := []string{}
	for _, line := range a {
		if count[line] > 0 {
			count[line]--
			continue
		}
		out = append(out, line)
	}
	return out
}

// diffText writes differences as people read them.
func diffText(before, after Snapshot, diffs []Difference) string {
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s before, %s\n+++ %s after, %s\n", before.Device, before.TakenAt.Format(time.RFC3339), after.Device, after.TakenAt.Format(time.RFC3339))
	for _, d := range diffs {
		matters := ""
		if d.Matters {
			matters = " (needs a person)"
		}
		fmt.Fprintf(&b, "@@ %s: %s%s @@\n", d.Item, d.Line, matters)
		for _, line := range d.Gone {
			b.WriteString("-" + line + "\n")
		}
		for _, line := range d.New {
			b.WriteString("+" + line + "\n")
		}
	}
	return b.String()
}
