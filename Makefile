# Tasks of openclaw-edge. Each one installs what it needs first (Debian, Ubuntu; root or sudo) and
# needs nothing but a Rust toolchain.

FUZZ_SECONDS ?= 60
BENCH_ARGS ?=
DEMO_ARGS ?=
TEST_DEPLOY_ARGS ?=
BUILT = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# The image's binary, which is static: what deploy/tests run. The package's is not; `--minutes` packs
# the debug build of it, so that .ci/run optimises one binary and no second.
STATIC = $(BUILT)/$(shell uname -m)-unknown-linux-gnu/release/openclaw-edge
PACKED = $(if $(filter --minutes,$(TEST_DEPLOY_ARGS)),debug,release)
# No sanitizer: unsafe code is denied, and sums and assertions are checked.
FUZZ_FLAGS = --sanitizer none

.PHONY: help demo image test test-deploy deploy-ready bench check fuzz deb

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

test-deploy: deploy-ready ## Manifests, chart, units, alerts: with the real tools (root; 40 minutes)
	@OPENCLAW_EDGE_BIN=$(STATIC) OPENCLAW_EDGE_DEB_BIN=$(BUILT)/$(PACKED)/openclaw-edge OPENCLAW_EDGE_SOAK=$(BUILT)/debug/soak \
		bash deploy/tests/all.sh $(TEST_DEPLOY_ARGS)

# What those tests need.
deploy-ready:
	@bash .ci/setup build deb image
	@bash deploy/tests/setup.sh
	@bash deploy/image/build.sh
	cargo build --locked -p proxy -p benches --bin openclaw-edge --bin soak
	$(if $(filter release,$(PACKED)),cargo build --locked --release -p proxy)

deb: ## The Debian package, in target/debian
	@bash .ci/setup build deb
	cargo build --locked --release -p proxy
	@bash deploy/debian/build.sh $(BUILT)/release/openclaw-edge target/debian

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
