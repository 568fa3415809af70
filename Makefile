# make        lists what there is to make
.DEFAULT_GOAL := help
.PHONY: help test slow race lint bench scenarios ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## the tests, as the README says
	go test ./...

slow: ## the tests that take minutes or need Java and Maven (Apache Kafka)
	.ci/run slow

race: ## the tests under the race detector
	.ci/run race

lint: ## gofmt, go vet, staticcheck, and the rules of the house
	.ci/run format vet lint
	go test ./internal/lint

bench: ## the benchmarks beside pg_recvlogical
	go test -run '^$$' -bench . -benchmem ./bench/...

scenarios: ## the migration story, on this machine
	go run ./scenarios

ci: ## everything that must hold before a change lands
	.ci/run
