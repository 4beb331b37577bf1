package capture

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

const (
	rotatePause = time.Second
	// overlapTime is how long old and new file are both written at a rotation, so
	// that no packet is lost; what is in both is written once when they are merged.
	overlapTime = 5 * time.Second
)

// rotate does what tcpdump's -W would: when the file of a ring has its size, the
// next one is begun first and the old one ended after. Each ring has its own, so
// that none waits for another's overlap. When fleetd is gone the last file goes on
// until the free space or the time is over.
func (w *watch) rotate(ctx context.Context, f *ringFile) {
	for rest(ctx, rotatePause) {
		if err := w.turn(ctx, f); err != nil && ctx.Err() == nil {
			w.env.Logger().Info("ring could not be turned, trying again", "device", w.dev.Name, "err", err)
		}
	}
}

// turn begins the next file of a ring when it is time.
func (w *watch) turn(ctx context.Context, f *ringFile) error {
	conn, err := w.env.Conn(ctx, w.dev)
	if err != nil {
		return err
	}
	size, err := w.size(ctx, conn, w.turnFile(f, f.Turn))
	if err != nil || size < int64(w.spec.Megabytes)*1_000_000 {
		return err
	}
	old, next := f.Turn, f.Turn+1
	if _, err := conn.Exec(ctx, device.ExecRequest{Args: w.sudo("rm", "-f", w.turnFile(f, next)), MaxBytes: maxSaid}); err != nil {
		return err
	}
	if err := w.keep(f, next).Start(ctx, conn); err != nil {
		return err
	}
	if err := w.save(ctx, func() { f.Turn = next }); err != nil {
		return err
	}
	if !rest(ctx, overlapTime) {
		return nil // the end of the rings ends both
	}
	_, err = Reap(ctx, conn, w.spec.Sudo, turnID(f, old))
	return err
}

// size is what a file on the device has; 0 when it is not there yet.
func (w *watch) size(ctx context.Context, conn device.Conn, name string) (int64, error) {
	res, err := conn.Exec(ctx, device.ExecRequest{Args: w.sudo("wc", "-c", name), MaxBytes: maxSaid})
	if err != nil || res.Status != 0 {
		return 0, err
	}
	word, _, _ := strings.Cut(strings.TrimSpace(string(res.Stdout)), " ")
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return 0, &fault.Error{Kind: fault.Refused, Act: "look at " + name, Device: w.dev.Name, Err: fmt.Errorf("wc prints %q", clip(string(res.Stdout)))}
	}
	return n, nil
}
