package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os/user"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func (f *fake) FindArtifacts(_ context.Context, job, prefix string) ([]api.Artifact, error) {
	return []api.Artifact{{SHA256: prefix}}, f.note("find", job, prefix)
}

func (f *fake) AddArtifact(_ context.Context, by, name, mediaType string, r io.Reader) (api.Artifact, error) {
	content, err := io.ReadAll(r)
	if err != nil { // not noted: it ends when it ends, which may be after the client has given up
		return api.Artifact{}, fault.Wrap(fault.Disconnected, "keep", err)
	}
	if f.panics { // a store that keeps something else
		content = append(content, '!')
	}
	sum := sha256.Sum256(content)
	return api.Artifact{SHA256: hex.EncodeToString(sum[:]), Name: name, MediaType: mediaType, Size: int64(len(content))}, f.note("add", by, name, mediaType, len(content))
}

func (f *fake) RemoveArtifact(_ context.Context, by, sha string) ([]api.Artifact, error) {
	return []api.Artifact{{SHA256: sha}}, f.note("remove", by, sha)
}

func TestArtifacts(t *testing.T) {
	f := &fake{}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	user, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	me := user.Username

	// Larger than any body that is read into memory (maxBody), of known and of
	// unknown length.
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	for _, size := range []int64{int64(len(big)), -1} {
		a, err := c.AddArtifact(t.Context(), "../hot fix.end", "application/x-endace", bytes.NewReader(big), size)
		if err != nil || a.Size != int64(len(big)) {
			t.Fatalf("%+v, %v", a, err)
		}
		if diff := cmp.Diff([]any{"add", me, "../hot fix.end", "application/x-endace", len(big)}, f.take()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	}
	if _, err := c.AddArtifact(t.Context(), "", "", strings.NewReader("x"), 1); !fault.Is(err, fault.Invalid) {
		t.Errorf("without a name: %v", err)
	}
	f.take()

	// A file that cannot be read to its end is never taken for a whole one.
	boom := errors.New("input/output error")
	half := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(boom))
	for _, size := range []int64{-1, 100} {
		if _, err := c.AddArtifact(t.Context(), "f", "", half, size); !errors.Is(err, boom) {
			t.Errorf("a file that fails: %v", err)
		}
	}
	if asked := f.take(); len(asked) > 0 && asked[0] == "add" {
		t.Errorf("half a file was kept: %v", asked)
	}

	list, err := c.FindArtifacts(t.Context(), "7", "ab1")
	if err != nil || list[0].SHA256 != "ab1" {
		t.Errorf("%v, %v", list, err)
	}
	f.take()
	if _, err := c.FindArtifacts(t.Context(), "", "../x"); !fault.Is(err, fault.Invalid) {
		t.Errorf("no digest: %v", err)
	}
	sha := strings.Repeat("ab", 32)
	if list, err = c.RemoveArtifact(t.Context(), sha); err != nil || list[0].SHA256 != sha {
		t.Errorf("%v, %v", list, err)
	}
	if diff := cmp.Diff([]any{"remove", me, sha}, f.take()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if _, err := c.RemoveArtifact(t.Context(), "ab"); !fault.Is(err, fault.Invalid) {
		t.Errorf("half a digest: %v", err)
	}
}

func TestArtifactKeptOtherwiseThanSent(t *testing.T) {
	socket, _ := serve(t, &fake{panics: true})
	if _, err := dial(t, socket).AddArtifact(t.Context(), "f", "", strings.NewReader("x"), 1); !fault.Is(err, fault.Storage) {
		t.Errorf("%v", err)
	}
}

// What is allowed on a path is told by methods that exist.
func TestAllowNamesEveryMethod(t *testing.T) {
	socket, _ := serve(t, &fake{})
	resp := raw(t, socket, http.MethodPatch, "/v1/artifacts/"+strings.Repeat("ab", 32), "")
	if allow := strings.Join(resp.Header.Values("Allow"), ", "); resp.StatusCode != http.StatusMethodNotAllowed || allow != "GET, DELETE" {
		t.Errorf("%s, Allow: %q", resp.Status, allow)
	}
}
