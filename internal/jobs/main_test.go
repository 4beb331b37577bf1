package jobs_test

import (
	"testing"

	"go.uber.org/goleak"

	"capfleet/internal/childtest"
)

func TestMain(m *testing.M) {
	childtest.Main(map[string]func(dir string) error{
		"kill":  runUntilKilled,
		"full":  runOnFullDisk,
		"story": tellStory,
		"night": tellNight,
	})
	goleak.VerifyTestMain(m)
}
