# syntax=docker/dockerfile:1
#
#   docker build -t spotwarden:0.1.0 .                                    compiles inside
#   docker build --build-context build=dist -t spotwarden:0.1.0 .         takes dist/<arch>/, which `make release` fills
#
# The stage `build` holds nothing but /<arch>/spotwarden, so that a folder can stand in for it; the compiling stage and
# its base image are then not even fetched.

# The version is the one of rust-toolchain.toml; a test compares them.
ARG RUST_VERSION=1.95.0
FROM --platform=$BUILDPLATFORM docker.io/library/rust:${RUST_VERSION}-slim-trixie AS compile
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /src
# ring and psm hold C and assembly: a compiler for the target, none of its libraries. The image has one for its own
# architecture, for the other it is installed. Which patch release it is changes nothing here. rust-lld, which comes with
# Rust, links.
# hadolint ignore=DL3008
RUN case "${BUILDARCH}-${TARGETARCH}" in \
      amd64-arm64) set -- gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;; \
      arm64-amd64) set -- gcc-x86-64-linux-gnu libc6-dev-amd64-cross ;; \
      *) set -- ;; \
    esac \
    && if [ "$#" -gt 0 ]; then \
      apt-get update \
      && apt-get install -y --no-install-recommends "$@" \
      && rm -rf /var/lib/apt/lists/*; \
    fi
ENV CC_x86_64_unknown_linux_musl=x86_64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=spotwarden-target-${TARGETARCH} \
    case "${TARGETARCH}" in \
      amd64) triple=x86_64-unknown-linux-musl ;; \
      arm64) triple=aarch64-unknown-linux-musl ;; \
      *) echo "no recipe for the architecture '${TARGETARCH}'; there are amd64 and arm64" >&2; exit 1 ;; \
    esac \
    && rustup target add "${triple}" \
    && cargo build --locked --config .cargo/release.toml --release --target "${triple}" \
    && install -D -m 0555 "target/${triple}/release/spotwarden" "/out/${TARGETARCH}/spotwarden"

FROM scratch AS build
COPY --from=compile /out/ /

FROM scratch AS final
ARG TARGETARCH
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="spotwarden" \
      org.opencontainers.image.description="Fences and drains one EKS spot node against its interruption deadline" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /licenses/LICENSE
COPY --from=build --chmod=0555 /${TARGETARCH}/spotwarden /spotwarden
# A number, so that the kubelet can verify runAsNonRoot without a passwd file.
USER 65532:65532
EXPOSE 9808
ENTRYPOINT ["/spotwarden"]
CMD ["run"]
