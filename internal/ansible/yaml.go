package ansible

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"capfleet/internal/fault"
)

// Read reads an inventory in any of the three forms, which it tells by the
// content. name is used for its ending only: .ini is always INI.
func Read(name string, src []byte) (*Inventory, error) {
	if len(src) > maxFile {
		return nil, fault.New(fault.TooLarge, "the inventory is larger than %d bytes", maxFile)
	}
	text := strings.TrimPrefix(string(src), "\ufeff")
	inv, err := read(name, text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "read Ansible inventory", err)
	}
	if len(inv.hosts) == 0 {
		return nil, fault.New(fault.Invalid, "the Ansible inventory has no hosts")
	}
	return inv, nil
}

func read(name, text string) (*Inventory, error) {
	if strings.HasSuffix(name, ".ini") {
		return readINI(text)
	}
	var doc yaml.Node
	err := yaml.Unmarshal([]byte(text), &doc)
	if err == nil {
		if err := bounded(&doc); err != nil {
			return nil, err
		}
	}
	isMapping := err == nil && len(doc.Content) == 1 && doc.Content[0].Kind == yaml.MappingNode
	ending := strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".json")
	switch {
	case isMapping && listed(doc.Content[0]):
		return readList(doc.Content[0])
	case isMapping:
		return readYAML(doc.Content[0])
	case ending && err != nil:
		return nil, fmt.Errorf("%w", errors.New(strings.TrimPrefix(err.Error(), "yaml: ")))
	case ending:
		return nil, errors.New("a mapping of groups is expected")
	}
	return readINI(text)
}

// listed reports whether a document is what ansible-inventory --list prints: there
// _meta is always in it.
func listed(root *yaml.Node) bool { return get(root, "_meta") != nil }

func get(n *yaml.Node, key string) *yaml.Node {
	n = target(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return target(n.Content[i+1])
		}
	}
	return nil
}

// target follows an alias.
func target(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func empty(n *yaml.Node) bool {
	n = target(n)
	return n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// pairs calls fn for each key of a mapping; an empty value is an empty mapping.
func pairs(n *yaml.Node, what string, fn func(key string, v *yaml.Node) error) error {
	n = target(n)
	if empty(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s is a mapping", n.Line, what)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			if err := fn(n.Content[i].Value, target(n.Content[i+1])); err != nil {
				return err
			}
			continue
		}
		if err := merged(n, target(n.Content[i+1]), what, fn); err != nil {
			return err
		}
	}
	return nil
}

