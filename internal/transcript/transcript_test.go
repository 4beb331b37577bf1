package transcript

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capfleet/internal/parse"
	"capfleet/templates"
)

func TestClean(t *testing.T) {
	t.Parallel()
	known := Known{Hosts: []string{"lon-probe-01", "10.9.8.7"}, Users: []string{"jsmith", "root"}, Words: []string{"Acme", "4711"}, Prompt: "(maintenance) ny-cap7 [standalone: master] #"}
	for name, c := range map[string]struct{ in, want string }{
		"host in a prompt":          {"(maintenance) ny-cap7 [standalone: master] # show version", "(maintenance) xx-xxx0 [standalone: master] # show version"},
		"host with its domain":      {"host lon-probe-01.corp.example.com.", "host xxx-xxxxx-00.xxxx.xxxxxxx.xxx."},
		"host inside a longer name": {"lon-probe-011 xlon-probe-01", "lon-probe-011 xlon-probe-01"},
		"upper case":                {"LON-PROBE-01 up", "XXX-XXXXX-00 up"},
		"user":                      {"logged in: jsmith, root", "logged in: xxxxxx, root"},
		"named words":               {"contract ACME 4711 47110", "contract XXXX 0000 47110"},
		"addresses are numbered":    {"10.9.8.7 to 172.16.0.1, 10.9.8.7/24", "192.0.2.1 to 192.0.2.2, 192.0.2.1/24"},
		"columns stay":              {"eth0    10.9.8.77/24    up", "eth0    192.0.2.1/24    up"},
		"shorter in a column":       {"eth0  110.129.188.77   up", "eth0  192.0.2.1        up"},
		"longer in a column":        {"eth0  1.2.3.4   up", "eth0  192.0.2.1 up"},
		"what says nothing":         {"127.0.0.1 0.0.0.0 255.255.255.0 ::1 ::", "127.0.0.1 0.0.0.0 255.255.255.0 ::1 ::"},
		"version of four numbers":   {"  Version  17.1.0.3\nHD1.1  BIG-IP  17.1.0.3  0.0.4", "  Version  17.1.0.3\nHD1.1  BIG-IP  17.1.0.3  0.0.4"},
		"hotfix of four numbers":    {"Hotfix-BIGIP-17.1.0.3.0.0.4.iso", "Hotfix-BIGIP-17.1.0.3.0.0.4.iso"},
		"IPv6":                      {"inet6 fe80::1ff:fe23:4567:890a/64 scope", "inet6 2001:db8::1/64 scope"},
		"both families":             {"10.9.8.7 fe80::1", "192.0.2.1 2001:db8::1"},
		"no IPv6":                   {"12:04:11 Sys::Version a::b", "12:04:11 Sys::Version 2001:db8::1"},
		"MAC":                       {"ether 00:1b:44:11:3a:b7 and 001b.4411.3ab7", "ether 00:00:00:00:00:00 and 0000.0000.0000"},
		"UUID":                      {"id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-0000-0000-0000-000000000000"},
		"e-mail":                    {"contact: a.person@example.org (day)", "contact: x.xxxxxx@xxxxxxx.xxx (day)"},
		"serial numbers":            {"Serial number: ABC-123 x\nChassis Serial  chs400012\nSerial port ready", "Serial number: XXX-000 x\nChassis Serial  xxx000000\nSerial port ready"},
		"registration key":          {"Base Registration Key: ABCDE-FGHIJ-12345", "Base Registration Key: XXXXX-XXXXX-00000"},
		"secrets":                   {"password 7 s3cret\ncommunity: publ1c\nsecret=\"two words\"\npassword: none", "password 7 x0xxxx\ncommunity: xxxx0x\nsecret=\"xxx xxxxx\"\npassword: none"},
		"hashes":                    {"root:$6$abc$DEF./123:1", "root:$0$xxx$XXX./000:1"},
		"private keys":              {"-----BEGIN RSA PRIVATE KEY-----\nMIIabc+/=\n-----END RSA PRIVATE KEY-----\nafter", "-----BEGIN RSA PRIVATE KEY-----\nXXXxxx+/=\n-----END RSA PRIVATE KEY-----\nafter"},
		"private key on one line":   {"key -----BEGIN PRIVATE KEY-----MIIa-----END PRIVATE KEY----- 10.1.1.1", "key -----BEGIN PRIVATE KEY-----XXXx-----END PRIVATE KEY----- 192.0.2.1"},
		"end of a key in its line":  {"-----BEGIN PRIVATE KEY-----\nMIIa=-----END PRIVATE KEY-----\nx", "-----BEGIN PRIVATE KEY-----\nXXXx=-----END PRIVATE KEY-----\nx"},
		"line ends":                 {"a\r\nb\n\nc", "a\r\nb\n\nc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _ := Clean(c.in, known)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// What was blanked is told without telling it.
func TestBlanksTellNoValue(t *testing.T) {
	t.Parallel()
	_, got := Clean("lon-probe-01 # show it\n10.9.8.7 lon-probe-01 10.9.8.8\n", Known{Hosts: []string{"lon-probe-01"}})
	want := []Blank{{Kind: Host, Count: 2, As: "xxx-xxxxx-00"}, {Kind: Address, Count: 2, As: "192.0.2.1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestPrompts(t *testing.T) {
	t.Parallel()
	for prompt, want := range map[string][2]string{
		"lon-probe-01 #":                 {"lon-probe-01", ""},
		"(maintenance) lon-probe-01 >":   {"lon-probe-01", ""},
		"lon-probe-01 [cluster: x] #":    {"lon-probe-01", ""},
		"root@(bigip1)(Active)(tmos)#":   {"bigip1", "root"},
		"jsmith@cap:~$":                  {"cap", "jsmith"},
		"[root@bigip1:Active:Changes] ~": {"bigip1", "root"},
		"":                               {"", ""},
		"#":                              {"", ""},
	} {
		if host, user := prompted(prompt); host != want[0] || user != want[1] {
			t.Errorf("%q: %q, %q", prompt, host, user)
		}
	}
}

// A sample that is cleaned gives as many rows as before, of every template that is
// built in.
func TestTemplatesReadWhatIsCleaned(t *testing.T) {
	t.Parallel()
	lib := parse.NewLibrary("")
	raws, err := fs.Glob(templates.FS, "*/samples/*/*/raw.txt")
	if err != nil || len(raws) == 0 {
		t.Fatal(err)
	}
	for _, raw := range raws {
		parts := strings.Split(raw, "/")
		text, err := fs.ReadFile(templates.FS, raw)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		prompt, _, typed := strings.Cut(first, " show ")
		if !typed {
			prompt = ""
		}
		template, err := lib.Template(parts[0] + "/" + parts[2])
		if err != nil {
			t.Fatal(err)
		}
		want, err := template.Parse(t.Context(), strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		cleaned, _ := Clean(string(text), Known{Prompt: prompt, Hosts: []string{"lon-probe-01"}})
		got, err := template.Parse(t.Context(), strings.NewReader(cleaned))
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %d rows, want %d: %v\n%s", raw, len(got), len(want), err, cleaned)
		}
	}
}

// Whatever the text: no known name is left standing as a word, the lines stay, and
// what was changed is told.
func TestCleanProperties(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile(`(?i)(?:^|[^0-9A-Za-z_\x{80}-\x{10ffff}])(?:lon-probe-01|jsmith)(?:[^0-9A-Za-z_\x{80}-\x{10ffff}]|$)`)
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{" ", "  ", "\n", "\r\n", "lon-probe-01", "jsmith", "password ", "serial: ", "10.1.2.3", "1.2.3.4   ", "fe80::1", ":", ".", "-", "0", "a", "X1", "$6$a$b",
			"-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "aa:bb:cc:dd:ee:ff", "version ", "@", "\"", "\x80", "é"}),
		rapid.StringN(0, 4, 8),
	)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(piece, 0, 30).Draw(t, "text"), "")
		known := Known{Hosts: []string{"lon-probe-01"}, Users: []string{"jsmith"}}
		once, blanks := Clean(text, known)
		if left := word.FindString(once); left != "" {
			t.Fatalf("%q is left of %q: %q", left, text, once)
		}
		if again, _ := Clean(text, known); again != once {
			t.Fatalf("%q gives %q, then %q", text, once, again)
		}
		if strings.Count(once, "\n") != strings.Count(text, "\n") {
			t.Fatalf("lines were lost: %q, %q", text, once)
		}
		if len(blanks) == 0 && once != text {
			t.Fatalf("changed and not told: %q, %q", text, once)
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("lon-probe-01 # show version\nserial: 12 10.1.2.3 fe80::1\n")
	f.Fuzz(func(t *testing.T, text string) {
		once, _ := Clean(text, Known{Hosts: []string{"lon-probe-01"}, Prompt: text})
		if strings.Count(once, "\n") != strings.Count(text, "\n") {
			t.Fatalf("%q", once)
		}
	})
}
