# The few verbs. Everything that is missing is installed by `make demo` and `make test`.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test check bench sweep packages reproducible fleet incident soak screenshots

CARGO ?= cargo
export RUST_LIB_BACKTRACE ?= 0
# A failed test is to end with its own words; `make test RUST_BACKTRACE=1` adds where from.
export RUST_BACKTRACE = 0
# Tests of hosts wait for nginx and its workers more than they compute.
waiters = $$(($$(nproc) * 4))
heading = @printf '\n== %s\n' "$(1)"

help: ## Says what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Four hosts draw a certificate, on real nginx and Pebble (ONCE=1: ends by itself)
	@lab/setup.sh demo
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) run --quiet --package certwell-lab -- demo $(if $(filter-out 0,$(ONCE)),--once)

test: ## Everything: set-up, lints, unit and end-to-end tests, shipped configurations
	$(call heading,set-up)
	@lab/setup.sh test
	$(call heading,formatting)
	$(CARGO) fmt --all --check
	$(call heading,lints)
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(call heading,build)
	$(CARGO) build --workspace --bins
	$(call heading,unit and component tests)
	$(CARGO) test --workspace --exclude certwell-lab --no-fail-fast -- --test-threads=$(waiters)
	$(call heading,the whole fleet and the shipped configurations)
	$(CARGO) test --package certwell-lab --no-fail-fast -- --test-threads=3
	$(call heading,whole Debian hosts: packages and incident and docs/operations.md)
	$(CARGO) test --package certwell-lab --test debian --test incident --test operations --no-fail-fast -- --test-threads=3

check: ## The quick part, for every edit: formatting, lints, tests that start no other program
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) test --quiet --workspace --exclude certwell-lab --lib

bench: ## Prints figures of speed and size (release build)
	@lab/setup.sh demo
	@$(CARGO) build --release --workspace --bins
	@$(CARGO) run --quiet --release --package certwell-lab -- bench

sweep: ## Kills agents before every call that changes something, and lets every such call fail
	@lab/setup.sh test
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) run --quiet --package certwell-lab -- sweep

packages: ## Makes the Debian packages, in target/debian (release build)
	@lab/setup.sh packages
	@lab/packages.sh release

reproducible: ## Builds the packages twice, in two places, and compares the bytes (of the last commit)
	@lab/setup.sh packages
	@lab/reproducible.sh

fleet: ## Six whole Debian hosts to walk about in, until Ctrl-C (root)
	@lab/setup.sh fleet
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) run --quiet --package certwell-lab -- fleet

incident: ## The incident of 2023-02-28 replayed on six whole Debian hosts (root; ACTS='outage …': only these)
	@lab/setup.sh fleet
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) run --quiet --package certwell-lab -- incident $(ACTS)

soak: ## An hour and forty minutes of renewals on whole hosts: nothing may grow (root; PARTS=natural or hour: only that)
	@lab/setup.sh fleet
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) run --quiet --package certwell-lab -- soak $(PARTS)

screenshots: ## Takes the pictures in docs/images anew, of the demo's four hosts in headless Chromium
	@lab/setup.sh screenshots
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) run --quiet --package certwell-lab -- screenshots
