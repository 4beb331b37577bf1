package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"capfleet/internal/device"
	"capfleet/internal/secret"
)

const (
	// atOnce is how many secrets are read at a time; some are programs.
	atOnce = 8
	// patience bounds one secret.
	patience = 30 * time.Second
)

// secrets reads each secret once.
func (s Subject) secrets(ctx context.Context) []Finding {
	const area = "secrets"
	users := map[secret.Ref][]string{}
	agents := []string{}
	need := func(name string, c *device.Credentials) {
		for _, ref := range []secret.Ref{c.Password, c.PrivateKey, c.Passphrase, c.Enable, c.Certificate} {
			if !ref.IsZero() && !slices.Contains(users[ref], name) {
				users[ref] = append(users[ref], name)
			}
		}
		if c.Agent && !slices.Contains(agents, name) {
			agents = append(agents, name)
		}
	}
	for _, dev := range s.Devices {
		need(dev.Name, &dev.Credentials)
		for i := range dev.Jump {
			need(dev.Jump[i].Name, &dev.Jump[i].Credentials)
		}
		if dev.BMC != nil {
			need("BMC of "+dev.Name, &dev.BMC.Credentials)
		}
	}
	var (
		mu    sync.Mutex
		found []Finding
		group errgroup.Group
	)
	group.SetLimit(atOnce)
	for ref := range maps.Keys(users) {
		group.Go(func() error {
			one, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			err := s.Resolve(one, ref)
			if err == nil || ctx.Err() != nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			found = append(found, Finding{area, ref.String(), Error, fmt.Sprintf("%v; needed by %s", err, some(users[ref])), "put the secret there, or correct the inventory"})
			return nil
		})
	}
	_ = group.Wait() // findings, no errors
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Subject+a.Message, b.Subject+b.Message) })
	if len(agents) > 0 && s.Getenv("SSH_AUTH_SOCK") == "" {
		found = append(found, Finding{area, "SSH agent", Error, "SSH_AUTH_SOCK is not set for fleetd; needed by " + some(agents), "start fleetd where an agent is, or give a private_key"})
	}
	if len(found) == 0 {
		found = append(found, Finding{area, "credentials", OK, count(len(users), "secret") + " can be read", ""})
	}
	return found
}
