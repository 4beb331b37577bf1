package hotfix

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"capfleet/internal/device"
	"capfleet/internal/device/bigip"
)

// The tables are what three releases print, and one with a status of each kind.
func TestParseVolumes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []volumeRow
	}{
		"slots": {`
----------------------------------------------------------
Sys::Software Status
Volume  Slot  Product   Version    Build  Active    Status
----------------------------------------------------------
HD1.1      1   BIG-IP  12.1.3.4    0.0.2     yes  complete
HD1.2      1   BIG-IP    11.6.1  2.0.338      no  complete
`, []volumeRow{
			{"HD1.1", "BIG-IP", software{"12.1.3.4", "0.0.2"}, true, "complete"},
			{"HD1.2", "BIG-IP", software{"11.6.1", "2.0.338"}, false, "complete"},
		}},
		"allowed version": {`
--------------------------------------------------------------------------------
Sys::Software Status
Volume  Product   Version   Build  Active                Status  Allowed Version
--------------------------------------------------------------------------------
HD1.1    BIG-IP  15.1.2.1  0.0.10      no              complete              yes
HD1.2    BIG-IP    17.5.0  0.0.15      no installing 10.000 pct              yes
HD1.3    BIG-IP  17.1.2.1   0.0.2     yes              complete              yes
`, []volumeRow{
			{"HD1.1", "BIG-IP", software{"15.1.2.1", "0.0.10"}, false, "complete"},
			{"HD1.2", "BIG-IP", software{"17.5.0", "0.0.15"}, false, "installing 10.000 pct"},
			{"HD1.3", "BIG-IP", software{"17.1.2.1", "0.0.2"}, true, "complete"},
		}},
		"row out of line": {`
--------------------------------------------------
Sys::Software Status
Volume   Product   Version  Build  Active    Status
--------------------------------------------------
HD1.3    BIG-IP  13.1.1.3  0.0.1      yes complete
HD1.4 none none none no complete
`, []volumeRow{
			{"HD1.3", "BIG-IP", software{"13.1.1.3", "0.0.1"}, true, "complete"},
			{"HD1.4", "none", software{"none", "none"}, false, "complete"},
		}},
		"a chassis is as far as its last slot": {`
Volume  Slot  Product   Version    Build  Active    Status
HD1.2      1   BIG-IP    17.1.3   0.0.11      no  complete
HD1.2      2   BIG-IP    17.1.3   0.0.11      no  failed (Disk full (volume group))
HD1.2      3   BIG-IP    17.1.3   0.0.11      no  complete
`, []volumeRow{{"HD1.2", "BIG-IP", software{"17.1.3", "0.0.11"}, false, "failed (Disk full (volume group))"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseVolumes(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(volumeRow{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, text := range []string{"", "nothing of the kind", "Volume Product Version Build Active Status\nHD1.1 BIG-IP 1 2 perhaps complete\n",
		"Volume Product Version Build Active Status\nHD1.1 BIG-IP\n"} {
		if got, err := parseVolumes(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func FuzzParseVolumes(f *testing.F) {
	f.Add("Volume  Slot  Product   Version    Build  Active    Status\nHD1.1      1   BIG-IP  12.1.3.4    0.0.2     yes  complete\n")
	f.Add("Volume Allowed\nHD1.1 a b c no installing 10 pct yes\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := parseVolumes(text)
		if err == nil && len(rows) == 0 {
			t.Error("no rows and no error")
		}
		seen := map[string]bool{}
		for _, r := range rows {
			if seen[r.Name] {
				t.Errorf("%s is there twice", r.Name)
			}
			seen[r.Name] = true
		}
	})
}

// What a volume holds follows from the image's name, whichever way it is written.
func TestImageNames(t *testing.T) {
	t.Parallel()
	driver, err := bigip.New("")
	if err != nil {
		t.Fatal(err)
	}
	how := driver.Definition().Hotfix
	v := &volumes{def: driver.Definition(), how: how, vol: how.Volumes}
	for file, want := range map[string]struct {
		software
		hotfix bool
	}{
		"BIGIP-13.1.1.3-0.0.1.iso":              {software{"13.1.1.3", "0.0.1"}, false},
		"BIGIP-12.1.2.0.0.249.iso":              {software{"12.1.2", "0.0.249"}, false},
		"Hotfix-BIGIP-11.6.0.1.0.403-HF1.iso":   {software{"11.6.0", "1.0.403"}, true},
		"Hotfix-BIGIP-16.1.2.2.0.12.28-ENG.iso": {software{"16.1.2.2", "0.12.28"}, true},
		"BIGIP-21.1.0.1-0.0.26.iso":             {software{"21.1.0.1", "0.0.26"}, false},
	} {
		n, err := namesOf(how, file, "", "")
		if err != nil {
			t.Error(err)
			continue
		}
		if got, ok := softwareOf(n.Installed); !ok || got != want.software || v.isHotfix(file) != want.hotfix || n.Install != file {
			t.Errorf("%s is %v (hotfix %v)", file, got, v.isHotfix(file))
		}
	}
	for _, file := range []string{"BIGIP-13.1.1.3-0.0.1.iso.md5", "OSm6.4.x-CumulativeHotfix-v1.end", "BIGIP-.iso", "x/BIGIP-13.1.1.3-0.0.1.iso", "BIGIP-1.iso"} {
		if n, err := namesOf(how, file, "", ""); err == nil {
			t.Errorf("%s is taken for %+v", file, n)
		}
	}
}

func TestOlderThan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b software
		want bool
	}{
		{software{"17.1.3", "0.0.11"}, software{"17.1.3", "0.0.11"}, false},
		{software{"17.1.3", "0.0.11"}, software{"17.1.3", "0.12.28"}, true},
		{software{"17.1.3", "0.12.28"}, software{"17.1.3", "0.0.11"}, false},
		{software{"9.4.8", "0"}, software{"17.1.3", "0"}, true},
		{software{"17.1", "0.0.1"}, software{"17.1.0.1", "0.0.1"}, true},
		{software{"21.1.0.1", "0.0.26"}, software{"17.1.3", "0.12.28"}, false},
	} {
		if got := c.a.olderThan(c.b); got != c.want {
			t.Errorf("%v older than %v: %v", c.a, c.b, got)
		}
	}
}

func TestLicenceCheckDate(t *testing.T) {
	t.Parallel()
	v := &device.Volumes{LicenceCheckDates: map[string]string{"17": "2022-01-01", "17.1": "2023-03-31"}}
	for version, want := range map[string]string{"17.1.3": "2023-03-31", "17.1": "2023-03-31", "17.10.1": "2022-01-01", "17.5.0": "2022-01-01", "1.7": "", "21.1": ""} {
		got, ok := v.LicenceCheckDate(version)
		if ok != (want != "") || ok && got.Format("2006-01-02") != want {
			t.Errorf("%s: %v, %v", version, got, ok)
		}
	}
}

// However it came to that: who carries the traffic is not rebooted, nor anybody whose
// peer does not carry it.
func TestMayReboot(t *testing.T) {
	t.Parallel()
	now, next := software{"15.1.2.1", "0.0.10"}, software{"17.1.3", "0.0.11"}
	volumesOf := func(active string) []volumeRow {
		return []volumeRow{
			{Name: "HD1.1", Product: "BIG-IP", software: now, Active: active == "HD1.1", Status: "complete"},
			{Name: "HD1.2", Product: "BIG-IP", software: next, Active: active == "HD1.2", Status: "complete"},
		}
	}
	old := func(role string) member {
		return member{Running: now, Volume: "HD1.1", Volumes: volumesOf("HD1.1"), Role: role}
	}
	upgraded := func(role string) member {
		return member{Running: next, Volume: "HD1.2", Volumes: volumesOf("HD1.2"), Role: role}
	}
	a, b := &device.Device{Name: "a"}, &device.Device{Name: "b"}
	to := leg{Volume: "HD1.2", Software: next}
	p := &pair{course: course{Order: []string{"a", "b"}, Target: map[string]leg{"a": to, "b": to}}}
	first := stage{name: stepFirstReboot, dev: a, peer: b, leg: to}
	second := stage{name: stepSecondReboot, dev: b, peer: a, leg: to}
	alone := stage{name: stepAloneReboot, dev: a, leg: to}
	incomplete := old(roleStandby)
	incomplete.Volumes[1].Status = "installing 99.000 pct"
	other := old(roleStandby)
	other.Volumes[1].Build = "0.0.9"
	for name, c := range map[string]struct {
		stage     stage
		own, peer member
		may       bool
	}{
		"the standby":                       {first, old(roleStandby), old(roleActive), true},
		"an inoperative one":                {first, old("offline"), old(roleActive), true},
		"the active":                        {first, old(roleActive), old(roleStandby), false},
		"both standby":                      {first, old(roleStandby), old(roleStandby), false},
		"both active":                       {first, old(roleActive), old(roleActive), false},
		"the peer is offline":               {first, old(roleStandby), old("offline"), false},
		"the image is not complete":         {first, incomplete, old(roleActive), false},
		"another build":                     {first, other, old(roleActive), false},
		"the second, behind an upgraded":    {second, old(roleStandby), upgraded(roleActive), true},
		"the second, behind an old one":     {second, old(roleStandby), old(roleActive), false},
		"the second, still active":          {second, old(roleActive), upgraded(roleStandby), false},
		"a device by itself, which is away": {alone, old(roleActive), member{}, true},
	} {
		if got := p.mayReboot(c.stage, c.own, c.peer); (got == "") != c.may {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A login that shows nothing of a boot still shows from which volume it was.
func TestHasRebooted(t *testing.T) {
	t.Parallel()
	d := &device.Device{Name: "a"}
	id := func(s string) boot { return boot{Kind: device.ReadBootID, Value: s} }
	p := &pair{course: course{Before: map[string]member{"a": {Volume: "HD1.1", Boot: id("one")}}}}
	for name, c := range map[string]struct {
		now  member
		want Answer
	}{
		"another boot":            {member{Volume: "HD1.1", Boot: id("two")}, Proven},
		"the same":                {member{Volume: "HD1.1", Boot: id("one")}, Disproven},
		"not shown, the same":     {member{Volume: "HD1.1"}, NotObservable},
		"not shown, another one":  {member{Volume: "HD1.2"}, Proven},
		"not shown, nor a volume": {member{}, NotObservable},
	} {
		if got, detail := p.hasRebooted(d, c.now); got != c.want {
			t.Errorf("%s: %s (%s)", name, got, detail)
		}
	}
}
