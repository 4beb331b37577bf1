package bmc_test

import (
	"testing"

	"capfleet/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
