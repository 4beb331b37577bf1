package jobs_test

import (
	"testing"

	"capfleet/internal/childtest"
	"capfleet/internal/leaktest"
)

func TestMain(m *testing.M) {
	childtest.Main(map[string]func(dir string) error{
		"kill":  runUntilKilled,
		"full":  runOnFullDisk,
		"story": tellStory,
		"night": tellNight,
	})
	leaktest.Main(m)
}
