package ledger_test

import (
	"testing"

	"go.uber.org/goleak"

	"capfleet/internal/childtest"
)

func TestMain(m *testing.M) {
	childtest.Main(map[string]func(path string) error{
		"write":   writeAndAcknowledge,
		"full":    writeUntilFull,
		"compact": compactUntilKilled,
	})
	goleak.VerifyTestMain(m)
}
