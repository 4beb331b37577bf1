package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

// keptFile is an artifact of the fake, with its content.
type keptFile struct {
	api.Artifact
	content string
	damaged bool
}

func (f *fakeFleet) Artifacts(_ context.Context, job string) ([]api.Artifact, error) {
	return f.FindArtifacts(context.Background(), job, "")
}

func (f *fakeFleet) FindArtifacts(_ context.Context, job, prefix string) ([]api.Artifact, error) {
	var out []api.Artifact
	for _, k := range f.kept {
		if strings.HasPrefix(k.SHA256, prefix) && (job == "" || job == k.Job) {
			out = append(out, k.Artifact)
		}
	}
	return out, f.down
}

func (f *fakeFleet) Artifact(_ context.Context, sha string) (io.ReadCloser, error) {
	for _, k := range f.kept {
		if k.SHA256 != sha {
			continue
		}
		r := io.Reader(strings.NewReader(k.content))
		if k.damaged {
			r = io.MultiReader(strings.NewReader(k.content[:len(k.content)/2]), iotest.ErrReader(fault.New(fault.Storage, "the stored file is damaged")))
		}
		return io.NopCloser(r), f.down
	}
	return nil, fault.New(fault.NotFound, "no artifact %s", sha)
}

func (f *fakeFleet) ArtifactFrom(ctx context.Context, sha string, offset int64) (io.ReadCloser, error) {
	f.offsets = append(f.offsets, offset)
	r, err := f.Artifact(ctx, sha)
	if err == nil {
		_, err = io.CopyN(io.Discard, r, offset)
	}
	if err == nil && len(f.cuts) > 0 {
		n := f.cuts[0]
		f.cuts = f.cuts[1:]
		lost := iotest.ErrReader(fault.New(fault.Unavailable, "the connection was cut"))
		return io.NopCloser(io.MultiReader(io.LimitReader(r, n), lost)), nil
	}
	return r, err
}

