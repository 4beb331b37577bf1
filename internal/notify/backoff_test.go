package notify

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"capfleet/internal/config"
	"capfleet/internal/fault"
)

// closedReceiver refuses everything until it opens, and remembers when it was tried.
type closedReceiver struct {
	mu    sync.Mutex
	tries []time.Time
	open  bool
	took  []string
}

func (c *closedReceiver) send(_ context.Context, batch []outgoing) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries = append(c.tries, time.Now())
	if !c.open {
		return 0, fault.Wrap(fault.Unreachable, "send", errors.New("closed"))
	}
	for _, o := range batch {
		c.took = append(c.took, o.id())
	}
	return len(batch), nil
}

func (c *closedReceiver) target() string { return "closed" }
func (c *closedReceiver) close()         {}

// TestBackOff: a receiver that is down is left alone for longer and longer, however much
// there is to tell meanwhile; a test that reaches it brings everything at once.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, []config.Receiver{{Name: "ops", Directory: &config.Directory{}}}, config.Rule{On: []string{"pci_error"}, To: []string{"ops"}})
		defer func() { _ = b.db.Close() }()
		c := &closedReceiver{}
		b.receivers["ops"].sender = c
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Run(ctx) }()

		const hour = 3600
		for i := range hour { // a message a second
			if i%60 == 0 {
				b.tell(alarm(i / 60))
			}
			b.Wake()
			time.Sleep(time.Second)
			synctest.Wait()
		}
		c.mu.Lock()
		if n := len(c.tries); n < 15 || n > 30 {
			t.Errorf("tried %d times in an hour", n)
		}
		for i := 1; i < len(c.tries); i++ {
			if pause := c.tries[i].Sub(c.tries[i-1]); pause > pauseMost || pause < min(time.Second<<(i-1), pauseMost)*3/4 {
				t.Errorf("%v between attempts %d and %d", pause, i, i+1)
			}
		}
		c.open = true
		c.mu.Unlock()

		if _, err := b.SendTest(ctx, "ops", "alice"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		c.mu.Lock()
		if len(c.took) != 61 || !slices.Contains(c.took, "pci/59") {
			t.Errorf("%v", c.took)
		}
		c.mu.Unlock()
		stop()
		<-ended
	})
}
