package transfer

import (
	"context"
	"fmt"
	"math"
	"path"
	"regexp"
	"strconv"
	"strings"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

// Space tells what is available in a directory of a device: by SFTP where the
// server says it, else by the platform's df. Known is false where neither does;
// that is no error.
func Space(ctx context.Context, conn device.Conn, files device.Files, def device.FilesDefinition, dir string) (space device.Space, known bool, err error) {
	space, err = files.StatVFS(dir)
	if err == nil {
		return space, true, nil
	}
	if !fault.Is(err, fault.Unsupported) && !fault.Is(err, fault.Refused) {
		return device.Space{}, false, err
	}
	if len(def.DF) == 0 {
		return device.Space{}, false, nil
	}
	if strings.HasPrefix(dir, "-") {
		dir = "./" + dir // no option of df
	}
	const most = 64 << 10
	res, err := conn.Exec(ctx, device.ExecRequest{Args: append(append([]string{}, def.DF...), dir), MaxBytes: most})
	switch {
	case fault.Is(err, fault.Refused), fault.Is(err, fault.TooLarge):
		return device.Space{}, false, nil
	case err != nil:
		return device.Space{}, false, err
	case res.Status != 0:
		return device.Space{}, false, nil
	}
	space, known = parseDF(string(res.Stdout))
	return space, known, nil
}

// dfLine finds the figures of POSIX df -P: total, used, available and the share
// that is used. Names may hold spaces, so they are looked for in the middle.
var dfLine = regexp.MustCompile(`\s(\d+)\s+(-?\d+)\s+(-?\d+)\s+(?:\d+%|-)\s+/`)

// parseDF reads the answer of df -P -k for one directory.
func parseDF(out string) (device.Space, bool) {
	const unit = 1024
	lines := strings.Split(strings.TrimSpace(out), "\n")
	m := dfLine.FindStringSubmatch(" " + lines[len(lines)-1])
	if m == nil {
		return device.Space{}, false
	}
	total, err1 := strconv.ParseInt(m[1], 10, 64)
	available, err2 := strconv.ParseInt(m[3], 10, 64)
	if err1 != nil || err2 != nil || total > math.MaxInt64/unit || available > math.MaxInt64/unit {
		return device.Space{}, false
	}
	return device.Space{Total: total * unit, Available: max(available, 0) * unit}, true
}

// room refuses what does not fit. Known is whether the device tells.
func (s *sender) room(ctx context.Context, conn device.Conn, files device.Files, missing int64) (known bool, err error) {
	dir := path.Dir(s.Path)
	space, known, err := Space(ctx, conn, files, s.Tools, dir)
	if err != nil || !known || space.Available >= missing {
		return known, err
	}
	return known, noRoom(dir, missing, space.Available)
}

func noRoom(dir string, missing, available int64) error {
	return &fault.Error{Kind: fault.Conflict, Act: "find room for the file", Stage: "space",
		Err:  fmt.Errorf("%d bytes are missing and %d bytes are free in %s", missing, available, dir),
		Next: "free space there, then retry"}
}
