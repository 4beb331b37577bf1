package shell

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/scrapli/scrapligo/driver/generic"
	"github.com/scrapli/scrapligo/driver/network"
	"github.com/scrapli/scrapligo/driver/options"

	"capfleet/internal/device"
)

// plan is a definition worked out: patterns compiled, scrapligo's privilege
// levels built. It is made once for a definition, shared by all shells of the
// platform and never changed.
type plan struct {
	def       *device.Definition
	modes     []mode
	varying   *regexp.Regexp // nil where nothing may vary
	questions []question
	pager     *regexp.Regexp // nil where there is none
	prototype *network.Driver
}

type mode struct {
	name   string
	prompt *regexp.Regexp
}

type question struct {
	device.Question
	expr *regexp.Regexp
}

type planKey struct{}

func planFor(def *device.Definition) (*plan, error) {
	return device.Derived(def, planKey{}, newPlan)
}

func newPlan(def *device.Definition) (*plan, error) {
	s := &def.Shell
	if len(s.Modes) == 0 {
		return nil, errors.New("the platform has no interactive command line")
	}
	p := &plan{def: def}
	var err error
	compile := func(expr string) *regexp.Regexp {
		re, e := regexp.Compile(expr)
		err = errors.Join(err, e)
		return re
	}
	for _, m := range s.Modes {
		re, e := device.PromptExpr(m.Pattern)
		err = errors.Join(err, e)
		p.modes = append(p.modes, mode{m.Name, re})
	}
	for _, q := range s.Questions {
		p.questions = append(p.questions, question{q, compile(q.Pattern)})
	}
	if s.Varying != "" {
		p.varying = compile(s.Varying)
	}
	if s.Pager != nil {
		p.pager = compile(s.Pager.Pattern)
	}
	if err != nil {
		return nil, err
	}
	p.prototype, err = newPrototype(s)
	return p, err
}

// newPrototype builds the driver that each shell's own is a copy of. Building
// one compiles every pattern again and writes into the privilege levels, so it
// could be neither done for each device nor shared.
func newPrototype(s *device.ShellDefinition) (*network.Driver, error) {
	levels := make(network.PrivilegeLevels, len(s.Modes))
	for _, m := range s.Modes {
		levels[m.Name] = &network.PrivilegeLevel{
			Name: m.Name, Pattern: `\A(?:` + m.Pattern + `)\z`,
			PreviousPriv: m.From, Escalate: m.Enter, Deescalate: m.Leave,
		}
	}
	return network.NewDriver("prototype",
		options.WithCustomTransport(&adapter{}),
		options.WithPrivilegeLevels(levels),
		options.WithDefaultDesiredPriv(s.WorkingMode))
}

// noTimeout stands for none: the transport's own deadlines end every call.
const noTimeout = 365 * 24 * time.Hour

// driver makes a scrapligo driver over a. It does not poll, as the transport
// returns from a write only when what scrapligo will look for is in its queue.
func (p *plan) driver(name string, a *adapter) (*network.Driver, error) {
	g, err := generic.NewDriver(name,
		options.WithCustomTransport(a),
		options.WithReadDelay(0),
		options.WithTimeoutOps(noTimeout),
		options.WithPromptPattern(p.prototype.Channel.PromptPattern))
	if err != nil {
		return nil, err
	}
	d := *p.prototype
	d.Driver = g
	return &d, nil
}

// modeOf gives the mode whose prompt the line is, or "".
func (p *plan) modeOf(line []byte) string {
	for i := range p.modes {
		if p.modes[i].prompt.Match(line) {
			return p.modes[i].name
		}
	}
	return ""
}

// identity is what must stay of a prompt.
func (p *plan) identity(prompt string) string {
	if p.varying != nil {
		prompt = p.varying.ReplaceAllLiteralString(prompt, "")
	}
	return strings.TrimSpace(prompt)
}

// takesSecret reports whether the line is one that enters a mode with a secret.
func (p *plan) takesSecret(line string) bool {
	return slices.ContainsFunc(p.def.Shell.Modes, func(m device.Mode) bool { return m.Secret != "" && m.Enter == line })
}
