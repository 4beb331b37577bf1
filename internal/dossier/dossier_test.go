package dossier

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capfleet/internal/sshsig"
)

func write(t testing.TB) (archive []byte, key *sshsig.Key, keyFile string) {
	t.Helper()
	keyFile = filepath.Join(t.TempDir(), "key")
	key, err := sshsig.OpenKey(keyFile, "fleetd")
	if err != nil {
		t.Fatal(err)
	}
	m := &Manifest{Device: "lon-probe-01", CreatedAt: time.Unix(1_700_000_000, 0), Parts: []Part{
		{Name: "event log", Source: "bmc", State: Complete, Content: []byte("[]\n")},
		{Name: "raid", Source: "device", State: Failed, Reason: "it does not answer"},
		{Name: "empty", Source: "device", State: Partial, Content: nil},
	}}
	var out bytes.Buffer
	if err := Write(&out, m, key); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), key, keyFile
}

func TestVerify(t *testing.T) {
	t.Parallel()
	archive, key, keyFile := write(t)
	rep, err := Verify(bytes.NewReader(archive), nil)
	if err != nil || len(rep.Problems) != 0 || rep.Trusted != nil || rep.Key != key.Public() || len(rep.Manifest.Parts) != 3 {
		t.Errorf("%+v, %v", rep, err)
	}
	public, err := os.ReadFile(keyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := Verify(bytes.NewReader(archive), public); err != nil || rep.Trusted == nil || !*rep.Trusted {
		t.Errorf("%+v, %v", rep, err)
	}
	_, stranger, _ := write(t)
	if rep, err := Verify(bytes.NewReader(archive), []byte("# ops\nops@example.net "+stranger.Public()+"\n")); err != nil || rep.Trusted == nil || *rep.Trusted {
		t.Errorf("a stranger's key: %+v, %v", rep, err)
	}
	if _, err := Verify(bytes.NewReader(archive), []byte("no key\n")); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v", err)
	}
	// The key stays.
	again, err := sshsig.OpenKey(keyFile, "fleetd")
	if err != nil || again.Public() != key.Public() {
		t.Errorf("%v", err)
	}
	if stat, err := os.Stat(keyFile); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}
}

// TestVerifyWithOtherPrograms takes an archive apart with tar and checks it with
// ssh-keygen and sha256sum.
func TestVerifyWithOtherPrograms(t *testing.T) {
	t.Parallel()
	archive, key, _ := write(t)
	dir := t.TempDir()
	run := func(stdin io.Reader, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdin = dir, stdin
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	run(bytes.NewReader(archive), "tar", "xzf", "-", "--strip-components=1")
	if err := os.WriteFile(filepath.Join(dir, "allowed"), []byte("fleetd "+key.Public()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	manifest, err := os.Open(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manifest.Close() }()
	run(manifest, "ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "fleetd", "-n", Namespace, "-s", "manifest.json.sig")
	text, err := os.ReadFile(manifest.Name())
	if err != nil {
		t.Fatal(err)
	}
	if sum, _, _ := strings.Cut(run(nil, "sha256sum", "parts/01-event-log"), " "); !bytes.Contains(text, []byte(sum)) {
		t.Errorf("%s is not in the manifest", sum)
	}
}

// altered rebuilds an archive; change may alter, drop (nil) or add files.
func altered(t testing.TB, archive []byte, change func(name string, content []byte) ([]byte, bool), extra ...string) []byte {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	in := tar.NewReader(zipped)
	var out bytes.Buffer
	zipper := gzip.NewWriter(&out)
	w := tar.NewWriter(zipper)
	put := func(name string, content []byte) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if content, keep := change(header.Name, content); keep {
			put(header.Name, content)
		}
	}
	for _, name := range extra {
		put(name, []byte("more"))
	}
	if err := errors.Join(w.Close(), zipper.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	archive, _, _ := write(t)
	replace := func(suffix, text string) func(string, []byte) ([]byte, bool) {
		return func(name string, content []byte) ([]byte, bool) {
			if strings.HasSuffix(name, suffix) {
				return []byte(text), text != ""
			}
			return content, true
		}
	}
	same := func(_ string, content []byte) ([]byte, bool) { return content, true }
	for name, c := range map[string]struct {
		archive []byte
		problem string
		err     string
	}{
		"a part changed":    {altered(t, archive, replace("event-log", "{}\n")), "parts/01-event-log is not what was gathered", ""},
		"a part taken out":  {altered(t, archive, replace("event-log", "")), "parts/01-event-log is missing", ""},
		"a file put in":     {altered(t, archive, same, "../../etc/passwd"), `"../../etc/passwd" is not in the manifest`, ""},
		"manifest changed":  {altered(t, archive, replace("manifest.json", "{}")), "", "verify the signature"},
		"signature missing": {altered(t, archive, replace(".sig", "")), "", "manifest.json.sig is missing"},
		"no archive":        {[]byte("PK"), "", "verify the dossier"},
		"cut off":           {archive[:len(archive)/2], "", "verify the dossier"},
	} {
		rep, err := Verify(bytes.NewReader(c.archive), nil)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v", name, err)
		case c.err == "" && (err != nil || len(rep.Problems) != 1 || rep.Problems[0] != c.problem):
			t.Errorf("%s: %q, %v", name, rep.Problems, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	archive, _, _ := write(f)
	f.Add(archive)
	f.Fuzz(func(_ *testing.T, archive []byte) { _, _ = Verify(bytes.NewReader(archive), nil) })
}