// A fetch that is cut goes on where it ended, in the same call and in a later one;
// what is there complete is not fetched again.
func TestArtifactFetchGoesOn(t *testing.T) {
	content := strings.Repeat("0123456789", 10_000)
	f := &fakeFleet{}
	f.kept = []keptFile{kept("big.pcapng", "application/x-pcapng", content, "7")}
	art := f.kept[0].Artifact
	dir := t.TempDir()
	name := filepath.Join(dir, "big.pcapng")
	get := func() int {
		return session{fleet: f}.run(t.Context(), t, "artifact", "get", art.SHA256, "--write", name).code
	}
	f.cuts = []int64{1000, 2000, 0, 0, 0}
	if code := get(); code != fault.ExitUnavailable {
		t.Fatalf("exit code %d", code)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("there is a file already: %v", err)
	}
	f.offsets, f.cuts = nil, nil
	if code := get(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if len(f.offsets) != 1 || f.offsets[0] != 3000 {
		t.Errorf("went on at %v", f.offsets)
	}
	raw, err := os.ReadFile(name)
	if err != nil || string(raw) != content {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	f.offsets = nil
	if code := get(); code != 0 || len(f.offsets) != 0 {
		t.Errorf("once more: %d, asked at %v", code, f.offsets)
	}
	// What is not the beginning of it is noticed, and thrown away.
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(dir, fmt.Sprintf(".big.pcapng.%.16s.part", art.SHA256))
	if err := os.WriteFile(part, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := get(); code != fault.ExitFailed {
		t.Errorf("something else there: %d", code)
	}
	if code := get(); code != 0 {
		t.Errorf("and anew: %d", code)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("in the folder: %v, %v", entries, err)
	}
}

func (f *fakeFleet) AddArtifact(_ context.Context, name, mediaType string, r io.Reader, size int64) (api.Artifact, error) {
	content, err := io.ReadAll(r)
	if err != nil || f.down != nil {
		return api.Artifact{}, errors.Join(err, f.down)
	}
	if size >= 0 && size != int64(len(content)) {
		return api.Artifact{}, fault.New(fault.Invalid, "%d bytes of %d", len(content), size)
	}
	k := kept(name, mediaType, string(content), "")
	k.CreatedBy = "op"
	f.kept = append(f.kept, k)
	return k.Artifact, nil
}

func (f *fakeFleet) RemoveArtifact(_ context.Context, sha string) ([]api.Artifact, error) {
	list, err := f.FindArtifacts(context.Background(), "", sha)
	f.kept = slices.DeleteFunc(f.kept, func(k keptFile) bool { return k.SHA256 == sha })
	return list, err
}

func kept(name, mediaType, content, job string) keptFile {
	sum := sha256.Sum256([]byte(content))
	return keptFile{Artifact: api.Artifact{SHA256: hex.EncodeToString(sum[:]), Name: name, MediaType: mediaType, Size: int64(len(content)),
		Job: job, CreatedAt: testTime}, content: content}
}

func artifactsFixture() *fakeFleet {
	return &fakeFleet{
		jobs: []api.Job{{ID: "7"}, {ID: "8"}},
		kept: []keptFile{
			kept("raw.txt", "text/plain; charset=utf-8", "lon \x1b[2J#\n", "7"), // 70fb...
			kept("a.pcap", "application/vnd.tcpdump.pcap", "\xd4\xc3\xb2\xa1", "7"),
			kept("b.pcap", "application/vnd.tcpdump.pcap", "\xd4\xc3\xb2\xa1", "8"),
		},
	}
}

func TestArtifactList(t *testing.T) {
	f := artifactsFixture()
	golden(t, "artifacts.table", session{fleet: f, terminal: true, env: map[string]string{"NO_COLOR": "1"}}.run(t.Context(), t, "artifact", "list"))
	got := session{fleet: f}.run(t.Context(), t, "artifact", "list", "--job", "7", "-o", "jsonl")
	if n := strings.Count(got.out, "\n"); n != 2 || got.code != 0 || !strings.Contains(got.out, `"sha256":"`+f.kept[0].SHA256+`"`) {
		t.Errorf("%+v", got)
	}
	if got := (session{fleet: f}).run(t.Context(), t, "artifact", "list", f.kept[1].SHA256[:9], "-o", "jsonl"); strings.Count(got.out, "\n") != 2 {
		t.Errorf("both entries of one file: %+v", got)
	}
	if got := (session{fleet: f}).run(t.Context(), t, "artifact", "list", "--job", "99"); got.code != fault.ExitFailed && got.code != fault.ExitUsage || got.out != "" {
		t.Errorf("a job that does not exist: %+v", got)
	}
	if got := (session{fleet: &fakeFleet{}}).run(t.Context(), t, "artifact", "list", "-o", "json"); got.out != "{\n  \"rows\": []\n}\n" {
		t.Errorf("none: %q", got.out)
	}
}

// A file with keys in it is handed out only to who says so, and then for nobody else
// to read.
func TestArtifactGetSecret(t *testing.T) {
	f := artifactsFixture()
	archive := kept("lon-ltm-01_before.ucs", "application/x-f5-ucs; secret=yes", "keys", "7")
	archive.Secret = true
	f.kept = append(f.kept, archive)
	file := filepath.Join(t.TempDir(), "before.ucs")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got := session{fleet: f}.run(t.Context(), t, "artifact", "get", archive.SHA256, "--write", file)
	if got.code != fault.ExitUsage || !strings.Contains(got.errOut, "holds keys or passwords") || !strings.Contains(got.errOut, "--secret") {
		t.Errorf("without --secret: %+v", got)
	}
	got = session{fleet: f}.run(t.Context(), t, "artifact", "get", archive.SHA256, "--secret", "--write", file)
	info, err := os.Stat(file)
	if got.code != 0 || err != nil || info.Size() != 4 || info.Mode().Perm() != 0o600 {
		t.Errorf("with it: %+v, %v, %v", got, info, err)
	}
}

func TestArtifactGet(t *testing.T) {
	text, pcap := artifactsFixture().kept[0], artifactsFixture().kept[1]
	for name, c := range map[string]struct {
		digest   string
		terminal bool
		damage   bool
		code     int
		out      string
		says     string
	}{
		"whole digest":       {digest: pcap.SHA256, out: pcap.content},
		"first digits":       {digest: pcap.SHA256[:7], out: pcap.content},
		"upper case":         {digest: strings.ToUpper(pcap.SHA256[:7]), out: pcap.content},
		"text is as it is":   {digest: text.SHA256[:7], out: text.content},
		"text at a terminal": {digest: text.SHA256[:7], terminal: true, out: "lon \\x1b[2J#\n"},
		"packets at one":     {digest: pcap.SHA256[:7], terminal: true, code: 4, says: "use --write FILE"},
		"damaged":            {digest: text.SHA256[:7], damage: true, code: 1, out: text.content[:len(text.content)/2], says: "damaged"},
		"no digest":          {digest: "../etc", code: 4, says: "is no digest"},
		"nothing has it":     {digest: "fedcba9876543210", code: 4, says: "fleetctl artifact list"},
	} {
		t.Run(name, func(t *testing.T) {
			f := artifactsFixture()
			f.kept[0].damaged = c.damage
			got := session{fleet: f, terminal: c.terminal, env: map[string]string{"TERM": "dumb"}}.run(t.Context(), t, "artifact", "get", c.digest)
			if got.code != c.code || got.out != c.out || !strings.Contains(got.errOut, c.says) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestArtifactGetToFile(t *testing.T) {
	f := artifactsFixture()
	file := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.kept[0].damaged = true
	if got := (session{fleet: f}).run(t.Context(), t, "artifact", "get", f.kept[0].SHA256, "--write", file); got.code != 1 {
		t.Errorf("damaged: %+v", got)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "before" {
		t.Errorf("a damaged one left %q, %v", text, err)
	}
	f.kept[0].damaged = false
	if got := (session{fleet: f}).run(t.Context(), t, "artifact", "get", f.kept[0].SHA256, "-w", file); got.code != 0 || got.out != "" {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != f.kept[0].content {
		t.Errorf("%q, %v", text, err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Digests that begin alike are told apart with as few digits as do it.
func TestArtifactAmbiguous(t *testing.T) {
	f := &fakeFleet{}
	for i, sha := range []string{"ab12" + strings.Repeat("0", 60), "ab12" + strings.Repeat("0", 20) + strings.Repeat("1", 40), "abff" + strings.Repeat("0", 60)} {
		f.kept = append(f.kept, keptFile{Artifact: api.Artifact{SHA256: sha, Name: "file" + string(rune('0'+i))}})
	}
	got := session{fleet: f}.run(t.Context(), t, "artifact", "get", "ab")
	want := `fleetctl: 3 artifacts have a digest that begins with ab:
  ab12000000000000000000000  file0
  ab12000000000000000000001  file1
  abff000000000000000000000  file2
`
	if diff := cmp.Diff(outcome{fault.ExitUsage, "", want}, got, cmp.AllowUnexported(outcome{})); diff != "" {
		t.Error(diff)
	}
	if got := (session{fleet: f}).run(t.Context(), t, "artifact", "rm", "--yes", "abff", "ab12"); got.code != fault.ExitUsage || len(f.kept) != 3 {
		t.Errorf("something was removed beside a mistake: %+v", got)
	}
}

func TestArtifactAdd(t *testing.T) {
	f := &fakeFleet{}
	file := filepath.Join(t.TempDir(), "fix.txt")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := kept("", "", "content", "").SHA256 + "\n"
	if got := (session{fleet: f}).run(t.Context(), t, "artifact", "add", "-q", file); got.out != want || got.errOut != "" || got.code != 0 {
		t.Errorf("%+v", got)
	}
	if a := f.kept[0]; a.Name != "fix.txt" || !strings.HasPrefix(a.MediaType, "text/plain") {
		t.Errorf("%+v", a)
	}
	if got := (session{fleet: f, stdin: "content"}).run(t.Context(), t, "artifact", "add", "-", "--name", "x.end", "-o", "jsonl"); !strings.Contains(got.out, `"name":"x.end","media_type":"application/octet-stream"`) {
		t.Errorf("%+v", got)
	}
	for name, args := range map[string][]string{"no name": {"-"}, "a directory": {t.TempDir()}, "no file": {file + "x"}, "two": {file, file}} {
		if got := (session{fleet: f}).run(t.Context(), t, append([]string{"artifact", "add"}, args...)...); got.code != fault.ExitUsage {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestArtifactRemove(t *testing.T) {
	f := artifactsFixture()
	digest := f.kept[1].SHA256[:8]
	if got := (session{fleet: f}).run(t.Context(), t, "artifact", "rm", digest); got.code != fault.ExitUsage || len(f.kept) != 3 {
		t.Errorf("nobody was asked: %+v", got)
	}
	at := session{fleet: f, terminal: true, stdin: "n\n", env: map[string]string{"TERM": "dumb"}}
	if got := at.run(t.Context(), t, "artifact", "rm", digest); got.code != fault.ExitFailed || len(f.kept) != 3 || !strings.Contains(got.errOut, "a.pcap (job 7, 8)? [y/N]") {
		t.Errorf("no: %+v", got)
	}
	at.stdin = "y\n"
	if got := at.run(t.Context(), t, "artifact", "rm", digest, digest[:6]); got.code != 0 || len(f.kept) != 1 {
		t.Errorf("yes: %+v", got)
	}
	if got := (session{fleet: f}).run(t.Context(), t, "artifact", "rm", "--yes", "-o", "jsonl", f.kept[0].SHA256); got.code != 0 || len(f.kept) != 0 || !strings.Contains(got.out, `"raw.txt"`) {
		t.Errorf("--yes: %+v", got)
	}
}
