#!/usr/bin/env bash
# Builds the control plane that the tests run against and prints the folder that holds it.
#
#   tests/controlplane/build.sh            etcd, kube-apiserver, kube-controller-manager
#   tests/controlplane/build.sh kubectl    the same and kubectl
#
# Standard output is the folder and nothing else, so that a caller can use it as is; progress and errors go to standard
# error. The script never skips: it prints a folder with all binaries or fails with the reason.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
needed=(etcd kube-apiserver kube-controller-manager)
for extra in "$@"; do
  case $extra in
    kubectl) needed+=("$extra") ;;
    *)
      echo "build.sh: unknown argument '$extra'; the only one known is 'kubectl'" >&2
      exit 2
      ;;
  esac
done

fail() {
  printf 'build.sh: %s\n' "$@" >&2
  exit 1
}

# The first needed binary that is not in folder $1; nothing when all are there.
first_missing() {
  local name
  for name in "${needed[@]}"; do
    if [[ ! -f $1/$name || ! -x $1/$name ]]; then
      echo "$name"
      return
    fi
  done
}

if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
  missing=$(first_missing "$KUBEBUILDER_ASSETS")
  # setup-envtest is the usual source of such a folder and does not ship kube-controller-manager.
  [[ -z $missing ]] || fail \
    "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS holds no executable '$missing'." \
    "The tests need all of: ${needed[*]} (setup-envtest brings no kube-controller-manager)." \
    "Add it to that folder, or unset KUBEBUILDER_ASSETS to have everything built from the pinned modules."
  # Absolute, as the programs are started from another folder.
  (cd -- "$KUBEBUILDER_ASSETS" && pwd)
  exit 0
fi

cd -- "$here"
wanted=$(sed -n 's/^go \([0-9.]*\)$/\1/p' go.mod)
remedy="Install Go $wanted or newer (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder with: ${needed[*]}."
command -v go >/dev/null || fail \
  "the Go toolchain ('go') is not installed." \
  "The tests run against a real Kubernetes API server, built once from the pinned modules in tests/controlplane/go.mod." \
  "$remedy"
# Asked inside the module, where a toolchain that may fetch a newer one of itself does so. One that may not refuses to
# answer there, but does elsewhere.
have=$(go env GOVERSION 2>/dev/null || { cd / && GOTOOLCHAIN=local go env GOVERSION; })
if [[ $(printf '%s\n' "$wanted" "${have#go}" | sort -V | head -n 1) != "$wanted" ]]; then
  fail "the Go toolchain is too old: $have, but tests/controlplane/go.mod needs $wanted." "$remedy"
fi

# A caller may be cross building the agent; the control plane runs on this machine.
unset GOOS GOARCH
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off

cache=${XDG_CACHE_HOME:-${HOME:?neither XDG_CACHE_HOME nor HOME is set: no folder to keep the control plane in}/.cache}/spotwarden
# Everything that decides what comes out, so that a change of it is a new folder.
pins=$({ cat go.mod go.sum build.sh && go version; } | sha256sum | cut -c 1-16)
out=$cache/controlplane-$pins
if [[ -z $(first_missing "$out") ]]; then
  echo "$out"
  exit 0
fi

mkdir -p -- "$cache"
command -v flock >/dev/null || fail \
  "'flock' is not installed; it keeps two builds out of each other's way." "Install util-linux."
exec 9>"$cache/controlplane.lock"
if ! flock --nonblock 9; then
  echo "build.sh: another build of the control plane is running, waiting for it" >&2
  flock 9
fi

# The lock is held: whatever has this name was left behind by a build that was killed.
rm -rf -- "$cache"/.controlplane-build.*
work=$(mktemp -d "$cache/.controlplane-build.XXXXXX")
trap 'rm -rf -- "$work"' EXIT

# $1: binary, $2: package. Into the temporary folder.
build() {
  [[ -x $out/$1 ]] && return
  local begin=$SECONDS
  echo "build.sh: building $1 (once for these pins)" >&2
  go build -trimpath -ldflags "-s -w $stamp" -o "$work/$1" "$2" >&2 || fail \
    "building $1 failed; go's own message is above." \
    "Modules are downloaded on the first build: check that GOPROXY ($(go env GOPROXY)) can be reached." \
    "Or set KUBEBUILDER_ASSETS to a folder with: ${needed[*]}."
  echo "build.sh: $1 took $((SECONDS - begin)) s" >&2
}

# Without the stamp the server does not know its own version.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
stamp=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  stamp+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
  stamp+=" -X $package.gitTreeState=clean"
done

for name in "${needed[@]}"; do
  case $name in
    etcd) build "$name" go.etcd.io/etcd/server/v3 ;;
    *) build "$name" "k8s.io/kubernetes/cmd/$name" ;;
  esac
done

# A folder under its final name is complete; a later binary joins it by a rename, which nobody sees half done.
chmod 0755 "$work"
if [[ -d $out ]]; then
  for built in "$work"/*; do
    [[ -e $built ]] && mv -- "$built" "$out/"
  done
else
  mv -- "$work" "$out"
fi
echo "$out"
