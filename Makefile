# Tasks of openclaw-edge. Each one installs what it needs first (Debian, Ubuntu; root or sudo) and
# needs nothing but a Rust toolchain.

FUZZ_SECONDS ?= 60
BENCH_ARGS ?=
DEMO_ARGS ?=
# No sanitizer: unsafe code is denied, and sums and assertions are checked.
FUZZ_FLAGS = --sanitizer none

.PHONY: help demo image test test-deploy bench check fuzz

# What deploy/ holds, each with its real tool; about 6 minutes, after the builds.
DEPLOY_TESTS = kubernetes helm kubenix compose compose_live nixos systemd prometheus replace image

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: ## The main job on this machine: four hosts, certificates, a config to edit
	@bash .ci/setup build demo
	cargo run --locked --release -- demo $(DEMO_ARGS)

image: ## The container image and its SBOM into target/image, without a container engine
	@bash .ci/setup build image
	@bash deploy/image/build.sh

test: ## All tests
	@bash .ci/setup build test
	cargo test --locked --workspace

test-deploy: ## Manifests, chart, units, alerts: with the real tools (root)
	@bash .ci/setup build image
	@bash deploy/tests/setup.sh
	cargo build --locked --release -p proxy
	cargo build --locked --release -p benches --bin soak
	@for test in $(DEPLOY_TESTS); do \
		echo "=== $$test" && TWO_FOLDERS=1 OPENCLAW_EDGE_BIN=$(CURDIR)/target/release/openclaw-edge bash deploy/tests/$$test.sh || exit 1; \
	done

bench: ## CPU per request and memory per connection beside nginx (about 10 minutes)
	@bash .ci/setup build bench
	cargo build --locked --release --workspace
	cargo run --locked --release -p benches --bin load -- --edge target/release/openclaw-edge $(BENCH_ARGS)

check: ## Format, lints, dependencies, documentation
	@bash .ci/setup build check
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo deny --locked check bans licenses sources
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --no-deps

fuzz: ## Every fuzz target for FUZZ_SECONDS
	@bash .ci/setup build fuzz
	cd fuzz && cargo fuzz build $(FUZZ_FLAGS)
	@bash .ci/fuzz $(FUZZ_SECONDS) $(FUZZ_FLAGS)
