package ledger_test

import (
	"testing"

	"capfleet/internal/childtest"
	"capfleet/internal/leaktest"
)

func TestMain(m *testing.M) {
	childtest.Main(map[string]func(path string) error{
		"write":   writeAndAcknowledge,
		"full":    writeUntilFull,
		"compact": compactUntilKilled,
	})
	leaktest.Main(m)
}
