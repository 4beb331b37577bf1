package runner

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
	"capfleet/internal/operation"
)

func TestContract(t *testing.T) {
	t.Parallel()
	runnertest.Run(t, func(*testing.T) runnertest.Fixture {
		n := newNetwork()
		r := New(Options{
			Operations: []operation.Operation{op{"behave", n.behave}},
			Drivers:    []device.Driver{n},
			Dialer:     n,
			Artifacts:  n,
		})
		return runnertest.Fixture{
			Runner: r,
			Work: func(b runnertest.Behaviour, name string, devices ...string) jobs.Work {
				w := unit(name, devices...)
				w.Operation, w.Spec = "behave", runnertest.Spec{Behaviour: b}.JSON()
				return w
			},
			Acts: func(unit string) int {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.acts[unit]
			},
		}
	})
}

// behave gives the steps of a behaviour of the suite, over sessions.
func (n *network) behave(spec json.RawMessage, u operation.Unit) ([]operation.Step, error) {
	var s runnertest.Spec
	if err := json.Unmarshal(spec, &s); err != nil {
		return nil, err
	}
	step := operation.Step{Name: "act", Observe: func(ctx context.Context, env operation.Env) (operation.Observation, error) {
		for _, dev := range env.Unit().Devices {
			session, err := env.Session(ctx, dev)
			if err != nil {
				return operation.Observation{}, err
			}
			if _, err := session.Run(ctx, device.Command{Line: "show version"}); err != nil {
				return operation.Observation{}, err
			}
			switch s.Behaviour {
			case runnertest.Succeeds, runnertest.Fails:
				env.Row(dev, map[string]string{"device": dev.Name})
			case runnertest.Blocks:
				<-ctx.Done()
				return operation.Observation{}, context.Cause(ctx)
			case runnertest.Meets:
				if err := env.Ready(ctx); err != nil {
					return operation.Observation{}, err
				}
				select {
				case <-env.Stopped():
				case <-ctx.Done():
					return operation.Observation{}, context.Cause(ctx)
				}
				env.Row(dev, map[string]string{"device": dev.Name})
			case runnertest.Panics:
				panic("a defect")
			default:
			}
		}
		switch s.Behaviour {
		case runnertest.Fails:
			return operation.Observation{}, &fault.Error{Kind: fault.Refused, Act: "run show", Err: errors.New("% Unknown command")}
		case runnertest.Unproven:
			return operation.Observation{Verdict: operation.Inconclusive, Detail: "it shows nothing"}, nil
		case runnertest.ActsOnce:
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.acts[u.Name] == 0 {
				return operation.Observation{Verdict: operation.Needed}, nil
			}
		default:
		}
		return operation.Observation{Verdict: operation.Done}, nil
	}}
	if s.Behaviour == runnertest.Holds {
		return n.outAndBack(u), nil
	}
	if s.Behaviour == runnertest.ActsOnce || s.Behaviour == runnertest.Unproven {
		step.Once = true
		step.Act = func(context.Context, operation.Env) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.acts[u.Name]++
			return nil
		}
	}
	return []operation.Step{step}, nil
}

// outAndBack gives steps that take the unit out of use and bring it back.
func (n *network) outAndBack(u operation.Unit) []operation.Step {
	see := func(context.Context, operation.Env) (operation.Observation, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.acts[u.Name] > 0 {
			return operation.Observation{Verdict: operation.Done}, nil
		}
		return operation.Observation{Verdict: operation.Needed}, nil
	}
	return []operation.Step{
		{Name: "out", Hold: true, Observe: see, Act: func(context.Context, operation.Env) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.acts[u.Name]++
			return nil
		}},
		{Name: "back", Hold: true, Observe: see, Act: func(context.Context, operation.Env) error { return nil }},
	}
}
