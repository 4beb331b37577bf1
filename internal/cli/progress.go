package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
)

// progress shows a job while it is waited for. Close may be called twice and
// leaves nothing behind on the terminal.
type progress interface {
	Event(ev api.Event)
	Close()
}

// newProgress gives what suits the error stream: a line that keeps changing on a
// terminal, a line for each event elsewhere, nothing with --quiet. A command that
// tells its own story has the live line only.
func (a *app) newProgress(job api.Job) progress {
	switch {
	case a.global.quiet:
		return noProgress{}
	case a.live():
		return startLiveJob(a.streams.Err, job, a.width, a.streams.Now)
	case a.terse:
		return noProgress{}
	default:
		return eventLines{a}
	}
}

// live reports whether a line that keeps changing can be shown.
func (a *app) live() bool {
	return a.streams.ErrTerminal && a.streams.Getenv("TERM") != "dumb" && !a.global.quiet
}

type noProgress struct{}

func (noProgress) Event(api.Event) {}
func (noProgress) Close()          {}

// eventLines writes a line for each event that the ledger keeps.
type eventLines struct{ app *app }

func (e eventLines) Event(ev api.Event) {
	if line := eventLine(ev); line != "" {
		e.app.say("%s", line)
	}
}

func (eventLines) Close() {}

// eventLine is an event as one line of a log, "" for one that is not worth a
// line (progress inside a step comes many times a second).
func eventLine(ev api.Event) string {
	var what string
	switch ev.Type {
	case "progress":
		return ""
	case "job_created":
		what = "created"
	case "job_finished":
		what = ev.State
	case "job_canceled":
		what = "cancel requested"
	case "job_retried":
		what = "retried"
	case "job_paused", "job_resumed", "job_approved":
		what, ev.Reason = ev.Reason, "" // it says both what and by whom
	case "task_step":
		what = "step " + ev.Step
	default:
		what = ev.State
	}
	line := ev.Time.UTC().Format(time.RFC3339) + " job " + ev.Job
	if ev.Device != "" {
		line += " " + ev.Device
	}
	line += ": " + what
	if ev.Attempt > 1 {
		line += fmt.Sprintf(", attempt %d", ev.Attempt)
	}
	if ev.Reason != "" {
		line += ": " + ev.Reason
	}
	if ev.Until != nil {
		line += ", until " + showTime(ev.Until)
	}
	return line
}

const (
	// liveAfter keeps short work from flickering.
	liveAfter    = time.Second
	liveInterval = 100 * time.Millisecond
	barWidth     = 20
	clearLine    = "\r\x1b[K"
)

// liveLine is one line at the bottom of a terminal that is drawn anew several
// times a second, at most, by a goroutine that Close joins.
type liveLine struct {
	w     io.Writer
	width func() int
	now   func() time.Time
	start time.Time
	// draw gives the line, at most width columns wide. It is called from the
	// goroutine.
	draw func(elapsed time.Duration, width int) string

	stop chan struct{}
	done chan struct{}
	once sync.Once
}

func startLiveLine(w io.Writer, width func() int, now func() time.Time, draw func(elapsed time.Duration, width int) string) *liveLine {
	l := &liveLine{w: w, width: width, now: now, start: now(), draw: draw, stop: make(chan struct{}), done: make(chan struct{})}
	go l.loop()
	return l
}

func (l *liveLine) Close() {
	l.once.Do(func() { close(l.stop) })
	<-l.done
}

func (l *liveLine) loop() {
	defer close(l.done)
	tick := time.NewTicker(liveInterval)
	defer tick.Stop()
	drawn := false
	for {
		select {
		case <-l.stop:
			if drawn {
				_, _ = io.WriteString(l.w, clearLine)
			}
			return
		case <-tick.C:
			elapsed := l.now().Sub(l.start)
			if elapsed < liveAfter {
				continue
			}
			_, _ = io.WriteString(l.w, clearLine+l.draw(elapsed, l.width()-1))
			drawn = true
		}
	}
}

// liveJob is the live line of a job.
type liveJob struct {
	*liveLine

	mu    sync.Mutex
	tally tally
}

func startLiveJob(w io.Writer, job api.Job, width func() int, now func() time.Time) *liveJob {
	j := &liveJob{tally: newTally(job)}
	j.liveLine = startLiveLine(w, width, now, func(elapsed time.Duration, width int) string {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.tally.line(elapsed, width)
	})
	return j
}

func (j *liveJob) Event(ev api.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tally.add(ev)
}

// tally counts a job's tasks from its events.
type tally struct {
	job     api.Job
	states  map[string]string // of each device
	current string            // what was heard last, of a device at work
}

func newTally(job api.Job) tally {
	return tally{job: job, states: make(map[string]string, job.Devices)}
}

func (t *tally) add(ev api.Event) {
	if ev.Device == "" {
		return
	}
	switch ev.Type {
	case "task_state":
		t.states[ev.Device] = ev.State
		if ev.State == "waiting" {
			t.current = ev.Device + " waits: " + ev.Reason
		}
	case "task_step":
		t.current = ev.Device + ": " + ev.Step
	case "progress":
		t.current = ev.Device + ": " + strings.TrimSpace(ev.Step+" "+amount(ev))
	}
}

func amount(ev api.Event) string {
	if ev.Total > 0 {
		return fmt.Sprintf("%d%%", 100*ev.Done/ev.Total)
	}
	return fmt.Sprintf("%d %s", ev.Done, ev.Unit)
}

// line gives the live line, at most width columns wide.
func (t *tally) line(elapsed time.Duration, width int) string {
	counts := map[string]int{}
	for _, state := range t.states {
		counts[state]++
	}
	good, bad := tasksDone(counts)
	filled := 0
	if t.job.Devices > 0 {
		filled = min(barWidth, barWidth*(good+bad)/t.job.Devices)
	}
	line := fmt.Sprintf("job %s [%s%s] %d/%d", t.job.ID, strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), good+bad, t.job.Devices)
	if bad > 0 {
		line += fmt.Sprintf(", %d failed", bad)
	}
	if n := counts["running"]; n > 0 {
		line += fmt.Sprintf(", %d running", n)
	}
	if n := counts["waiting"]; n > 0 {
		line += fmt.Sprintf(", %d waiting", n)
	}
	line += ", " + output.Short(elapsed)
	if t.current != "" {
		line += "  " + t.current
	}
	return runewidth.Truncate(output.Clean(line), max(width, 1), "…")
}
