package device

import (
	"maps"
	"regexp"
	"slices"
	"time"
)

// Volumes is the way of platforms that install a software image to a volume which
// is not running and then boot from it. What is typed is the platform's own and
// verified; what differs between sites and releases is here.
type Volumes struct {
	// HotfixFile is what the name of an image looks like that is installed on top of
	// a base image of the same version, as a whole. Other images stand alone.
	HotfixFile string `yaml:"hotfix_file"`
	// LicenceCheckDates are, by the beginning of a version ("17.1"), the dates that
	// the service check date of the licence must not be before, as 2006-01-02. With
	// an older licence the device boots and does not load its configuration.
	LicenceCheckDates map[string]string `yaml:"licence_check_dates"`

	// Listed is how long the device may take to list an image that is on its disk.
	Listed time.Duration `yaml:"listed"`
	// Shows is how long after an installation was ordered, or the roles of a pair
	// were, the device may still show the state of before.
	Shows time.Duration `yaml:"shows"`
	// Save is how long the archive of the configuration takes, Install an
	// installation.
	Save    Span `yaml:"save"`
	Install Span `yaml:"install"`
	// Down is how long after a reboot was ordered a device may still be up, Settle
	// how long one that is up again may take to be in its role, and Stable for how
	// long it must then stay so: firmware may reboot it once more.
	Down   time.Duration `yaml:"down"`
	Settle time.Duration `yaml:"settle"`
	Stable time.Duration `yaml:"stable"`
	// Return is the time from the reboot to a device that is proven to be back.
	Return Span `yaml:"return"`
}

// LicenceCheckDate gives the date that a version asks of a licence; false where
// the definition does not have it.
func (v *Volumes) LicenceCheckDate(version string) (time.Time, bool) {
	best := ""
	for prefix := range v.LicenceCheckDates {
		if (version == prefix || len(version) > len(prefix) && version[:len(prefix)+1] == prefix+".") && len(prefix) > len(best) {
			best = prefix
		}
	}
	if best == "" {
		return time.Time{}, false
	}
	t, err := time.Parse(time.DateOnly, v.LicenceCheckDates[best])
	return t, err == nil
}

var versionPrefix = regexp.MustCompile(`\A\d+(?:\.\d+)*\z`)

func (c checker) volumes(v *Volumes, here []any) error {
	if err := c.pattern(v.HotfixFile, with(here, "hotfix_file")...); err != nil {
		return err
	}
	for _, prefix := range slices.Sorted(maps.Keys(v.LicenceCheckDates)) {
		at := with(here, "licence_check_dates", prefix)
		if !versionPrefix.MatchString(prefix) {
			return c.errorf(at, "%q is not the beginning of a version", prefix)
		}
		if _, err := time.Parse(time.DateOnly, v.LicenceCheckDates[prefix]); err != nil {
			return c.errorf(at, "%q is not a date such as 2024-01-31", v.LicenceCheckDates[prefix])
		}
	}
	for _, t := range []struct {
		key string
		d   time.Duration
	}{{"listed", v.Listed}, {"shows", v.Shows}, {"down", v.Down}, {"settle", v.Settle}, {"stable", v.Stable}} {
		if t.d <= 0 {
			return c.errorf(with(here, t.key), "must be a time above 0")
		}
	}
	for _, s := range []struct {
		key string
		s   Span
	}{{"save", v.Save}, {"install", v.Install}, {"return", v.Return}} {
		if err := c.span(s.s, with(here, s.key)); err != nil {
			return err
		}
	}
	return nil
}
