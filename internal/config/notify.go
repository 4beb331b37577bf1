package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"capfleet/internal/secret"
)

// Notifications say who is told what. They are in the configuration file alone:
//
//	notify:
//	  receivers:
//	    ops:   {webhook: {url: "https://alerts.example/hook", token: {file: secrets/hook}}}
//	    siem:  {syslog: {address: "tls://192.0.2.5:6514", ca: siem.pem}}
//	    files: {directory: {path: /srv/reports, keep: 400}}
//	  rules:
//	    - {on: [pci_error, rollout_attention], to: [ops, siem]}
//	    - {on: [capacity_below], retention: 7d, free_percent: 10, within: 30d, to: [ops]}
//	    - {on: [job_failed], operations: [report], to: [siem]}
type Notifications struct {
	Receivers []Receiver // in order of name
	Rules     []Rule
}

// Receiver is somebody to tell. Exactly one of its kinds is set.
type Receiver struct {
	Name      string
	Webhook   *Webhook
	Syslog    *Syslog
	Directory *Directory
}

// Webhook is a URL that messages are posted to.
type Webhook struct {
	URL   string
	Token secret.Ref // of a bearer; zero is none
	CA    string     // file of certificates to trust instead of the system's; "" is the system's
}

// Syslog is where RFC 5424 messages go.
type Syslog struct {
	Network  string // udp, tcp, tls or unix
	Address  string // host:port, or a socket's path
	Facility int
	CA       string // of tls
}

// Directory is where results are written as files.
type Directory struct {
	Path string
	Keep int           // files of each schedule; 0 is no bound
	Age  time.Duration // 0 is no bound
}

// Rule says what is told to whom.
type Rule struct {
	On         []string // conditions
	To         []string // names of receivers
	Operations []string // of job_failed; empty is all
	// Retention is what a ring must reach back, and FreePercent what must be free of a
	// file system, for capacity_below to be silent; 0 is not looked at.
	Retention   time.Duration
	FreePercent float64
	// Within is how far ahead capacity_below is told of a trend that leads below them;
	// 0 is not.
	Within time.Duration
}

// maxWithin is how far ahead a rule may look.
const maxWithin = 366 * 24 * time.Hour

// Conditions lists what a rule can be on.
func Conditions() []string {
	return []string{"pci_error", "rollout_attention", "capacity_below", "job_failed", "schedule_missed"}
}

type notifyLayout struct {
	Receivers map[string]struct {
		Webhook *struct {
			URL   string     `yaml:"url"`
			Token *refLayout `yaml:"token"`
			CA    string     `yaml:"ca"`
		} `yaml:"webhook"`
		Syslog *struct {
			Address  string `yaml:"address"`
			Facility string `yaml:"facility"`
			CA       string `yaml:"ca"`
		} `yaml:"syslog"`
		Directory *struct {
			Path string `yaml:"path"`
			Keep string `yaml:"keep"`
			Age  string `yaml:"age"`
		} `yaml:"directory"`
	} `yaml:"receivers"`
	Rules []struct {
		On          []string `yaml:"on"`
		To          []string `yaml:"to"`
		Operations  []string `yaml:"operations"`
		Retention   string   `yaml:"retention"`
		FreePercent *float64 `yaml:"free_percent"`
		Within      string   `yaml:"within"`
	} `yaml:"rules"`
}

// refLayout says where a secret is, as in the inventory.
type refLayout struct {
	Env        string   `yaml:"env"`
	File       string   `yaml:"file"`
	Credential string   `yaml:"credential"`
	Command    []string `yaml:"command"`
	Age        struct {
		File     string `yaml:"file"`
		Identity string `yaml:"identity"`
	} `yaml:"age"`
}

func notifyKeys() []string {
	return []string{"receivers", "rules", "webhook", "url", "token", "ca", "syslog", "address", "facility", "directory", "path", "keep", "age",
		"on", "to", "operations", "retention", "free_percent", "within", "env", "file", "credential", "command", "identity"}
}

func (r refLayout) ref(dir string) (secret.Ref, error) {
	ref := secret.Ref{Env: r.Env, File: r.File, Credential: r.Credential, Age: secret.Age(r.Age)}
	if len(r.Command) > 0 {
		command, err := secret.NewCommand(r.Command...)
		if err != nil {
			return ref, err
		}
		ref.Command = command
	}
	if err := ref.Validate(); err != nil {
		return ref, err
	}
	return ref.Absolute(dir)
}

