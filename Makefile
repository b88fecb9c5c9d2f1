# What people and CI run. Everything stays in target/, but for the cache of tests/stack/install.sh.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(TRIBUTARY_CACHE),$(HOME)/.cache/tributary)
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
STACK_DIR := target/stack
PORTS := $(or $(TRIBUTARY_STACK_PORTS),conventional)

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= pgoutput wal2json values
# PostgreSQL, and where they are not the default ones the release lines of Kafka and of the registry.
MATRIX := 14 15 16 17 18 15/4.1/2.6
# What holds on every version, and needs no wal2json.
CORE := --test end_to_end -- source:: failover:: evolution::

# Search engines and their release lines, and what of the suite is about them.
ENGINES := opensearch/2.19 opensearch/3.8 elasticsearch/8.19 elasticsearch/9.5
SEARCH := cargo test -p tributary-sink-elastic && cargo test -p tributary-tests --test end_to_end -- reindex:: search:: fold::

# More than there are cores: most tests wait for servers most of the time.
TEST_THREADS := $(shell echo $$(($$(nproc) + 1)))

# For servers that live for minutes: the JVM's second compiler takes a third of their CPU time, and more of a start's.
BRIEF = $(JAVA_TOOL_OPTIONS) -XX:TieredStopAtLevel=1

engine_row = IFS=/ read -r TRIBUTARY_ENGINE TRIBUTARY_ENGINE_VERSION <<< "$$row"; export TRIBUTARY_ENGINE TRIBUTARY_ENGINE_VERSION
matrix_row = IFS=/ read -r TRIBUTARY_POSTGRES TRIBUTARY_KAFKA_VERSION TRIBUTARY_REGISTRY_VERSION <<< "$$row"; \
	    export TRIBUTARY_POSTGRES TRIBUTARY_KAFKA_VERSION TRIBUTARY_REGISTRY_VERSION
install := tests/stack/install.sh
stack := cargo run --quiet -p tributary-tests --bin stack -- --dir $(STACK_DIR)
# A stack of its own, which ends with the command however that ends; $$$$ is the shell's process id, $$row that of the
# matrix.
with_stack = TRIBUTARY_BIN_DIR=$(TARGET)/debug $(TARGET)/debug/stack --dir target/test-stack-$$$$$${row:+-$${row//\//-}} run

.PHONY: help up down status build release test test-long test-matrix fuzz fuzz-seeds lint fmt demo bench clean-stack

help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

up: ## Install and start the local stack: PostgreSQL, Kafka, registry, search engine (TRIBUTARY_STACK_PORTS; versions: CONTRIBUTING.md)
	$(install)
	$(stack) up --ports $(PORTS)

down: ## Stop the local stack; its data stay
	$(stack) down

status: ## Say which parts of the local stack are up, and where
	@$(stack) status

build: ## Build everything (debug)
	cargo build --workspace --bins

release: ## Build everything (release)
	cargo build --release --workspace --bins

test: ## Run all tests that CI runs, with a stack of their own
	$(install) debezium opensearch-secured postgres-17
	cargo build --workspace --bins
	JAVA_TOOL_OPTIONS="$(BRIEF)" RUST_TEST_THREADS=$(TEST_THREADS) $(with_stack) cargo test --workspace --no-fail-fast

test-long: ## Run the tests that take too long for CI
	$(install) debezium postgres-17
	cargo build --workspace --bins
	$(with_stack) cargo test --workspace --no-fail-fast -- --ignored --skip sink_process --skip record_the_seeds

fuzz: $(CACHE)/tools/bin/cargo-fuzz ## Fuzz each target for FUZZ_SECONDS (600), from the seeds in fuzz/seeds
	cd fuzz && cargo run --quiet --locked --target-dir $(TARGET)/fuzz --example unpack -- $(TARGET)/fuzz/corpus
	for target in $(FUZZ_TARGETS); do \
	    echo "fuzz: $$target"; \
	    (cd fuzz && PATH="$(CACHE)/tools/bin:$$PATH" RUSTC_BOOTSTRAP=1 cargo fuzz run -s none --target-dir $(TARGET)/fuzz "$$target" \
	        $(TARGET)/fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=16384 -timeout=10 -print_final_stats=1); \
	done

fuzz-seeds: ## Record fuzz/seeds anew, from what a real server sends
	$(install)
	cargo build --workspace --bins
	$(with_stack) cargo test --workspace --test end_to_end record_the_seeds -- --ignored

$(CACHE)/tools/bin/cargo-fuzz:
	cargo install --root $(CACHE)/tools --locked cargo-fuzz

test-matrix: ## Run the core of the suite on PostgreSQL 14 to 18, and on Kafka 4.1 with Apicurio 2.6 (MATRIX="17 15/4.1/2.6"), and search on OpenSearch 2 and 3, Elasticsearch 8 and 9 (ENGINES=opensearch/2.19)
	for row in $(MATRIX); do ($(matrix_row); $(install) postgres-17); done
	for row in $(ENGINES); do ($(engine_row); $(install)); done
	cargo build --workspace --bins
	cargo test --workspace --test end_to_end --no-run
	failed= report=; \
	try() { \
	    if "$$@"; then report+="$$row: ok"$$'\n'; else report+="$$row: FAILED"$$'\n'; failed=1; fi; \
	}; \
	core() { $(matrix_row); $(with_stack) cargo test --workspace $(CORE); }; \
	search() { $(engine_row); $(with_stack) bash -c '$(SEARCH)'; }; \
	for row in $(MATRIX); do try core; done; \
	for row in $(ENGINES); do TRIBUTARY_POSTGRES= TRIBUTARY_KAFKA_VERSION= TRIBUTARY_REGISTRY_VERSION= try search; done; \
	printf '%s' "$$report"; [ -z "$$failed" ]

lint: $(CACHE)/tools/bin/cargo-deny ## Check format, lints, documentation, licences and dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps
	PATH="$(CACHE)/tools/bin:$$PATH" cargo deny check bans licenses sources

$(CACHE)/tools/bin/cargo-deny:
	cargo install --root $(CACHE)/tools --locked cargo-deny

fmt: ## Format the code
	cargo fmt --all

demo: ## Show the whole path on real data, and compare every row (KEEP=1 leaves it running)
	$(install)
	cargo build --release --workspace --bins
	KEEP=$(KEEP) TRIBUTARY_BIN_DIR=$(TARGET)/release $(TARGET)/release/demo

bench: ## Drain backlogs beside pg_recvlogical and Debezium, start with few and many tables, load targets beside Debezium's JDBC sink and Aiven's for OpenSearch (TRIBUTARY_BENCH_AIVEN=checkout), and measure (SCENARIO="drain start start-many sinks", KEEP=1)
	$(install) debezium
	cargo build --release --workspace --bins
	KEEP=$(KEEP) SCENARIO="$(SCENARIO)" TRIBUTARY_BIN_DIR=$(TARGET)/release $(TARGET)/release/bench

clean-stack: ## Stop the stack and remove its data and logs, and those of test runs
	for dir in $(STACK_DIR) target/test-stack-*; do \
	    if [ -d "$$dir" ]; then cargo run --quiet -p tributary-tests --bin stack -- --dir "$$dir" down; rm -rf "$$dir"; fi; \
	done
