package runnertest_test

import (
	"testing"

	"capfleet/internal/jobs"
	"capfleet/internal/jobs/runnertest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	runnertest.Run(t, func(*testing.T) runnertest.Fixture {
		world := &runnertest.Memory{}
		return runnertest.Fixture{
			Runner: &runnertest.Fake{World: world},
			Work: func(b runnertest.Behaviour, unit string, devices ...string) jobs.Work {
				work := jobs.Work{Job: "1", Operation: "fake", Unit: unit, Spec: runnertest.Spec{Behaviour: b}.JSON(), Attempt: 1, Fence: 1}
				for _, d := range devices {
					work.Targets = append(work.Targets, jobs.Target{Device: d, Unit: unit})
				}
				return work
			},
			Acts: world.Acts,
		}
	})
}
