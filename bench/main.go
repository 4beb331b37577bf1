// Command bench holds the program against its peers. Each figure is a ratio of
// ours to a peer's, both measured in turn in one run, and what counts is the
// median of the ratios: these machines are noisy, and a time on its own means
// nothing. docs/benchmarks.md has a run's table and how to repeat it.
//
// The simulated fleet runs in a process of its own (this program again, with
// -serve), so that its work weighs on both sides alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type options struct {
	rounds  int
	only    string
	devices int
	workers int
	bin     string
	serve   string
	bmcs    int
	turn    time.Duration
}

// result is one line of the table.
type result struct {
	name   string
	ours   string // median of our side, for orientation
	peer   string // median of the peer's side
	ratio  float64
	spread string
	goal   string
	ok     bool
}

// bench is one comparison.
type bench struct {
	name string
	what string
	run  func(ctx context.Context, o options, log io.Writer) ([]result, error)
	// apart is one that runs only when it is named: it takes long.
	apart bool
}

func benches() []bench {
	return []bench{
		{name: "cli", what: "command line path against a bare shell loop", run: benchCLI},
		{name: "waiting", what: "500 sessions waiting for slow output", run: benchWaiting},
		{name: "report", what: "the whole fleetctl report against a shell loop and xargs ssh", run: benchReport},
		{name: "netmiko", what: "the whole fleetctl report against netmiko", run: benchNetmiko},
		{name: "parse", what: "TextFSM against Python TextFSM", run: benchParse},
		{name: "pcap", what: "captures against cat, rg, capinfos and tshark", run: benchCaptures},
		{name: "path", what: "packets followed through five captures", run: benchPath},
		{name: "upload", what: "a file to OpenSSH's sshd against its own sftp", run: benchUpload},
		{name: "live", what: "a live capture of 1 GB against ssh and cat", run: benchLive},
		{name: "rollout", what: "a hotfix over 20 probes against one of them alone", run: benchRollout},
		{name: "sel", what: "event logs of 100 BMCs against a loop over ipmitool", run: benchSEL},
		{name: "large", what: "fleetd with 20,000 devices and a million finished tasks", run: benchLarge, apart: true},
		{name: "uploads", what: "the memory of 200 uploads at once", run: benchMemory},
		{name: "rings", what: "rings on 50 devices, begun together and stopped by one trigger", run: benchRings},
	}
}

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.rounds, "rounds", 7, "paired rounds of each comparison")
	fs.StringVar(&o.only, "only", "", "comma-separated names of the comparisons to run")
	fs.IntVar(&o.devices, "devices", 200, "simulated devices")
	fs.IntVar(&o.workers, "workers", 64, "devices at once")
	fs.StringVar(&o.bin, "bin", "bin", "directory with fleetd and fleetctl")
	fs.StringVar(&o.serve, "serve", "", "run a simulated fleet in this directory until standard input ends (used by the program itself)")
	fs.IntVar(&o.bmcs, "serve-bmcs", 0, "run this many BMCs until standard input ends (used by the program itself)")
	fs.DurationVar(&o.turn, "turn", 0, "time that a simulated device takes for a turn, with -serve")
	if err := fs.Parse(args); err != nil {
		return 4
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if o.bmcs > 0 {
		if err := serveBMCs(ctx, o.bmcs); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
		return 0
	}
	if o.serve != "" {
		if err := serve(ctx, o); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
		return 0
	}
	var results []result
	failed := false
	for _, b := range benches() {
		if o.only == "" && b.apart || o.only != "" && !slices.Contains(strings.Split(o.only, ","), b.name) {
			continue
		}
		fmt.Fprintf(stderr, "== %s: %s\n", b.name, b.what)
		rs, err := b.run(ctx, o, stderr)
		if err != nil {
			if ctx.Err() != nil {
				return 1
			}
			fmt.Fprintf(stderr, "bench %s: %v\n", b.name, err)
			failed = true // the others are worth as much
		}
		results = append(results, rs...)
	}
	if len(results) == 0 && !failed {
		fmt.Fprintf(stderr, "bench: -only %q names none of the comparisons\n", o.only)
		return 4
	}
	table(stdout, results)
	if failed {
		return 1
	}
	return 0
}

func table(w io.Writer, results []result) {
	fmt.Fprintf(w, "%s, %s/%s, %d cores, %s\n\n", time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), runtime.Version())
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(tw, "| figure\t| ours\t| peer\t| median ratio\t| min to max\t| goal\t|")
	fmt.Fprintln(tw, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	for _, r := range results {
		mark := ""
		if !r.ok {
			mark = " (missed)"
		}
		fmt.Fprintf(tw, "| %s\t| %s\t| %s\t| %.3f\t| %s\t| %s%s\t|\n", r.name, r.ours, r.peer, r.ratio, r.spread, r.goal, mark)
	}
	_ = tw.Flush()
}

// paired measures ours and peer in turn, after one uncounted round of each, and
// compares the medians of their ratios with a goal.
func paired(ctx context.Context, log io.Writer, name string, rounds int, goal float64, ours, peer func(context.Context) (time.Duration, error)) (result, error) {
	var both [][2]float64
	for i := -1; i < rounds; i++ {
		x, err := ours(ctx)
		if err != nil {
			return result{}, fmt.Errorf("%s, ours: %w", name, err)
		}
		y, err := peer(ctx)
		if err != nil {
			return result{}, fmt.Errorf("%s, peer: %w", name, err)
		}
		if y <= 0 {
			return result{}, errors.New("the peer took no time")
		}
		fmt.Fprintf(log, "   %s: ours %v, peer %v\n", name, x.Round(time.Millisecond), y.Round(time.Millisecond))
		if i >= 0 {
			both = append(both, [2]float64{x.Seconds(), y.Seconds()})
		}
	}
	return compare(name, both, goal), nil
}

// compare gives the line for seconds of ours and the peer's, measured in turn.
func compare(name string, both [][2]float64, goal float64) result {
	var a, b, ratios []float64
	for _, s := range both {
		a, b, ratios = append(a, s[0]), append(b, s[1]), append(ratios, s[0]/s[1])
	}
	m := median(ratios)
	return result{
		name: name, ours: fmt.Sprintf("%.3f s", median(a)), peer: fmt.Sprintf("%.3f s", median(b)),
		ratio: m, spread: fmt.Sprintf("%.3f to %.3f", slices.Min(ratios), slices.Max(ratios)),
		goal: fmt.Sprintf("at most %.3g", goal), ok: m <= goal,
	}
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