// merged calls fn for what "<<" brings in: the keys of a mapping, or of several,
// that are not in the mapping itself. An earlier one wins.
func merged(into, from *yaml.Node, what string, fn func(key string, v *yaml.Node) error) error {
	sources := []*yaml.Node{from}
	if from.Kind == yaml.SequenceNode {
		sources = from.Content
	}
	done := map[string]bool{}
	for i := 0; i+1 < len(into.Content); i += 2 {
		done[into.Content[i].Value] = true
	}
	for _, source := range sources {
		err := pairs(source, what, func(key string, v *yaml.Node) error {
			if done[key] {
				return nil
			}
			done[key] = true
			return fn(key, v)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func names(n *yaml.Node, what string) ([]string, error) {
	n = target(n)
	if empty(n) {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: %s is a list", n.Line, what)
	}
	var out []string
	for _, item := range n.Content {
		if item = target(item); item.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: %s is a list of names", item.Line, what)
		}
		out = append(out, item.Value)
	}
	return out, nil
}

func valueOf(n *yaml.Node) value {
	n = target(n)
	switch {
	case empty(n):
		return value{}
	case n.Tag == "!vault" || n.Tag == "!vault-encrypted" || get(n, "__ansible_vault") != nil || strings.HasPrefix(n.Value, "$ANSIBLE_VAULT;"):
		return value{vault: true}
	case get(n, "__ansible_unsafe") != nil:
		return value{text: get(n, "__ansible_unsafe").Value}
	case n.Kind != yaml.ScalarNode:
		return value{nested: true}
	}
	return value{text: n.Value}
}

func variables(n *yaml.Node, what string, into map[string]value) error {
	return pairs(n, what, func(key string, v *yaml.Node) error {
		into[key] = valueOf(v)
		return nil
	})
}

// readYAML reads groups with hosts, vars and children, nested as deep as one likes.
func readYAML(root *yaml.Node) (*Inventory, error) {
	inv := newInventory()
	var read func(name string, n *yaml.Node, depth int) error
	read = func(name string, n *yaml.Node, depth int) error {
		if depth > 50 {
			return fmt.Errorf("groups are nested more than 50 deep")
		}
		g := inv.group(name)
		return pairs(n, "group "+name, func(key string, v *yaml.Node) error {
			switch key {
			case "hosts":
				return pairs(v, "hosts of group "+name, func(pattern string, vars *yaml.Node) error {
					all := map[string]value{}
					if err := variables(vars, "host "+pattern, all); err != nil {
						return err
					}
					return inv.addPattern(g, pattern, all)
				})
			case "vars":
				return variables(v, "vars of group "+name, g.vars)
			case "children":
				return pairs(v, "children of group "+name, func(child string, v *yaml.Node) error {
					g.addChild(child)
					return read(child, v, depth+1)
				})
			default:
				inv.note("group "+name, "%q is none of hosts, vars and children", key)
				return nil
			}
		})
	}
	err := pairs(root, "the inventory", func(name string, v *yaml.Node) error { return read(name, v, 0) })
	return inv, err
}

// readList reads what ansible-inventory --list prints. There the variables of each
// host are worked out already.
func readList(root *yaml.Node) (*Inventory, error) {
	inv := newInventory()
	err := pairs(root, "the inventory", func(name string, v *yaml.Node) error {
		if name == "_meta" {
			return nil
		}
		g := inv.group(name)
		if v.Kind == yaml.SequenceNode { // the short form of a script
			return inv.addListed(g, v)
		}
		if err := inv.addListed(g, get(v, "hosts")); err != nil {
			return err
		}
		children, err := names(get(v, "children"), "children of group "+name)
		if err != nil {
			return err
		}
		for _, child := range children {
			inv.group(child)
			g.addChild(child)
		}
		return variables(get(v, "vars"), "vars of group "+name, g.vars)
	})
	if err != nil {
		return nil, err
	}
	return inv, pairs(get(get(root, "_meta"), "hostvars"), "hostvars", func(name string, v *yaml.Node) error {
		h := inv.hosts[name]
		if h == nil {
			var err error
			if h, err = inv.addHost(name, inv.group(ungrouped)); err != nil {
				return err
			}
		}
		return variables(v, "host "+name, h.vars)
	})
}

func (inv *Inventory) addListed(g *group, n *yaml.Node) error {
	hosts, err := names(n, "hosts of group "+g.name)
	if err != nil {
		return err
	}
	for _, name := range hosts {
		if _, err := inv.addHost(name, g); err != nil {
			return err
		}
	}
	return nil
}

// maxNodes bounds a document with its aliases written out.
const maxNodes = 5_000_000

// bounded refuses a document that is small and means something endless: aliases of
// aliases of aliases, or one inside itself.
func bounded(doc *yaml.Node) error {
	sizes := map[*yaml.Node]int{}
	const busy = -1
	var size func(n *yaml.Node) (int, error)
	size = func(n *yaml.Node) (int, error) {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		switch have, ok := sizes[n]; {
		case ok && have == busy:
			return 0, fmt.Errorf("line %d: an alias stands inside what it stands for", n.Line)
		case ok:
			return have, nil
		}
		sizes[n] = busy
		total := 1
		for _, child := range n.Content {
			more, err := size(child)
			if err != nil {
				return 0, err
			}
			if total += more; total > maxNodes {
				return 0, fmt.Errorf("line %d: the document is too large with its aliases written out", n.Line)
			}
		}
		sizes[n] = total
		return total, nil
	}
	_, err := size(doc)
	return err
}
