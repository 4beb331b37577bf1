# Capture Fleet. `make help` lists what there is.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
GO          ?= go
FUZZTIME    ?= 60s
FUZZCOUNT   ?= 1000x
KILLS       ?= 200
GOTESTSUM   ?= $(GO) run gotest.tools/gotestsum@v1.13.0 --format standard-quiet
# One test that fails among thousands may owe it to a machine that stood still: up to
# three are run again, and named as flaky with what they said at first. A data race, a
# panic, a leak found at a package's end and a property's counterexample stay red.
RERUN       := --rerun-fails=2 --rerun-fails-max-failures=3 --rerun-fails-run-root-test --rerun-fails-abort-on-data-race
# Statically linked, so that one binary runs on any Linux host.
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build fleetd and fleetctl into bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

.PHONY: demo
demo: ## run the demo: a simulated fleet, fleetd and the reports
	$(GO) run ./cmd/fleetctl demo

.PHONY: deps
deps: ## install the Debian packages that the tests use, where missing
	scripts/test-deps

.PHONY: test
test: deps check ## everything once, with the race detector; every fuzz target FUZZCOUNT inputs (default 1000x)
	CGO_ENABLED=1 GORACE="atexit_sleep_ms=0" $(GOTESTSUM) $(RERUN) --packages ./... -- -race -timeout 12m
	scripts/fuzz $(FUZZCOUNT)

.PHONY: test-quick
test-quick: ## everything once, without the race detector
	$(GO) test ./...

.PHONY: check
check: ## formatting, vet, and a build for each system fleetctl runs on
	@unformatted=$$(gofmt -l cmd internal templates bench 2>/dev/null || true); \
		if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	GOOS=windows $(GO) build -o /dev/null ./cmd/fleetctl
	GOOS=darwin $(GO) build -o /dev/null ./cmd/fleetctl

.PHONY: lint
lint: ## golangci-lint with the project's rules (built on first use)
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

.PHONY: bench
bench: deps build ## figures against peers, ours and theirs in turn (docs/benchmarks.md)
	$(GO) run ./bench

.PHONY: fuzz-quick
fuzz-quick: ## every fuzz target with FUZZCOUNT inputs each, as make test does
	scripts/fuzz $(FUZZCOUNT)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each (default 60s)
	scripts/fuzz $(FUZZTIME)

.PHONY: chaos
chaos: ## kill the real fleetd KILLS times (default 200), half of them at crash points, once at each commit, 1,000 readers of captures, and through a week of schedules
	FLEETD_CHAOS_KILLS=$(KILLS) FLEETD_CHAOS_FAILPOINTS=1 $(GO) test -tags failpoint -count 1 -timeout 30m -run 'TestChaos$$' -v ./cmd/fleetd
	$(GO) test -tags failpoint -count 1 -run 'KilledAtEachCommit$$' -v ./internal/jobs
	CAPFLEET_ENGINE_KILLS=100 $(GO) test -count 1 -timeout 30m -run 'TestKill$$' -v ./internal/jobs
	CAPFLEET_READER_KILLS=1000 $(GO) test -count 1 -timeout 30m -run 'TestReadersKilledAtRandomMoments$$' -v ./internal/capture
	$(GO) test -count 1 -timeout 30m -run 'TestEngineOverRandomRollouts$$' -v ./internal/jobs -rollouts 10000
	FLEETD_CHAOS_ROLLOUT_KILLS=500 FLEETD_CHAOS_ROLLOUT_DEVICES=200 $(GO) test -count 1 -timeout 90m -run 'TestRolloutChaos$$' -v ./cmd/fleetd
	FLEETD_CHAOS_PAIR_KILLS=100 $(GO) test -count 1 -timeout 30m -run 'TestPairChaos$$' -v ./cmd/fleetd
	FLEETD_WEEK_DAYS=7 $(GO) test -count 1 -timeout 30m -run 'TestWeek$$' -v ./internal/daemon

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
