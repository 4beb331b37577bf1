package ansible

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"capfleet/internal/fault"
)

// Inventory is what a file says, before anything is made of it.
type Inventory struct {
	hosts  map[string]*host
	groups map[string]*group
	notes  []Note
}

// Note is something that was not taken over.
type Note struct {
	What   string `json:"what"` // a host, a group, a variable or the file
	Reason string `json:"reason"`
}

type host struct {
	name string
	vars map[string]value
}

type group struct {
	name     string
	hosts    map[string]bool
	children []string
	vars     map[string]value
}

// value is a variable's value. Only scalars have a text.
type value struct {
	text   string
	vault  bool // encrypted by ansible-vault
	nested bool // a list or a mapping
}

// template reports whether the value is worked out by Ansible.
func (v value) template() bool {
	return strings.Contains(v.text, "{{") || strings.Contains(v.text, "{%")
}

// Bounds of a file. Ranges in names multiply quickly.
const (
	maxFile  = 64 << 20
	maxHosts = 100_000
)

const (
	everything = "all"
	ungrouped  = "ungrouped"
)

func newInventory() *Inventory {
	return &Inventory{hosts: map[string]*host{}, groups: map[string]*group{}}
}

func (inv *Inventory) group(name string) *group {
	g := inv.groups[name]
	if g == nil {
		g = &group{name: name, hosts: map[string]bool{}, vars: map[string]value{}}
		inv.groups[name] = g
	}
	return g
}

// addHost puts a host into a group; a host may be in several.
func (inv *Inventory) addHost(name string, g *group) (*host, error) {
	h := inv.hosts[name]
	if h == nil {
		if len(inv.hosts) == maxHosts {
			return nil, fault.New(fault.TooLarge, "the inventory has more than %d hosts", maxHosts)
		}
		h = &host{name: name, vars: map[string]value{}}
		inv.hosts[name] = h
	}
	g.hosts[name] = true
	return h, nil
}

func (g *group) addChild(name string) {
	if !slices.Contains(g.children, name) {
		g.children = append(g.children, name)
	}
}

func (inv *Inventory) note(what, format string, args ...any) {
	n := Note{what, fmt.Sprintf(format, args...)}
	if !slices.Contains(inv.notes, n) {
		inv.notes = append(inv.notes, n)
	}
}

// member is a group that a host is in, with its distance from the group all.
type member struct {
	*group
	depth int
}

// resolved gives, for each host, the groups that it is in, itself or through their
// children, and the variables that hold for it: those of all first, then groups
// from the top down (of one depth in order of name), then its own.
func (inv *Inventory) resolved() (members map[string][]string, vars map[string]map[string]value, err error) {
	depth, err := inv.depths()
	if err != nil {
		return nil, nil, err
	}
	parents := map[string][]string{}
	for _, g := range inv.groups {
		for _, child := range g.children {
			parents[child] = append(parents[child], g.name)
		}
	}
	in := map[string]map[string]bool{}
	var enter func(host, group string)
	enter = func(host, group string) {
		if in[host][group] {
			return
		}
		if in[host] == nil {
			in[host] = map[string]bool{}
		}
		in[host][group] = true
		for _, p := range parents[group] {
			enter(host, p)
		}
	}
	for _, g := range inv.groups {
		for h := range g.hosts {
			enter(h, g.name)
		}
	}
	members, vars = map[string][]string{}, map[string]map[string]value{}
	for name, h := range inv.hosts {
		var of []member
		for g := range in[name] {
			if g != everything {
				of = append(of, member{inv.groups[g], depth[g]})
			}
		}
		slices.SortFunc(of, func(a, b member) int { return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.name, b.name)) })
		all := map[string]value{}
		if top := inv.groups[everything]; top != nil {
			maps.Copy(all, top.vars)
		}
		for _, g := range of {
			maps.Copy(all, g.vars)
			if g.name != ungrouped {
				members[name] = append(members[name], g.name)
			}
		}
		maps.Copy(all, h.vars)
		slices.Sort(members[name])
		vars[name] = all
	}
	return members, vars, nil
}

// depths gives how far each group is from all at most, as Ansible counts it.
func (inv *Inventory) depths() (map[string]int, error) {
	depth := map[string]int{}
	onWay := map[string]bool{}
	var walk func(name string, at int) error
	walk = func(name string, at int) error {
		if onWay[name] {
			return fault.New(fault.Invalid, "group %s is its own child", name)
		}
		if have, ok := depth[name]; ok && have >= at {
			return nil
		}
		depth[name] = at
		onWay[name] = true
		defer delete(onWay, name)
		g := inv.groups[name]
		if g == nil {
			return fault.New(fault.Invalid, "group %s is a child and defined nowhere", name)
		}
		for _, child := range g.children {
			if err := walk(child, at+1); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(inv.groups)) {
		at := 1
		if name == everything {
			at = 0
		}
		if err := walk(name, at); err != nil {
			return nil, err
		}
	}
	return depth, nil
}
