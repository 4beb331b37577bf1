package capture

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
)

//go:embed follow.sh
var followText string

// followScript is follow.sh without its comments.
func followScript() string {
	var b strings.Builder
	for line := range strings.Lines(followText) {
		if !strings.HasPrefix(strings.TrimLeft(line, "\t"), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// logPlace is how far a log was read. It is kept, so that nothing is missed while
// there is no connection.
type logPlace struct {
	Inode  string `json:"inode"`
	Offset int64  `json:"offset"` // behind the last whole line
}

// maxLogLine bounds what is kept of one line of a log.
const maxLogLine = 64 << 10

// repeated is what syslog daemons write in place of lines that are like the one
// before: "last message repeated 3 times". (What rsyslog writes, "message repeated
// 3 times: [text]", holds the text.)
var repeated = regexp.MustCompile(`\blast message repeated \d+ times?\b`)

// logMatcher looks for a line in what follow.sh prints. It is a Writer for one
// run of it; safe for concurrent use.
type logMatcher struct {
	expr  *regexp.Regexp
	token string

	mu      sync.Mutex
	line    []byte
	cut     bool // the line is longer than is kept
	place   logPlace
	at      int64 // offset behind the last byte seen
	fresh   int64 // from which offset on lines count
	files   int   // that were begun
	matched bool  // whether the last line, be it old, matched
	found   chan string
	told    bool
}

func newLogMatcher(expr *regexp.Regexp) *logMatcher {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	return &logMatcher{expr: expr, token: "capfleet-" + hex.EncodeToString(b[:]), found: make(chan string, 1)}
}

// Write implements io.Writer.
func (m *logMatcher) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		part := rest
		if i >= 0 {
			part = rest[:i]
		}
		if room := maxLogLine - len(m.line); len(part) > room {
			m.line, m.cut = append(m.line, part[:room]...), true
		} else {
			m.line = append(m.line, part...)
		}
		m.at += int64(len(part))
		if i < 0 {
			break
		}
		m.at++
		m.take(string(bytes.TrimSuffix(m.line, []byte("\r"))))
		m.line, m.cut = m.line[:0], false
		rest = rest[i+1:]
	}
	return len(p), nil
}

// take is called with each whole line.
func (m *logMatcher) take(line string) {
	if f := strings.Fields(line); len(f) == 4 && f[0] == "@"+m.token {
		at, err1 := strconv.ParseInt(f[2], 10, 64)
		fresh, err2 := strconv.ParseInt(f[3], 10, 64)
		if err1 == nil && err2 == nil {
			m.files++
			m.place = logPlace{Inode: f[1], Offset: at}
			m.at, m.fresh = at, fresh
			return
		}
	}
	if m.files == 0 {
		return
	}
	switch {
	case repeated.MatchString(line):
		// It matches when the line that it stands for did.
	default:
		m.matched = m.expr.MatchString(line)
	}
	m.place.Offset = m.at
	if m.matched && m.at > m.fresh && !m.told {
		m.told = true
		m.found <- line
	}
}

// where is how far whole lines were read; ok is false before the log was open.
func (m *logMatcher) where() (logPlace, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.place, m.files > 0
}

// followLog follows a log until a line matches, and gives that line. It ends with
// an error when the connection does; from is where the one before it ended, and
// the place reached is given. The daemon that writes the log is never touched.
func followLog(ctx context.Context, conn device.Conn, id, file string, sudo bool, expr *regexp.Regexp, from logPlace, limit time.Duration, opened func(), reached func(logPlace)) (line string, at logPlace, err error) {
	m := newLogMatcher(expr)
	k := Keep{ID: id, Limit: limit, Sudo: sudo, Args: []string{"sh", "-c", followScript(), "follow", file, m.token, from.Inode, strconv.FormatInt(from.Offset, 10)}}
	stop := make(chan struct{})
	type ended struct {
		Ended
		err error
	}
	done := make(chan ended, 1)
	go func() {
		e, err := k.Live(ctx, conn, &openNotice{w: m, first: opened, reached: reached}, stop)
		done <- ended{e, err}
	}()
	var e ended
	select {
	case line = <-m.found:
		close(stop)
		e = <-done
	case e = <-done:
		select {
		case line = <-m.found:
		default:
		}
	}
	at, ok := m.where()
	if !ok {
		at = from
	}
	switch {
	case line != "":
		return line, at, nil
	case e.err != nil:
		return "", at, e.err
	case ctx.Err() != nil:
		return "", at, context.Cause(ctx)
	case !ok && e.Status != 0 && e.Why == "":
		return "", at, &fault.Error{Kind: fault.Refused, Act: "follow " + file, Stage: "log",
			Err: fmt.Errorf("it cannot be read: %s", clip(e.Said)), Next: "name another file with --log"}
	}
	return "", at, &fault.Error{Kind: fault.Disconnected, Act: "follow " + file, Stage: "log", Err: fmt.Errorf("the reader of the log ended (%d %s)", e.Status, e.Why)}
}

// openNotice tells once the log is open, and how far it was read.
type openNotice struct {
	w       *logMatcher
	once    sync.Once
	first   func()
	reached func(logPlace)
}

func (o *openNotice) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if at, ok := o.w.where(); ok {
		o.once.Do(o.first)
		o.reached(at)
	}
	return n, err
}
