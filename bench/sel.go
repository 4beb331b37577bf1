package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/bmc/bmctest"
)

// The event logs of the comparison: a few of them are OpenIPMI's simulator, the
// others a responder of this program, in a process of its own.
const (
	selBMCs    = 100
	selSims    = 4
	selRecords = 500
	selAtOnce  = 32 // ipmitools

	selSuite    = "17" // of the responder
	selSimSuite = "3"  // ipmi_sim knows no other
)

// selLog is a log of selRecords records.
func selLog() [][]byte {
	log := make([][]byte, selRecords)
	for i := range log {
		raw := binary.LittleEndian.AppendUint16(nil, uint16(i+1)) //nolint:gosec // 500
		raw = append(raw, 2)
		raw = binary.LittleEndian.AppendUint32(raw, 1_700_000_000+60*uint32(i)) //nolint:gosec // 500
		log[i] = append(raw, 0x20, 0, 4, 0x05, 0x51, 0x6f, 0xf0, 0xff, 0xff)
	}
	return log
}

// serveBMCs runs BMCs until standard input ends, and prints their ports first.
func serveBMCs(ctx context.Context, n int) error {
	log := selLog()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ports := make([]int, 0, n)
	for range n {
		port, err := serveBMC(ctx, log)
		if err != nil {
			return err
		}
		ports = append(ports, port)
	}
	if err := json.NewEncoder(os.Stdout).Encode(ports); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// bmcs are running BMCs and a fleetd that knows them.
type bmcs struct {
	dir    string
	suites map[int]string // by port
	stop   []func() error // in reverse
}

func (b *bmcs) close() error {
	var errs []error
	for i := len(b.stop) - 1; i >= 0; i-- {
		errs = append(errs, b.stop[i]())
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

func startBMCs(ctx context.Context) (b *bmcs, err error) {
	b = &bmcs{suites: map[int]string{}}
	if b.dir, err = os.MkdirTemp("", "sel-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	responder := exec.CommandContext(ctx, self, "-serve-bmcs", strconv.Itoa(selBMCs-selSims))
	responder.Stderr = os.Stderr
	stdin, err := responder.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := responder.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := responder.Start(); err != nil {
		return nil, err
	}
	b.stop = append(b.stop, func() error { return errors.Join(stdin.Close(), responder.Wait()) })
	var ports []int
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &ports)
	}
	if err != nil {
		return nil, err
	}
	for _, port := range ports {
		b.suites[port] = selSuite
	}
	for i := range selSims {
		port, err := freeUDP(ctx)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(b.dir, fmt.Sprintf("sim%d", i))
		ended, end := context.WithCancel(ctx)
		cmd, err := bmctest.SimCommand(ended, dir, port, selLog())
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			end()
			return nil, fmt.Errorf("ipmi_sim (package openipmi): %w", err)
		}
		b.stop = append(b.stop, func() error {
			end()
			_ = cmd.Wait() // it was told to
			return nil
		})
		b.suites[port] = selSimSuite
	}
	return b, b.writeInventory()
}

func freeUDP(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("%T is no UDP address", conn.LocalAddr())
	}
	return addr.Port, nil
}

func (b *bmcs) writeInventory() error {
	var inv strings.Builder
	fmt.Fprintf(&inv, "version: 1\ncredentials:\n  default: {username: %[1]s, password: {file: bmc}}\ngroups:\n  probes: {platform: endace_osm, bmc: {protocol: ipmi_lan, credentials: default}}\ndevices:\n", bmctest.Username)
	for port := range b.suites {
		fmt.Fprintf(&inv, "  - {name: probe-%[1]d, address: \"127.0.0.1:9\", groups: [probes], bmc: {address: \"127.0.0.1:%[1]d\"}}\n", port)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(b.dir, "inventory.yaml"), []byte(inv.String()), 0o600),
		os.WriteFile(filepath.Join(b.dir, "bmc"), []byte(bmctest.Password+"\n"), 0o600))
}

// benchSEL reads the event logs of 100 BMCs with fleetctl, and with the loop over
// ipmitool that it takes the place of.
func benchSEL(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	b, err := startBMCs(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	socket, stop, err := startDaemon(ctx, o, &fleet{dir: b.dir})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	// No check has been made yet, so that a list reads every record; afterwards a
	// check goes on from what the last one saw.
	// With --new it is what a schedule does, which the alarm comes from.
	of := fmt.Sprintf("%d x %d records of BMCs", selBMCs, selRecords)
	for _, c := range []struct {
		name, command string
		rows          int
	}{
		{fmt.Sprintf("all %s against xargs -P%d ipmitool", of, selAtOnce), "list", selBMCs * selRecords},
		{of + ", checked again, against the same", "check", selBMCs * selRecords},
		{of + ", checked by a schedule, against the same", "check --new", 0},
	} {
		r, err := paired(ctx, log, c.name, min(o.rounds, 5), 0.1, func(ctx context.Context) (time.Duration, error) {
			return b.ours(ctx, o, socket, c.command, c.rows)
		}, b.ipmitools)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (b *bmcs) ours(ctx context.Context, o options, socket, command string, rows int) (time.Duration, error) {
	begin := time.Now()
	args := append([]string{"-q", "sel"}, strings.Fields(command)...)
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "fleetctl"), append(args, "--all", "-o", "jsonl")...)
	cmd.Env = append(os.Environ(), "FLEET_SERVER="+socket)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, tail(stderr.String()))
	}
	took := time.Since(begin)
	return took, complete("fleetctl", bytes.Count(stdout.Bytes(), []byte("\n")), rows)
}

func (b *bmcs) ipmitools(ctx context.Context) (time.Duration, error) {
	var list strings.Builder
	for port, suite := range b.suites {
		fmt.Fprintf(&list, "%d %s\n", port, suite)
	}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, "xargs", "-P", strconv.Itoa(selAtOnce), "-L1", "sh", "-c",
		`ipmitool -I lanplus -H 127.0.0.1 -p "$1" -U `+bmctest.Username+` -E -C "$2" -L USER sel list > "$0/out.$1"`, b.dir)
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+bmctest.Password)
	cmd.Stdin = strings.NewReader(list.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, tail(string(out)))
	}
	took := time.Since(begin)
	lines := 0
	for port := range b.suites {
		text, err := os.ReadFile(filepath.Join(b.dir, fmt.Sprintf("out.%d", port)))
		if err != nil {
			return 0, err
		}
		lines += bytes.Count(text, []byte("|")) / 5
	}
	return took, complete("ipmitool", lines, selBMCs*selRecords)
}

// complete says whether all records that were due came: a side that leaves some out
// is no measure.
func complete(who string, records, due int) error {
	if records != due {
		return fmt.Errorf("%s gave %d of %d records", who, records, due)
	}
	return nil
}
