# What people and CI do with this project. `make check` is what CI runs.

reference := target/reference
etcd_version := v3.7.3
programs := $(addprefix $(reference)/,etcd etcdctl etcdutl bbolt)

# Where `make install` puts the programs.
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: run install static cluster test check lint bench perf conformance clients soak simulate mutations reference

# A durable single-member server on 127.0.0.1:2379.
run:
	cargo run --release --bin ringd -- --data-dir default.ringd

# ringd, ringctl, ringutl and ringbench into $(DESTDIR)$(PREFIX)/bin.
install:
	cargo build --release --bins
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 target/release/ringd target/release/ringctl target/release/ringutl target/release/ringbench $(DESTDIR)$(PREFIX)/bin

# The same programs without shared libraries, for containers with nothing else in them: target/<target>/release. The C library is
# glibc, whose resolver of names needs no other files from 2.34 on; its archive is in Debian's libc6-dev.
static_target := x86_64-unknown-linux-gnu
static:
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target $(static_target) --bins

# Three members on 127.0.0.1, client ports 2379, 22379 and 32379: the lines of the Procfile, until interrupted.
cluster:
	cargo build --release --bin ringd
	@trap 'trap - INT TERM; kill 0; wait' INT TERM; \
	grep -v '^#' Procfile | { while IFS= read -r line; do \
		name=$${line%%:*}; command=$${line#*: }; \
		{ sh -c "exec $$command" 2>&1 | sed -u "s/^/$$name | /"; } & \
	done; wait; }

# Tests beside the modules take their judges from these variables, and say so when one is missing.
judges = $(foreach name,etcd etcdctl bbolt,$(if $(wildcard $(reference)/$(name)),\
	RINGD_$(shell echo $(name) | tr a-z A-Z)=$(CURDIR)/$(reference)/$(name)))

test: reference
	$(judges) cargo test

check: lint test

lint:
	cargo fmt --check
	cargo clippy --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --no-deps --lib
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
	else echo 'cargo-deny is not installed: licences, advisories and sources are not checked (cargo install cargo-deny)'; fi

bench:
	cargo bench

# Against etcd, on this machine: an hour. Each script says what it measures and takes --rounds and the like.
perf: reference
	cargo build --release --bin ringd
	perf/run
	perf/keys
	perf/list
	perf/watch
	perf/lease
	perf/maintenance
	perf/cluster
	perf/auth

# etcd's own tests against ringd: half an hour; needs Go and its module proxy.
conformance: reference
	cargo build --bins
	tests/conformance/run

# Clients of other projects against ringd: python etcd3, etcd3gw, Patroni, node etcd3, jetcd. Fetches them once; what has no tool chain here is left out.
clients:
	cargo build --bin ringd
	tests/clients/run

# Random faults on clusters of three and five, ringd and etcd in any mix, every history judged. MINUTES=n; RINGD_SEED=n plays one again.
MINUTES ?= 10
soak: reference
	RINGD_SOAK_MINUTES=$(MINUTES) cargo test --test integration -- soak:: --nocapture

# Whole clusters in one thread, from seeds, until one fails or this is interrupted. SEEDS=first..last, SECONDS=n and SIZE=members bound
# it; REPLAY=... is what a failure prints, and plays it again.
simulator = CARGO_PROFILE_DEV_OPT_LEVEL=2 $(if $(SEEDS),RINGD_SIM_SEEDS=$(SEEDS)) $(if $(SECONDS),RINGD_SIM_SECONDS=$(SECONDS)) \
	$(if $(SIZE),RINGD_SIM_SIZE=$(SIZE)) $(if $(REPLAY),RINGD_SIM_REPLAY='$(REPLAY)',RINGD_SIM=1)
simulate:
	$(simulator) cargo test --lib -- sim::world_tests::$(if $(REPLAY),replay,simulate) --exact --nocapture

# How long the simulator takes to find each of the bugs in src/base/planted.rs, SECONDS of CPU time each at most: a table.
mutations:
	CARGO_PROFILE_DEV_OPT_LEVEL=2 RUST_BACKTRACE=0 RINGD_SIM_MUTATIONS=$(or $(SECONDS),600) cargo test --lib -- sim::mutation_tests::search_for_planted_bugs --exact --nocapture

# The programs to compare with: etcd $(etcd_version) and its tools, as tests/reference/go.mod pins them. Nothing to do when they are there.
reference:
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory $(programs); \
	else echo 'no Go, so no etcd $(etcd_version): comparisons use an installed etcd 3.4 (Debian: etcd-server, etcd-client), or are left out'; fi

$(reference)/etcd: package := go.etcd.io/etcd/server/v3
$(reference)/etcdctl: package := go.etcd.io/etcd/etcdctl/v3
$(reference)/etcdutl: package := go.etcd.io/etcd/etcdutl/v3
$(reference)/bbolt: package := go.etcd.io/bbolt/cmd/bbolt

$(programs): tests/reference/go.mod
	cd tests/reference && go build -o $(CURDIR)/$@ $(package)
