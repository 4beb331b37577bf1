package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"capfleet/internal/config"
	"capfleet/internal/device"
	"capfleet/internal/device/inventory"
	"capfleet/internal/fault"
	"capfleet/internal/notify"
	"capfleet/internal/operation"
	"capfleet/internal/parse"
	"capfleet/internal/report"
)

// Checked says what Check has read.
type Checked struct {
	Devices   int
	Platforms int
	Templates int
	Warnings  []string // what would run, and may not do what its author expects
}

// Check reads everything that a start with these options reads, and the
// templates and report layouts that a start leaves to the first job that needs
// them. It opens no state, binds no socket, reads no secret and calls no device,
// so it can be run beside a working fleetd. The error has all that is wrong, each
// as fault.Invalid or fault.NotFound with file and place.
func Check(ctx context.Context, opts Options) (Checked, error) {
	var out Checked
	if err := opts.validate(); err != nil {
		return out, err
	}
	var errs []error
	drivers, err := platforms(opts.Overrides)
	if err != nil {
		errs = append(errs, err)
	}
	// With a bad definition the other platforms are not known; nil accepts any.
	var names []string
	for _, d := range drivers {
		names = append(names, d.Platform())
	}
	out.Platforms = len(names)

	inv, err := inventory.Load(opts.Inventory, inventory.Options{Platforms: names})
	if err != nil {
		errs = append(errs, err)
	} else {
		out.Devices = len(inv.Devices())
		out.Warnings = append(out.Warnings, inv.Warnings()...)
	}

	if _, err := notify.New(notify.Options{Config: opts.Notifications}); err != nil {
		errs = append(errs, err)
	}
	out.Warnings = append(out.Warnings, tokenWarnings(opts.Notifications)...)

	lib := parse.NewLibrary(opts.Overrides)
	templates, err := lib.Names()
	if err != nil {
		errs = append(errs, err)
	}
	out.Templates = len(templates)
	broken := false
	for _, name := range templates {
		if ctx.Err() != nil {
			return out, fault.Wrap(fault.Canceled, "check", ctx.Err())
		}
		warnings, err := checkTemplate(lib, name)
		if err != nil {
			broken = true
			errs = append(errs, err)
		}
		out.Warnings = append(out.Warnings, warnings...)
	}
	if !broken { // a layout cannot be read without its templates, which were told
		errs = append(errs, checkLayouts(ctx, report.New(lib), names)...)
	}
	return out, errors.Join(errs...)
}

// tokenWarnings tells of tokens of webhooks that cannot be read, or by too many.
func tokenWarnings(n *config.Notifications) (warnings []string) {
	if n == nil {
		return nil
	}
	for _, r := range n.Receivers {
		if r.Webhook == nil || r.Webhook.Token.IsZero() {
			continue
		}
		for _, w := range r.Webhook.Token.Warnings() {
			warnings = append(warnings, "notify receiver "+r.Name+": "+w)
		}
		if strings.HasPrefix(r.Webhook.URL, "http:") {
			warnings = append(warnings, "notify receiver "+r.Name+": its token goes over http, which anybody on the way can read")
		}
	}
	return warnings
}

// checkTemplate compiles a template, and lints it when it is the operator's own.
func checkTemplate(lib *parse.Library, name string) (warnings []string, err error) {
	file := name + parse.Extension
	if !lib.Overridden(file) {
		_, err := lib.Template(name)
		return nil, err
	}
	path := lib.OverridePath(file)
	src, err := lib.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var wrong []error
	for _, f := range parse.Lint(path, src) {
		if f.Severity == parse.Error {
			wrong = append(wrong, errors.New(f.String()))
			continue
		}
		warnings = append(warnings, f.String())
	}
	if len(wrong) > 0 {
		return warnings, &fault.Error{Kind: fault.Invalid, Act: "check templates", Err: errors.Join(wrong...)}
	}
	return warnings, nil
}

// checkLayouts has the report operation read each platform's layout, as it does
// when a job is made. Which report is asked for does not matter: a layout is read
// as a whole.
func checkLayouts(ctx context.Context, reports operation.Operation, platforms []string) []error {
	var errs []error
	for _, platform := range platforms {
		_, err := reports.Prepare(ctx, json.RawMessage(`{"report":"software"}`), []*device.Device{{Name: platform, Platform: platform}})
		if err != nil && !fault.Is(err, fault.Unsupported) {
			errs = append(errs, err)
		}
	}
	return errs
}

// String gives one line.
func (c Checked) String() string {
	return fmt.Sprintf("devices: %d, platforms: %d, templates: %d", c.Devices, c.Platforms, c.Templates)
}
