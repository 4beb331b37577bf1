package daemon

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// monotonic gives the time that has to go with RELOADING=1 (Type=notify-reload).
func monotonic() []string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return nil
	}
	return []string{"MONOTONIC_USEC=" + strconv.FormatInt(t.Nano()/1000, 10)}
}
