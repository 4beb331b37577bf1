package bmc

import "time"

// Options tune readers. The zero Options are the defaults.
type Options struct {
	// Timeout is how long one answer may take: 2 s over UDP, before the request
	// is sent again, and 30 s over HTTP. A BMC's web server is slow.
	LANTimeout, WebTimeout time.Duration
	// Attempts is how often a datagram is sent before the BMC is given up: 5.
	Attempts int
	// Parting is how long the end of a web session may take once the context is over:
	// 80 ms, so that a reader stops in time. It is logged out all the same where that
	// is enough.
	Parting time.Duration
}

func (o Options) withDefaults() Options {
	if o.LANTimeout <= 0 {
		o.LANTimeout = 2 * time.Second
	}
	if o.WebTimeout <= 0 {
		o.WebTimeout = 30 * time.Second
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Parting <= 0 {
		o.Parting = 80 * time.Millisecond
	}
	return o
}
