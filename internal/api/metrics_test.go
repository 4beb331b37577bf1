package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"capfleet/internal/api"
)

func TestMetricsRoute(t *testing.T) {
	t.Parallel()
	figures := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
	with, _ := serve(t, &fake{}, func(o *api.Options) { o.Metrics = figures })
	without, _ := serve(t, &fake{})
	for name, tc := range map[string]struct {
		socket, method string
		status         int
		says           string
	}{
		"there":        {with, http.MethodGet, http.StatusOK, "up 1"},
		"wrong method": {with, http.MethodPost, http.StatusMethodNotAllowed, "not possible"},
		"none":         {without, http.MethodGet, http.StatusNotFound, "no such route"},
	} {
		resp := raw(t, tc.socket, tc.method, "/metrics", "")
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != tc.status || !strings.Contains(string(body), tc.says) {
			t.Errorf("%s: %s %q %v", name, resp.Status, body, err)
		}
	}
}
