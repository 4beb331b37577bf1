package sim

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Boot locations of a BIG-IP. Each has software and, once software was installed
// to it, the configuration of that moment.

// volume is one boot location.
type volume struct {
	Name    string `json:"name"`
	Product string `json:"product"`
	Version string `json:"version"`
	Build   string `json:"build"`
	Edition string `json:"edition,omitempty"`
	Date    string `json:"date,omitempty"`
	Status  string `json:"status"`
	// Config is what a boot from it loads; nil before the first installation, when
	// a boot takes the configuration along.
	Config map[string]string `json:"config,omitempty"`

	active bool
}

// firstVolumes are a new device's: the running one, an older one to go back to,
// and an empty one.
func firstVolumes(d *device) []volume {
	now := releaseOf(d)
	return []volume{
		{Name: "HD1.1", Product: "BIG-IP", Version: now.version, Build: now.build, Edition: now.edition, Date: now.date, Status: "complete"},
		{Name: "HD1.2", Product: "BIG-IP", Version: "11.6.1", Build: "2.0.338", Edition: "Hotfix HF2", Date: "Tue Jan 10 17:32:11 PST 2017", Status: "complete"},
		emptyVolume("HD1.3"),
	}
}

func emptyVolume(name string) volume {
	return volume{Name: name, Product: "none", Version: "none", Build: "none", Status: "complete"}
}

// volumesOf lists the boot locations as they show now, an installation under way
// included.
func volumesOf(d *device) []volume {
	st := d.state()
	list := slices.Clone(st.Volumes)
	if list == nil {
		list = firstVolumes(d)
	}
	active := activeVolume(d)
	d.mu.Lock()
	under := d.live
	d.mu.Unlock()
	if under != nil {
		list = under.overlay(list, time.Now())
	}
	for i := range list {
		list[i].active = list[i].Name == active
	}
	return list
}

// changeVolumes replaces the list of boot locations.
func (d *device) changeVolumes(do func(list []volume) []volume) {
	first := firstVolumes(d)
	d.fleet.store.change(func() {
		if d.st.Volumes == nil {
			d.st.Volumes = first
		}
		d.st.Volumes = do(slices.Clone(d.st.Volumes))
	})
}

func activeVolume(d *device) string {
	if v := d.state().BootVolume; v != "" {
		return v
	}
	return "HD1.1"
}

func findVolume(list []volume, name string) int {
	return slices.IndexFunc(list, func(v volume) bool { return v.Name == name })
}

// running is what the booted volume holds.
func running(d *device) volume {
	list := volumesOf(d)
	if i := findVolume(list, activeVolume(d)); i >= 0 {
		return list[i]
	}
	return emptyVolume(activeVolume(d))
}

var volumeName = regexp.MustCompile(`^HD[1-9]\.[1-9][0-9]?$`)

// bootVolume settles which volume has booted and with what configuration. It
// tells whether another one than before has. The store's lock is held; first are
// the volumes of a device that has none of its own yet.
func (d *device) bootVolume(change *changeFaults, first []volume) (moved bool) {
	old, next := d.st.BootVolume, d.st.NextVolume
	d.st.NextVolume = ""
	if old == "" {
		old = "HD1.1"
	}
	if next == "" || change.unchanged {
		next = old
	}
	list := d.st.Volumes
	if list == nil {
		list = first
	}
	list = slices.Clone(list)
	from, to := findVolume(list, old), findVolume(list, next)
	if to < 0 {
		return false // its volume has been deleted meanwhile
	}
	if next != old {
		saved := d.st.Saved
		if list[to].Config != nil {
			d.st.Saved = list[to].Config
		}
		if from >= 0 {
			list[from].Config = saved
		}
		d.st.Running = maps.Clone(d.st.Saved)
		d.st.Volumes, d.st.BootVolume = list, next
	}
	// A licence whose service ended before this software was made lets it boot
	// and load nothing.
	d.st.Inoperative = change.noConfig || change.licence != "" && change.licence < licenceCheckDate(list[to].Version)
	return next != old
}

// healthyLicence is the service check date of a device that nobody ordered
// another one for.
const healthyLicence = "20990101"

func (d *device) licence() string {
	if l := d.ordered.Load().change.licence; l != "" {
		return l
	}
	return healthyLicence
}

// licenceCheckDate is what a release asks of a licence. The dates grow with the
// releases; the vendor's own table is authoritative.
func licenceCheckDate(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return "00000000"
	}
	dates := map[string]string{"11.6": "20140604", "12.1": "20160318", "13.1": "20170911", "14.1": "20181025", "15.1": "20191105",
		"16.1": "20210520", "17.1": "20221110", "17.5": "20241001", "21.1": "20250801"}
	if date, ok := dates[parts[0]+"."+parts[1]]; ok {
		return date
	}
	return "20260101"
}
