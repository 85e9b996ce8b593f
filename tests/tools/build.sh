#!/usr/bin/env bash
# Builds the programs that the tests of the monitoring files, the chart and the workflows run, and prints the folder that
# holds them.
#
#   tests/tools/build.sh prometheus            prometheus and promtool
#   tests/tools/build.sh alertmanager          alertmanager and amtool
#   tests/tools/build.sh otelcol               an OpenTelemetry collector
#   tests/tools/build.sh helm                  helm3, helm4 and helm-docs; in crds/ the Prometheus operator's definitions
#   tests/tools/build.sh actionlint            the linter of GitHub workflows
#   tests/tools/build.sh --no-build GROUP      the folder, or a failure if it was not built yet
#
# Standard output is the folder and nothing else, so that a caller can use it as is; progress and errors go to standard
# error. The script never skips: it prints a folder with all binaries of the group or fails with the reason.
set -euo pipefail

fail() {
  printf 'build.sh: %s\n' "$@" >&2
  exit 1
}

may_build=true
if [[ ${1:-} == --no-build ]]; then
  may_build=false
  shift
fi
group=${1:-}
case $group in
  prometheus) needed=(promtool prometheus) ;;
  alertmanager) needed=(amtool alertmanager) ;;
  otelcol) needed=(otelcol) ;;
  helm) needed=(helm-docs helm3 helm4) ;;
  actionlint) needed=(actionlint) ;;
  *)
    echo "usage: build.sh [--no-build] prometheus|alertmanager|otelcol|helm|actionlint" >&2
    exit 2
    ;;
esac

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd -- "$here/$group"
wanted=$(sed -n 's/^go \([0-9.]*\)$/\1/p' go.mod)
remedy="Install Go $wanted or newer (https://go.dev/dl)."
command -v go >/dev/null || fail \
  "the Go toolchain ('go') is not installed." \
  "The tests run against a real ${needed[-1]}, built once from the modules pinned in tests/tools/$group." "$remedy"
# Asked inside the module, where a toolchain that may fetch a newer one of itself does so. One that may not refuses to
# answer there, but does elsewhere.
have=$(go env GOVERSION 2>/dev/null || { cd / && GOTOOLCHAIN=local go env GOVERSION; })
if [[ $(printf '%s\n' "$wanted" "${have#go}" | sort -V | head -n 1) != "$wanted" ]]; then
  fail "the Go toolchain is too old: $have, but tests/tools/$group/go.mod needs $wanted." "$remedy"
fi

# A caller may be cross building the agent; these programs run on this machine.
unset GOOS GOARCH
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off

cache=${XDG_CACHE_HOME:-${HOME:?neither XDG_CACHE_HOME nor HOME is set: no folder to keep the programs in}/.cache}/spotwarden
# Everything that decides what comes out, so that a change of it is a new folder.
pins=$({ cat -- * ../build.sh && go version; } | sha256sum | cut -c 1-16)
out=$cache/$group-$pins

complete() {
  local name
  for name in "${needed[@]}"; do
    [[ -f $out/$name && -x $out/$name ]] || return 1
  done
}

if complete; then
  echo "$out"
  exit 0
fi
$may_build || fail "$out is missing: run 'make peers' once, which builds ${needed[*]} from pinned modules."

mkdir -p -- "$cache"
command -v flock >/dev/null || fail \
  "'flock' is not installed; it keeps two builds out of each other's way." "Install util-linux."
exec 9>"$cache/$group.lock"
if ! flock --nonblock 9; then
  echo "build.sh: another build of $group is running, waiting for it" >&2
  flock 9
fi
if complete; then
  echo "$out"
  exit 0
fi

# The lock is held: whatever has this name was left behind by a build that was killed.
rm -rf -- "$cache/.$group-build".*
work=$(mktemp -d "$cache/.$group-build.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
mkdir -- "$work/out"

unbuilt() {
  fail "building $1 failed; go's own message is above." \
    "Modules are downloaded on the first build: check that GOPROXY ($(go env GOPROXY)) can be reached."
}

# Where the module cache has module $1, in the version of go.mod.
folder_of() {
  go mod download "$1" >&2 || unbuilt "$1"
  go list -m -f '{{.Dir}}' "$1"
}

# $1: binary, $2: package of the module in the current folder; what follows goes to go build.
build() {
  local begin=$SECONDS name=$1 package=$2
  shift 2
  echo "build.sh: building $name (once for these pins)" >&2
  go build -trimpath -buildvcs=false -ldflags "-s -w ${link:-}" "$@" -o "$work/out/$name" "$package" >&2 || unbuilt "$name"
  echo "build.sh: $name took $((SECONDS - begin)) s" >&2
}

# Service discovery is most of what these link; the shipped files use that of Kubernetes alone.
tags=(-tags "remove_all_sd,enable_kubernetes_sd")
case $group in
  # Built inside their own modules, so that what they pin, replace and exclude themselves holds. Their go.sum belongs to
  # the module, whose hash is in ours.
  prometheus)
    cd -- "$(folder_of github.com/prometheus/prometheus)"
    for name in "${needed[@]}"; do
      build "$name" "./cmd/$name" "${tags[@]}"
    done
    ;;
  alertmanager)
    # The module is published without the built pages of its user interface, and embeds them.
    cp -r -- "$(folder_of github.com/prometheus/alertmanager)" "$work/source"
    chmod -R u+w "$work/source"
    mkdir -p -- "$work/source/ui/app/dist"
    echo '<!doctype html>' >"$work/source/ui/app/dist/index.html"
    cd -- "$work/source"
    for name in "${needed[@]}"; do
      build "$name" "./cmd/$name"
    done
    ;;
  otelcol) build otelcol . "${tags[@]}" ;;
  helm)
    mkdir -- "$work/out/crds"
    cp -- "$(folder_of github.com/prometheus-operator/prometheus-operator)"/example/prometheus-operator-crd/*.yaml "$work/out/crds/"
    chmod -R u+w "$work/out/crds"
    (cd -- "$(folder_of github.com/norwoodj/helm-docs)" && build helm-docs ./cmd/helm-docs)
    for major in 3 4; do
      module=helm.sh/helm/v$major
      # Without a version of its own helm would call itself an unreleased one.
      link="-X $module/internal/version.version=$(go list -m -f '{{.Version}}' "$module")"
      (cd -- "$(folder_of "$module")" && build "helm$major" ./cmd/helm)
    done
    ;;
  actionlint)
    cd -- "$(folder_of github.com/rhysd/actionlint)"
    build actionlint ./cmd/actionlint
    ;;
esac

chmod 0755 "$work/out"
rm -rf -- "$out"
mv -- "$work/out" "$out"
echo "$out"
