package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/api"
	"capfleet/internal/fault"
)

func (f *fake) Receivers(context.Context) ([]api.Receiver, error) { return nil, f.note("receivers") }

func (f *fake) TestReceiver(_ context.Context, name, _ string) (api.Notification, error) {
	return api.Notification{ID: "1", Receiver: name}, f.note("test", name)
}

func (f *fake) History(_ context.Context, device string, since time.Time) ([]api.HistorySeries, error) {
	return nil, f.note("history", device, int(time.Since(since).Hours()/24+0.5))
}

func TestReceiversAndHistory(t *testing.T) {
	t.Parallel()
	f := &fake{}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	if l, err := c.Receivers(t.Context()); err != nil || l == nil {
		t.Errorf("%v %v", l, err)
	}
	if n, err := c.TestReceiver(t.Context(), "ops"); err != nil || n.Receiver != "ops" {
		t.Errorf("%v %v", n, err)
	}
	if l, err := c.History(t.Context(), "lon-probe-01", 30); err != nil || l == nil {
		t.Errorf("%v %v", l, err)
	}
	if _, err := c.History(t.Context(), "lon-probe-01", 100000); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]any{"receivers", "test", "ops", "history", "lon-probe-01", 30}, f.take()); diff != "" {
		t.Error(diff)
	}
}
