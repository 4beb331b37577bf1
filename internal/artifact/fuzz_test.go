package artifact

import (
	"context"
	"mime"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzName: whatever a device calls a file and says that it is, the artifact has a
// plain file name that any system takes, and a media type that can be sent.
func FuzzName(f *testing.F) {
	for _, name := range []string{
		"lon-probe-01_filesystem_filesystem.txt", "../../etc/cron.d/x", `..\..\boot.ini`, "a/../..", "/", "..", ".bashrc", "-rf", "CON", "nul.txt", "LPT1.", "com¹.log",
		"a\x00b", "\x1b]0;t\x07", "\u202egpj.exe", "\xff\xfe", "x:y", "$(reboot)", "`id`", " ", "a ", strings.Repeat("é", 300), strings.Repeat("a", 199) + ".b",
	} {
		f.Add(name, "text/plain; charset=utf-8")
	}
	f.Add("x", "text/html\r\nSet-Cookie: a=b")
	f.Add("x", `multipart/form-data; boundary="`+strings.Repeat("x", 300)+`"`)
	f.Fuzz(func(t *testing.T, name, mediaType string) {
		got := cleanName(name)
		switch {
		case got == "" || len(got) > maxName || !utf8.ValidString(got):
			t.Fatalf("%q became %q", name, got)
		case filepath.Base(got) != got || !filepath.IsLocal(got) || strings.ContainsAny(got, `/\`) || got[0] == '.' || got[0] == '-' || strings.HasSuffix(got, "."):
			t.Fatalf("%q became %q, which is no plain name", name, got)
		case strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }):
			t.Fatalf("%q became %q", name, got)
		case strings.ContainsAny(got, `<>:"|?*`+"`'$&;!"):
			t.Fatalf("%q became %q, which means something to a shell or to Windows", name, got)
		case windowsDevice(got):
			t.Fatalf("%q became %q, which Windows takes for a device", name, got)
		case cleanName(got) != got:
			t.Fatalf("%q became %q and then %q", name, got, cleanName(got))
		}
		sent := cleanMediaType(mediaType)
		if _, _, err := mime.ParseMediaType(sent); err != nil || strings.ContainsFunc(sent, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			t.Fatalf("%q became %q: %v", mediaType, sent, err)
		}
		if cleanMediaType(sent) != sent {
			t.Fatalf("%q became %q and then %q", mediaType, sent, cleanMediaType(sent))
		}
	})
}

// windowsDevice reports a name that Windows takes for a device, whatever the
// extension (learn.microsoft.com, "Naming Files, Paths, and Namespaces").
func windowsDevice(name string) bool {
	base, _, _ := strings.Cut(name, ".")
	base = strings.ToUpper(base)
	if rest, ok := strings.CutPrefix(base, "COM"); ok || strings.HasPrefix(base, "LPT") {
		if !ok {
			rest = base[len("LPT"):]
		}
		return slices.Contains(strings.Split("0123456789¹²³", ""), rest)
	}
	return slices.Contains([]string{"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}, base)
}

// FuzzPut: what a device names and sends is kept as it was sent, inside the store.
func FuzzPut(f *testing.F) {
	f.Add("../../x", "job", "lon-probe-01", []byte("raw\x00\xff"))
	f.Add("x", "1\x00", "", []byte(nil))
	f.Add("\x1b[2J", "9", "a/b", []byte("a"))
	s := open(f, Options{MaxSize: 1 << 10})
	f.Fuzz(func(t *testing.T, name, job, dev string, content []byte) {
		a, err := s.Put(context.Background(), Meta{Name: name, Job: job, Device: dev}, strings.NewReader(string(content)))
		if err != nil {
			if !strings.ContainsRune(job, 0) && len(content) <= 1<<10 && len(job)+len(dev) < 1<<10 {
				t.Fatal(err)
			}
			return
		}
		r, _, err := s.Open(context.Background(), a.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(content)+1)
		n, _ := r.Read(back)
		_ = r.Close()
		if string(back[:n]) != string(content) {
			t.Fatalf("%d bytes came back as %d others", len(content), n)
		}
	})
}
