package bmc

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"capfleet/internal/fault"
)

// maxPinFile bounds a file of pins, in bytes: 100,000 BMCs take 9 MB.
const maxPinFile = 32 << 20

// Pin is a certificate that is trusted for a host: a line of a file of pins,
//
//	192.0.2.111 2F9A...64 hexadecimal digits
//	[192.0.2.112]:8443 77C0...
//
// with # before a comment. A host may have several lines; each of its
// certificates is trusted.
type Pin struct {
	Host        string // as HostName gives it
	Fingerprint string // as Fingerprint gives it
}

// HostName is how a file of pins names the web server of a BMC; port 0 and 443
// are left out.
func HostName(host string, port int) string {
	if port == 0 || port == httpsPort {
		return strings.ToLower(host)
	}
	return "[" + strings.ToLower(host) + "]:" + strconv.Itoa(port)
}

// ParseFingerprint gives a SHA-256 fingerprint in its one spelling. Colons and
// small letters are taken.
func ParseFingerprint(text string) (string, error) {
	digits := strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if sum, err := hex.DecodeString(digits); err != nil || len(sum) != sha256.Size {
		return "", fault.New(fault.Invalid, "%q is no SHA-256 fingerprint of a certificate", text)
	}
	return digits, nil
}

// Pins reads a file of pins. One that does not exist has none. A line that
// cannot be read is fault.Invalid with its number: trust is not guessed at.
func Pins(path string) ([]Pin, error) {
	content, err := readPins(path)
	if err != nil {
		return nil, err
	}
	return parsePins(path, content)
}

func readPins(path string) ([]byte, error) {
	stat, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fault.Wrap(fault.Storage, "read pinned certificates", err)
	case stat.Size() > maxPinFile:
		return nil, fault.New(fault.TooLarge, "%s is larger than %d bytes", path, maxPinFile)
	}
	content, err := os.ReadFile(path)
	return content, fault.Wrap(fault.Storage, "read pinned certificates", err)
}

func parsePins(path string, content []byte) ([]Pin, error) {
	var pins []Pin
	lines := bufio.NewScanner(bytes.NewReader(content))
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		bad := func(err error) error {
			return &fault.Error{Kind: fault.Invalid, Act: "read pinned certificates", Err: fmt.Errorf("%s:%d: %w", path, number, err), Next: "correct that line"}
		}
		if len(fields) != 2 {
			return nil, bad(errors.New("a line has a host and a SHA-256 fingerprint"))
		}
		fingerprint, err := ParseFingerprint(fields[1])
		if err != nil {
			return nil, bad(err)
		}
		pins = append(pins, Pin{strings.ToLower(fields[0]), fingerprint})
	}
	return pins, fault.Wrap(fault.Invalid, "read pinned certificates in "+path, lines.Err())
}

// AddPins adds pins to a file of pins, which is replaced in one step and keeps
// its other lines; it is made, for its owner alone, where there is none. It tells
// which were added and which were there. A host that is pinned to another
// certificate is fault.Conflict and nothing is written at all, unless replace is
// set: then its lines go. Calls for one file must not overlap.
func AddPins(path string, pins []Pin, replace bool) (added, unchanged []Pin, err error) {
	act := "pin certificates in " + path
	content, err := readPins(path)
	if err != nil {
		return nil, nil, err
	}
	have, err := parsePins(path, content)
	if err != nil {
		return nil, nil, err
	}
	forget := map[string]bool{}
	for _, pin := range pins {
		if pin.Fingerprint, err = ParseFingerprint(pin.Fingerprint); err != nil {
			return nil, nil, fault.Wrap(fault.Invalid, act, err)
		}
		if pin.Host == "" || strings.ContainsAny(pin.Host, " \t\r\n#") {
			return nil, nil, fault.New(fault.Invalid, "%s: %q is no host", act, pin.Host)
		}
		pin.Host = strings.ToLower(pin.Host)
		known := slices.ContainsFunc(have, func(p Pin) bool { return p.Host == pin.Host })
		switch {
		case slices.Contains(have, pin):
			unchanged = append(unchanged, pin)
			continue
		case slices.Contains(added, pin):
			continue
		case known && !replace:
			return nil, nil, &fault.Error{Kind: fault.Conflict, Act: act, Err: fmt.Errorf("%s is pinned to another certificate", pin.Host),
				Next: "if the change is expected, pin it in place of the old one"}
		}
		forget[pin.Host] = forget[pin.Host] || known
		added = append(added, pin)
	}
	if len(added) == 0 {
		return nil, unchanged, nil
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 0 && forget[strings.ToLower(fields[0])] {
			continue
		}
		out.WriteString(strings.TrimRight(line, "\r\n") + "\n")
	}
	for _, pin := range added {
		out.WriteString(pin.Host + " " + pin.Fingerprint + "\n")
	}
	if err := replaceFile(path, out.Bytes()); err != nil {
		return nil, nil, fault.Wrap(fault.Storage, act, err)
	}
	return added, unchanged, nil
}

// replaceFile writes a file whole or not at all, and durably.
func replaceFile(path string, content []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // for its owner alone
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
