GOLANGCI_LINT_VERSION := v2.15.0
# The version is in the name, so that another version is another file to make.
GOLANGCI_LINT := $(CURDIR)/.tools/golangci-lint-$(GOLANGCI_LINT_VERSION)

GOTESTFLAGS ?=
ARGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Further flags: make test GOTESTFLAGS='-v -run Lax', make demo ARGS=-h, make bench ARGS=-h."
	@echo 'Tests, cover and the benchmarks use the Redis at REDIS_URL, or start one for the run.'

.PHONY: demo
demo: ## Run the demo
	go run ./cmd/demo $(ARGS)

.PHONY: test
test: ## Run all tests, the fault suite's and the benchmarks' own too
	scripts/with-redis scripts/each-module go test -count=1 $(GOTESTFLAGS) ./...

.PHONY: test-race
test-race: ## Run all tests under the race detector
	scripts/with-redis scripts/each-module go test -race -count=1 $(GOTESTFLAGS) ./...

.PHONY: test-servers
test-servers: ## Run the tests that need a server on several kinds and versions
	scripts/test-servers $(ARGS)

.PHONY: bench
bench: ## Measure against the rivals, about a quarter of an hour; writes bench/results
	cd bench && ../scripts/with-redis go run ./cmd/compare $(ARGS)

.PHONY: bench-systems
bench-systems: ## Measure what a System costs, by a thousand; takes 3 GB
	scripts/with-redis go test -run '^$$' -bench '^BenchmarkSystems$$' -benchtime 1x $(GOTESTFLAGS) .

.PHONY: bench-check
bench-check: ## Measure a short form, and fail if ratios are worse than bench/results
	cd bench && ../scripts/with-redis go run ./cmd/compare -check results/ratios.json $(ARGS)

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Check format, go vet and golangci-lint
	@files=$$(gofmt -l .) && if [ -n "$$files" ]; then \
		echo 'gofmt -w these:' >&2; echo "$$files" >&2; exit 1; fi
	scripts/each-module go vet ./...
	scripts/each-module $(GOLANGCI_LINT) run ./...

$(GOLANGCI_LINT):
	GOBIN=$(CURDIR)/.tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(CURDIR)/.tools/golangci-lint $@

.PHONY: vulns
vulns: ## Look for known vulnerabilities in what the modules call
	scripts/vulns

.PHONY: cover
cover: ## Print how much of the library's packages all tests cover
	scripts/with-redis scripts/cover $(GOTESTFLAGS)

.PHONY: chaos
chaos: ## Run the fault suite in its long form, under half an hour
	scripts/with-redis scripts/chaos $(ARGS)

.PHONY: redis-up
redis-up: ## Start a Redis on port 16379 that stays
	@scripts/redis-up

.PHONY: redis-down
redis-down: ## Stop it
	@scripts/redis-down
