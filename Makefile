# Needs Rust (rustup), Go, a C compiler and make; everything else is fetched from package registries, pinned.
# CARGO_TARGET_DIR is honoured. Targets run one after the other: two cargo builds at once only fight over the cores.
.NOTPARALLEL:
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CARGO ?= cargo
MACHINE := $(shell uname -m)
MUSL := $(MACHINE)-unknown-linux-musl
# The name is the one that container builds give the architecture.
ARCH ?= $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(MACHINE)))

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: test
test: control-plane peers ## All tests: units, simulated world, real binary, real Kubernetes API server, real monitoring
	$(CARGO) test --locked

.PHONY: control-plane
control-plane: ## Build etcd, kube-apiserver, kube-controller-manager and kubectl once (or take KUBEBUILDER_ASSETS)
	@folder=$$(tests/controlplane/build.sh); echo "control plane of the tests: $$folder"
	@[[ -x $${KUBEBUILDER_ASSETS:-none}/kubectl ]] || env -u KUBEBUILDER_ASSETS tests/controlplane/build.sh kubectl >/dev/null

.PHONY: peers
peers: ## Build Prometheus, Alertmanager, a collector, Helm and linters once, for the tests of monitoring/ and chart/
	@for group in prometheus alertmanager otelcol helm actionlint; do \
		folder=$$(tests/tools/build.sh $$group); echo "$$group of the tests: $$folder"; done

.PHONY: bench
# ring and psm hold C and assembly. Without musl-gcc the machine's own compiler does: they use no libc beyond headers.
bench: release control-plane ## Measure the release binary; ONLY="fence idle" for some figures, WRITE=1 for docs/figures.md
	variable=CC_$(subst -,_,$(MUSL)); \
	if [[ -z $${!variable:-} ]] && ! command -v musl-gcc >/dev/null; then export $$variable=cc; fi; \
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
release: ## Build the static binary into dist/<arch>/; ARCH=amd64 or arm64, this machine's by default
	.ci/build-release $(ARCH)

.PHONY: release-all
release-all: ## Build it for every architecture
	.ci/build-release amd64
	.ci/build-release arm64

.PHONY: reproduce
reproduce: release ## Build it once more in another place and compare the bytes; ARCH as for release
	.ci/reproduce $(ARCH)

.PHONY: image
image: release-all ## Build the image for both architectures from dist/, look into it and run it (podman)
	tests/image/test.sh

.PHONY: third-party
third-party: ## Write THIRD-PARTY, the licences of what is in the binary
	.ci/third-party write

.PHONY: sbom
sbom: ## Write dist/spotwarden.cdx.json, the list of what is in the binary (CycloneDX)
	.ci/sbom

.PHONY: version
version: ## Print the version; VERSION=1.2.3 changes it everywhere
	@.ci/version $(if $(VERSION),set $(VERSION))

.PHONY: ci
ci: ## What CI runs
	bash .ci/run
