package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// canaries are secrets by what they are for.
type canaries map[string][]byte

// forms gives a secret as programs come to write it: as it is, escaped for JSON, a
// URL or a Go string, in hexadecimal, in base64 at any place of a longer text, and as
// a list of numbers.
func forms(secret []byte) map[string][]byte {
	out := map[string][]byte{"plain": secret}
	add := func(form, text string) { out[form] = []byte(text) }
	add("hex", hex.EncodeToString(secret))
	add("HEX", strings.ToUpper(hex.EncodeToString(secret)))
	add("bytes", strings.Trim(fmt.Sprint(secret), "[]"))
	add("query", url.QueryEscape(string(secret)))
	add("path", url.PathEscape(string(secret)))
	add("quoted", strings.Trim(strconv.Quote(string(secret)), `"`))
	escaped, _ := json.Marshal(string(secret)) // a string is always JSON
	add("JSON", strings.Trim(string(escaped), `"`))
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(string(secret))
	add("JSON without HTML", strings.Trim(plain.String(), "\"\n"))
	for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for before := range 3 {
			text := enc.EncodeToString(append(make([]byte, before), secret...))
			first := (before*8 + 5) / 6 // the digits that hold other bytes too
			last := (before + len(secret)) * 8 / 6
			add(name+" at "+strconv.Itoa(before), text[first:last])
		}
	}
	return out
}

// leaks says which secrets are in a text, each in one form of those found.
func (c canaries) leaks(text []byte) (found []string) {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		all := forms(c[name])
		for _, form := range slices.Sorted(maps.Keys(all)) {
			if bytes.Contains(text, all[form]) {
				found = append(found, name+" ("+form+")")
				break
			}
		}
	}
	return found
}

// evidence is everything that a fleetd and its clients let out, by where.
type evidence map[string][]byte

func (e evidence) add(where string, text []byte) {
	for n := 2; e[where] != nil; n++ {
		where = strings.TrimSuffix(where, " #"+strconv.Itoa(n-1)) + " #" + strconv.Itoa(n)
	}
	e[where] = text
}

// files adds everything under a folder, names included.
func (e evidence) files(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		e.add(path, append([]byte(path+"\n"), raw...))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The search finds what it is there for.
func TestLeakIsFound(t *testing.T) {
	t.Parallel()
	secret := canaries{"password": []byte("p+ss/w=rd&<\"\\é \x01canary")}
	plain := string(secret["password"])
	record, _ := json.Marshal(map[string]any{"err": plain, "raw": []byte("xy" + plain + "z")})
	for name, text := range map[string]string{
		"plain":      "user=a password=" + plain + "!",
		"JSON":       string(record[:bytes.IndexByte(record, ',')]),
		"JSON bytes": string(record[bytes.IndexByte(record, ','):]),
		"text log":   fmt.Sprintf("err=%q", plain),
		"query":      "/v1/jobs?" + url.Values{"name": {plain}}.Encode(),
		"path":       "/v1/devices/" + url.PathEscape(plain),
		"hex":        fmt.Sprintf("%x", "a"+plain+"b"),
		"bytes":      fmt.Sprint([]byte("a" + plain + "b")),
		"base64 0":   base64.StdEncoding.EncodeToString([]byte(plain + "1")),
		"base64 1":   base64.StdEncoding.EncodeToString([]byte("1" + plain + "12")),
		"base64url":  base64.URLEncoding.EncodeToString([]byte("12" + plain)),
	} {
		if len(secret.leaks([]byte(text))) == 0 {
			t.Errorf("%s: not found in %q", name, text)
		}
	}
	if got := secret.leaks([]byte("err=\"file /secrets/password: permission denied\"")); got != nil {
		t.Errorf("found %q where nothing is", got)
	}
}
