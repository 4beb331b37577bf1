package hotfix

import (
	"context"
	"fmt"
	"strings"

	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// observePostCheck compares the device with the snapshot before the change and ends
// the work on it. A device whose installation failed is compared too: it was in
// maintenance mode and has been rebooted.
func (c *change) observePostCheck(ctx context.Context, env operation.Env) (operation.Observation, error) {
	if c.nothing != "" {
		return done("%s", c.nothing)
	}
	l := c.look(env)
	before, err := openSnapshot(ctx, env, c.before.Snapshot)
	if err != nil {
		return failed(err)
	}
	var after Snapshot
	err = c.reconnecting(ctx, env, func() (err error) {
		after, err = l.snapshot(ctx, c.how.Snapshot)
		return err
	})
	if err != nil {
		return failed(err)
	}
	row := applyRow{Device: c.dev.Name, Action: Apply, Result: "installed", Names: c.spec.Names, SHA256: c.spec.File, Size: c.spec.Size,
		VersionBefore: text(c.before.Version), ListedBefore: text(c.before.Listed), Before: c.before.Snapshot, Differences: []Difference{}, Proofs: []Proof{}}
	if row.After, err = after.keep(ctx, env, c.dev, c.dev.Name+"_after.json"); err != nil {
		return failed(err)
	}
	row.Differences = before.compare(after, c.how.Snapshot, c.expected(before, after))
	if row.Diff, err = env.Keep(ctx, c.dev, c.dev.Name+"_hotfix.diff", "text/x-diff; charset=utf-8", strings.NewReader(diffText(before, after, row.Differences))); err != nil {
		return failed(err)
	}
	row.Detail = "as before, but for what was asked for"
	if m := matters(row.Differences); m != "" {
		row.Result, row.Detail = "attention", "not as before: "+m
	}
	if err := c.fill(ctx, env, l, &row); err != nil {
		return failed(err)
	}
	c.warnAccepted(env, row.Proofs)
	why, err := c.failure(env)
	if err != nil {
		return failed(err)
	}
	matter := matters(row.Differences)
	if why == "" && matter == "" {
		env.Row(c.dev, row)
	} else {
		if why != "" {
			row.Result, row.Detail = "failed", why
		}
		if err := keepRecord(ctx, env, c.dev, row); err != nil {
			return failed(err)
		}
	}
	switch {
	case why != "" && matter != "":
		return inconclusive("%s; it was brought out of maintenance mode and is not as before: %s (artifact %.12s has the whole difference)", why, matter, row.Diff)
	case why != "":
		return failed(&fault.Error{Kind: fault.Refused, Act: why, Device: c.dev.Name, Stage: stepInstall,
			Next: "it was brought out of maintenance mode by a reload and is back as it was before; see why, then retry the job"})
	case matter != "":
		return inconclusive("the hotfix is installed, and the device is not as before: %s (artifact %.12s has the whole difference)", matter, row.Diff)
	}
	return done("as before, but for what was asked for: %d commands compared", len(before.Items))
}

// fill adds what is remembered and what the device shows now.
func (c *change) fill(ctx context.Context, env operation.Env, l look, row *applyRow) error {
	version, err := c.version(ctx, l)
	if err != nil {
		return err
	}
	row.VersionAfter = text(version)
	var f findings
	if _, err := c.installed(ctx, l, &f); err != nil {
		return err
	}
	row.ListedAfter = text(f.listed.Entry)
	if _, err := env.Recall(keyBack, &row.Proofs); err != nil {
		return err
	}
	var o outageRecord
	if ok, err := env.Recall(keyOutage, &o); err != nil {
		return err
	} else if ok {
		row.OutageFrom, row.OutageTo = &o.From, o.To
		if o.To != nil {
			s := o.To.Sub(o.From).Seconds()
			row.OutageSeconds = &s
		}
	}
	return nil
}

// warnAccepted says which proofs passed without having been seen.
func (c *change) warnAccepted(env operation.Env, proofs []Proof) {
	for _, p := range proofs {
		if p.Accepted {
			env.Warn(c.dev, "%s was not observable and passed because --accept-unobserved said so: %s", p.Name, p.Detail)
		}
	}
}

// expected reports the lines that the hotfix itself changes: its own, of any
// version, in the list of what is installed.
func (c *change) expected(before, after Snapshot) func(item, line string) bool {
	lists := map[string]bool{}
	for _, s := range []Snapshot{before, after} {
		for _, item := range s.Items {
			for _, r := range c.def.Proofs.Installed {
				if r.Line == item.Line {
					lists[item.Name] = true
				}
			}
		}
	}
	return func(item, line string) bool {
		if !lists[item] {
			return false
		}
		for _, r := range c.def.Proofs.Installed {
			list, bad := readList(r, line)
			if bad != "" || len(list) == 0 {
				return strings.TrimSpace(line) != "" && bad == "" // a line without an entry, such as (none)
			}
			if c.spec.Names.related(c.how, list[0]) {
				return true
			}
		}
		return false
	}
}

// matters names the differences that a person has to look at.
func matters(diffs []Difference) string {
	var words []string
	for _, d := range diffs {
		if !d.Matters {
			continue
		}
		example := ""
		switch {
		case len(d.Gone) > 0:
			example = "gone " + quote(strings.TrimSpace(d.Gone[0]))
		case len(d.New) > 0:
			example = "new " + quote(strings.TrimSpace(d.New[0]))
		}
		if n := len(d.Gone) + len(d.New); n > 1 {
			example += fmt.Sprintf(" and %d more", n-1)
		}
		words = append(words, fmt.Sprintf("%s (%s)", d.Item, example))
	}
	return strings.Join(words, ", ")
}
