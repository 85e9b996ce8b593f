#   docker build -t spotwarden:0.1.0 .                                    compiles inside
#   docker build --build-context build=dist -t spotwarden:0.1.0 .         takes dist/<arch>/, which `make release` fills
#
# The stage `build` holds nothing but /<arch>/spotwarden, so that a folder can stand in for it; the compiling stage and
# its base image are then not even fetched.

# The version is the one of rust-toolchain.toml; a test compares them.
ARG RUST_VERSION=1.95.0
FROM --platform=$BUILDPLATFORM docker.io/library/rust:${RUST_VERSION}-slim-trixie AS compile
ARG TARGETARCH
WORKDIR /src
# For the pinned C compiler, which comes from PyPI and knows both architectures; which Python installs it changes nothing.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# Tools stay in the cache between builds; they are pinned by version and, from PyPI, by hash.
ENV XDG_CACHE_HOME=/cache
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/cache \
    --mount=type=cache,target=/src/target,id=spotwarden-target-${TARGETARCH} \
    .ci/build-release "${TARGETARCH}"

FROM scratch AS build
COPY --from=compile /src/dist/ /

FROM scratch AS final
ARG TARGETARCH
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="spotwarden" \
      org.opencontainers.image.description="Fences and drains one EKS spot node against its interruption deadline" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --chmod=0444 LICENSE THIRD-PARTY /licenses/
COPY --from=build --chmod=0555 /${TARGETARCH}/spotwarden /spotwarden
# A number, so that the kubelet can verify runAsNonRoot without a passwd file.
USER 65532:65532
EXPOSE 9808
ENTRYPOINT ["/spotwarden"]
CMD ["run"]
