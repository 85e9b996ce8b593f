# Needs Rust (rustup), Go, a C compiler and make; everything else is fetched from package registries, pinned.
# CARGO_TARGET_DIR is honoured. Targets run one after the other: two cargo builds at once only fight over the cores.
.NOTPARALLEL:
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
MACHINE := $(shell uname -m)
MUSL := $(MACHINE)-unknown-linux-musl
# The folder's name is the one that container builds give the architecture.
ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(MACHINE)))

# ring and psm hold C and assembly. Without musl-gcc the machine's own compiler does: they use no libc beyond headers.
CC_VARIABLE := CC_$(subst -,_,$(MUSL))
ifeq ($(origin $(CC_VARIABLE)),undefined)
ifeq ($(shell command -v musl-gcc),)
export $(CC_VARIABLE) := cc
endif
endif

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: test
test: control-plane peers ## All tests: units, simulated world, real binary, real Kubernetes API server, real monitoring
	$(CARGO) test --locked

.PHONY: control-plane
control-plane: ## Build etcd, kube-apiserver and kube-controller-manager once (or take KUBEBUILDER_ASSETS)
	@folder=$$(tests/controlplane/build.sh); echo "control plane of the tests: $$folder"

.PHONY: peers
peers: ## Build Prometheus, Alertmanager, a collector, Helm and linters once, for the tests of monitoring/ and chart/
	@for group in prometheus alertmanager otelcol helm actionlint; do \
		folder=$$(tests/tools/build.sh $$group); echo "$$group of the tests: $$folder"; done

.PHONY: bench
bench: release control-plane ## Measure the release binary; ONLY="fence idle" for some figures, WRITE=1 for docs/figures.md
	decisions=$$($(CARGO) bench --locked --target $(MUSL) --bench decisions --no-run \
		--message-format json-render-diagnostics | sed -n '/"name":"decisions"/s/.*"executable":"\([^"]*\)".*/\1/p'); \
	$(CARGO) bench --locked --profile dev --bench figures -- --binary dist/$(ARCH)/spotwarden \
		--decisions "$$decisions" $(if $(WRITE),--write) $(ONLY)

.PHONY: fmt
fmt: ## Format the sources
	$(CARGO) fmt --all

.PHONY: lint
lint: ## Formatting, clippy and documentation, warnings being errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

.PHONY: release
release: musl-target ## Build the static binary into dist/
	$(CARGO) build --locked --config .cargo/release.toml --release --target $(MUSL)
	install -D -m 0755 $(TARGET_DIR)/$(MUSL)/release/spotwarden dist/$(ARCH)/spotwarden
	@ls -l dist/$(ARCH)/spotwarden

.PHONY: musl-target
musl-target:
	@rustup target list --installed | grep -qx $(MUSL) || rustup target add $(MUSL)

.PHONY: ci
ci: ## What CI runs
	bash .ci/run