var receiverName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// read checks the section; dir is where relative paths begin.
func (l *notifyLayout) read(dir string) (n Notifications, err error) {
	abs := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Receivers)) {
		of := l.Receivers[name]
		at := "notify.receivers." + name
		if !receiverName.MatchString(name) {
			return n, fmt.Errorf("%s: a name has 1 to 63 lower-case letters, digits, dots, - and _", at)
		}
		r := Receiver{Name: name}
		kinds := 0
		if w := of.Webhook; w != nil {
			kinds++
			r.Webhook = &Webhook{URL: w.URL, CA: abs(w.CA)}
			if err := checkURL(w.URL); err != nil {
				return n, fmt.Errorf("%s.webhook.url: %w", at, err)
			}
			if w.Token != nil {
				if r.Webhook.Token, err = w.Token.ref(dir); err != nil {
					return n, fmt.Errorf("%s.webhook.token: %w", at, err)
				}
			}
		}
		if s := of.Syslog; s != nil {
			kinds++
			if r.Syslog, err = readSyslog(s.Address, s.Facility); err != nil {
				return n, fmt.Errorf("%s.syslog: %w", at, err)
			}
			if r.Syslog.CA = abs(s.CA); s.CA != "" && r.Syslog.Network != "tls" {
				return n, fmt.Errorf("%s.syslog: ca is for tls:// alone", at)
			}
		}
		if d := of.Directory; d != nil {
			kinds++
			if r.Directory, err = readDirectory(abs(d.Path), d.Keep, d.Age); err != nil {
				return n, fmt.Errorf("%s.directory: %w", at, err)
			}
		}
		if kinds != 1 {
			return n, fmt.Errorf("%s: one of webhook, syslog and directory is expected", at)
		}
		n.Receivers = append(n.Receivers, r)
	}
	for i, of := range l.Rules {
		rule := Rule{On: of.On, To: of.To, Operations: of.Operations}
		at := fmt.Sprintf("notify.rules[%d]", i)
		if of.Retention != "" {
			if rule.Retention, err = parseDuration(of.Retention); err != nil {
				return n, fmt.Errorf("%s.retention %q: %w", at, of.Retention, err)
			}
		}
		if of.Within != "" {
			if rule.Within, err = parseDuration(of.Within); err != nil {
				return n, fmt.Errorf("%s.within %q: %w", at, of.Within, err)
			}
			if rule.Within > maxWithin {
				return n, fmt.Errorf("%s.within: a forecast reaches at most a year ahead", at)
			}
		}
		if of.FreePercent != nil {
			rule.FreePercent = *of.FreePercent
			if !(rule.FreePercent > 0 && rule.FreePercent < 100) {
				return n, fmt.Errorf("%s.free_percent: a number between 0 and 100 is expected", at)
			}
		}
		if err := rule.check(n.Receivers); err != nil {
			return n, fmt.Errorf("%s: %w", at, err)
		}
		n.Rules = append(n.Rules, rule)
	}
	return n, nil
}

func (r Rule) check(receivers []Receiver) error {
	if len(r.On) == 0 || len(r.To) == 0 {
		return errors.New("on (conditions) and to (receivers) are needed")
	}
	for _, c := range r.On {
		if !slices.Contains(Conditions(), c) {
			return fmt.Errorf("condition %q is not known (known: %s)", c, strings.Join(Conditions(), ", "))
		}
	}
	for _, name := range r.To {
		i := slices.IndexFunc(receivers, func(have Receiver) bool { return have.Name == name })
		switch {
		case i < 0:
			return fmt.Errorf("there is no receiver %q", name)
		case receivers[i].Directory != nil:
			return fmt.Errorf("receiver %q is a directory, which takes results of schedules and no messages", name)
		}
	}
	capacity := slices.Contains(r.On, "capacity_below")
	switch {
	case capacity && r.Retention == 0 && r.FreePercent == 0:
		return errors.New("capacity_below needs retention, free_percent or both")
	case !capacity && (r.Retention != 0 || r.FreePercent != 0 || r.Within != 0):
		return errors.New("retention, free_percent and within are for capacity_below")
	case len(r.Operations) > 0 && !slices.Contains(r.On, "job_failed"):
		return errors.New("operations are for job_failed")
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("an http or https URL is expected") // nothing of it is repeated: it may hold a secret
	case u.User != nil:
		return errors.New("it holds a user or a password: use token, which says where the secret is")
	case u.Fragment != "":
		return errors.New("it has a fragment, which is never sent")
	}
	return nil
}

// facilities are those of RFC 5424 by the names that syslog(3) gives them.
func facilities() map[string]int {
	return map[string]int{"user": 1, "daemon": 3, "auth": 4, "syslog": 5, "authpriv": 10,
		"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23}
}

func readSyslog(address, facility string) (*Syslog, error) {
	s := &Syslog{}
	network, rest, ok := strings.Cut(address, "://")
	if !ok || rest == "" {
		return nil, errors.New("address: udp://HOST[:PORT], tcp://HOST[:PORT], tls://HOST[:PORT] or unix:///PATH is expected")
	}
	s.Network, s.Address = network, rest
	port := ""
	switch network {
	case "udp", "tcp":
		port = "514"
	case "tls":
		port = "6514"
	case "unix":
		if !filepath.IsAbs(rest) {
			return nil, errors.New("address: the path of a socket begins with /, as in unix:///dev/log")
		}
	default:
		return nil, fmt.Errorf("address: %q is none of udp, tcp, tls and unix", network)
	}
	if port != "" {
		host, p, err := net.SplitHostPort(rest)
		if err != nil {
			host, p = strings.Trim(rest, "[]"), port
		}
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(host, "/ ") {
			return nil, fmt.Errorf("address: %q is no HOST:PORT", rest)
		}
		s.Address = net.JoinHostPort(host, p)
	}
	if facility == "" {
		facility = "daemon"
	}
	if s.Facility, ok = facilities()[facility]; !ok {
		return nil, fmt.Errorf("facility %q is not known (known: %s)", facility, strings.Join(slices.Sorted(maps.Keys(facilities())), ", "))
	}
	return s, nil
}

func readDirectory(path, keep, age string) (d *Directory, err error) {
	if path == "" {
		return nil, errors.New("path is needed")
	}
	d = &Directory{Path: filepath.Clean(path), Keep: 400, Age: 730 * 24 * time.Hour}
	if keep != "" {
		if d.Keep, err = parseCount(keep, 0); err != nil {
			return nil, fmt.Errorf("keep %q: %w", keep, err)
		}
	}
	if age != "" {
		if d.Age, err = parseDuration(age); err != nil {
			return nil, fmt.Errorf("age %q: %w", age, err)
		}
	}
	return d, nil
}
