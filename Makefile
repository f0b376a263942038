# Everything goes through these targets, locally and in CI. `make` alone lists them.
#
# Needed: Rust (rust-toolchain.toml), a C compiler, and Go for the Kubernetes binaries of the tests. What else is needed is built
# or installed once into ${RETENTION_OPERATOR_CACHE:-~/.cache/retention-operator}.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO := cargo
LOCKED := --locked
STARTED := $(shell date +%s)
# step,NAME: a headline with the seconds since make began.
step = @printf '\n==> [+%ds] %s\n' "$$(( $$(date +%s) - $(STARTED) ))" '$(1)'

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the operator without LTO (profile fast)
	$(CARGO) build $(LOCKED) --profile fast

.PHONY: demo
demo: ## a control plane, a PostgreSQL and the operator on this machine: audit, sweep, proof
	scripts/demo.sh

.PHONY: check
check: fmt clippy unit ## the fast checks: format, lints, unit tests

# One after the other also under -j: they share the target directory, and their output is for reading.
.PHONY: test
test: ## everything that CI runs
	@$(MAKE) STARTED=$(STARTED) fmt
	@$(MAKE) STARTED=$(STARTED) clippy
	@$(MAKE) STARTED=$(STARTED) deny
	@$(MAKE) STARTED=$(STARTED) generated
	@$(MAKE) STARTED=$(STARTED) unit
	@$(MAKE) STARTED=$(STARTED) parts
	@$(MAKE) STARTED=$(STARTED) integration
	$(call step,everything passed)

.PHONY: fmt
fmt: ## the format of the Rust code
	$(call step,format)
	$(CARGO) fmt --check

.PHONY: clippy
clippy: ## the lints, warnings refused
	$(call step,lints)
	$(CARGO) clippy $(LOCKED) --all-targets -- -D warnings

.PHONY: deny
deny: ## licenses, banned and doubled crates, sources
	$(call step,dependencies)
	scripts/deny.sh

.PHONY: advisories
advisories: ## known vulnerabilities (fetches the RustSec database)
	scripts/deny.sh advisories

.PHONY: generate
generate: ## write what is generated: the definition in crds/ and its copies
	scripts/generate.sh

.PHONY: generated
generated: ## that what is generated is what the code says
	$(call step,generated files)
	scripts/generate.sh --check

.PHONY: unit
unit: ## the tests without servers, and the examples in the docs
	$(call step,unit tests)
	$(CARGO) test $(LOCKED) --lib --bins
	$(CARGO) test $(LOCKED) --doc

.PHONY: parts
parts: ## find, build or install the servers that the integration tests run
	$(call step,real parts: Kubernetes and PostgreSQL)
	scripts/control-plane.sh kube-apiserver etcd kubectl
	scripts/control-plane.sh helm
	scripts/postgres.sh
	# Without it the tests on the newest major are skipped and say so; a CI has to have it.
	scripts/postgres.sh --newest || [ "$${CI:-}" != true ]
	scripts/pgbouncer.sh

.PHONY: integration
integration: ## the tests on real servers
	$(call step,integration tests)
	$(CARGO) test $(LOCKED) --test it

.PHONY: fuzz
fuzz: ## fuzz the predicate: FUZZ_SECONDS=600 make fuzz
	scripts/fuzz.sh

.PHONY: bench
bench: ## paired measurements: ours against the plain statement
	scripts/bench.sh

.PHONY: bench-foreground
bench-foreground: ## what a service feels while its tables are swept, beside two control arms
	scripts/bench-foreground.sh

.PHONY: bench-archive
bench-archive: ## archiving into a table against a psycopg2 script that moves row by row
	scripts/bench-archive.sh

.PHONY: bench-audit
bench-audit: ## what an audit of 10,000 tables costs: time, memory, counters, and a second session
	scripts/bench-audit.sh

.PHONY: clean
clean: ## remove build output; the cache of built servers stays
	$(CARGO) clean
