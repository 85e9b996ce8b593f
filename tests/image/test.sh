#!/usr/bin/env bash
# Builds the image for amd64 and arm64 from dist/<arch>/spotwarden (`make release-all`), looks into it, and runs it as a
# node would: numeric user, read-only root, no capability, no new privileges, a seccomp filter. No image is pulled.
#
# Needs root, podman and qemu-user-static (Debian's names); with CI=true it becomes root by sudo and installs them by apt-get.
# Exit status 3: it cannot run here, with the reason on the last line.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

readonly size_budget=$((8 * 1000 * 1000))
readonly architectures=(amd64 arm64)
version=$(.ci/version)

fail() {
  printf 'image: %s\n' "$@" >&2
  exit 1
}

# $1: the reason.
cannot() {
  printf 'image: %s\n' "$1" >&2
  exit 3
}

if (($(id -u) != 0)); then
  if [[ ${CI:-} != true ]] || ! sudo --non-interactive true 2>/dev/null; then
    cannot "not root: run it as root (sudo tests/image/test.sh)"
  fi
  exec sudo --non-interactive CI=true "$PWD/tests/image/test.sh"
fi
missing=()
command -v podman >/dev/null || missing+=(podman)
command -v runc >/dev/null || command -v crun >/dev/null || missing+=(runc)
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
if ((${#missing[@]} > 0)); then
  if [[ ${CI:-} != true ]] || ! command -v apt-get >/dev/null; then
    cannot "missing: apt-get install ${missing[*]}"
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
for arch in "${architectures[@]}"; do
  [[ -f dist/$arch/spotwarden ]] || fail "dist/$arch/spotwarden is missing: run 'make release-all' first"
done

scratch=$(mktemp -d)
# A store of its own: nothing that is there already can stand in for an image that would be pulled, and nothing is left.
# runc, where it is installed, since it runs on machines whose control groups crun refuses.
podman=(podman --root "$scratch/store" --runroot "$scratch/run" --storage-driver vfs --cgroup-manager cgroupfs)
if command -v runc >/dev/null; then podman+=(--runtime runc); fi
finish() {
  "${podman[@]}" rm --force --all --time 0 >/dev/null 2>&1 || true
  "${podman[@]}" image unmount --all >/dev/null 2>&1 || true
  rm -rf -- "$scratch"
}
trap finish EXIT

# $1: architecture, $2: tag.
build() {
  "${podman[@]}" build --quiet --pull=never --no-cache --isolation chroot --timestamp 0 --platform "linux/$1" \
    --build-context build=dist --build-arg VERSION="$version" --build-arg REVISION=test --target final --tag "$2" .
}

# $1: what, $2: expected, $3: found.
same() {
  [[ $2 == "$3" ]] || fail "$1: expected" "$2" "but found" "$3"
}

# $1: tag, $2: format.
image() { "${podman[@]}" image inspect --format "$2" "$1"; }

# $1: tag.
tree() {
  local root
  root=$("${podman[@]}" image mount "$1")
  (cd -- "$root" && find . -mindepth 1 -printf '%P %m %U:%G\n' | LC_ALL=C sort)
  "${podman[@]}" image unmount "$1" >/dev/null
}

inspect() {
  local arch=$1 tag=$2 size
  same "$arch: platform" "linux/$arch" "$(image "$tag" '{{.Os}}/{{.Architecture}}')"
  same "$arch: user" 65532:65532 "$(image "$tag" '{{.User}}')"
  same "$arch: entrypoint" '["/spotwarden"]' "$(image "$tag" '{{json .Config.Entrypoint}}')"
  same "$arch: command" '["run"]' "$(image "$tag" '{{json .Config.Cmd}}')"
  same "$arch: port" '{"9808/tcp":{}}' "$(image "$tag" '{{json .Config.ExposedPorts}}')"
  same "$arch: label of the version" "$version" "$(image "$tag" '{{index .Labels "org.opencontainers.image.version"}}')"
  same "$arch: label of the revision" test "$(image "$tag" '{{index .Labels "org.opencontainers.image.revision"}}')"
  same "$arch: label of the licence" Apache-2.0 "$(image "$tag" '{{index .Labels "org.opencontainers.image.licenses"}}')"
  same "$arch: files" "licenses 755 0:0
licenses/LICENSE 444 0:0
licenses/THIRD-PARTY 444 0:0
spotwarden 555 0:0" "$(tree "$tag")"
  size=$(image "$tag" '{{.Size}}')
  echo "image: $arch: $size bytes of $size_budget, uncompressed"
  ((size <= size_budget)) || fail "$arch: the image is over its budget"
  same "$arch: second build" "$(image "$tag" '{{.Id}}')" "$(build "$arch" "$tag-again")"
}

# What the DaemonSet asks of the kubelet, on the host's network. The limits are those of most machines; the engine's own are
# above what a container in a container may set.
confined=(--rm --timeout 300 --pull never --read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges
  --network host --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)

# $1: what, the rest: the command, which has to succeed and to print $2 somewhere.
prints() {
  local what=$1 expected=$2 output
  shift 2
  output=$("$@" 2>&1) || fail "$what: exit status $?:" "$output"
  [[ $output == *"$expected"* ]] || fail "$what: '$expected' is not in" "$output"
  echo "image: $what: ok"
}

# $1: tag. What the kernel says of the process, not what was asked for.
confinement() {
  local container pid status
  container=$("${podman[@]}" run --detach "${confined[@]}" "$1" simulate --serve)
  pid=$("${podman[@]}" inspect --format '{{.State.Pid}}' "$container")
  for _ in {1..50}; do
    # The runtime's own start process has the number first.
    [[ $(readlink "/proc/$pid/exe") == */spotwarden ]] && break
    sleep 0.1
  done
  status=$(sed -nE 's/^(Uid|Gid|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):\s+(\S+).*/\1=\2/p' "/proc/$pid/status" | tr '\n' ' ')
  same "confinement" "Uid=65532 Gid=65532 CapPrm=0000000000000000 CapEff=0000000000000000 CapBnd=0000000000000000 \
CapAmb=0000000000000000 NoNewPrivs=1 Seccomp=2 " "$status"
  same "root file system" ro "$(awk '$5 == "/" { split($6, options, ","); print options[1] }' "/proc/$pid/mountinfo")"
  "${podman[@]}" kill "$container" >/dev/null
  echo "image: amd64: $status, root read-only: ok"
}

for arch in "${architectures[@]}"; do
  build "$arch" "localhost/spotwarden:$arch" >/dev/null
  inspect "$arch" "localhost/spotwarden:$arch"
done

case $(uname -m) in
  x86_64) native=amd64 foreign=arm64 emulator=qemu-aarch64-static ;;
  aarch64) native=arm64 foreign=amd64 emulator=qemu-x86_64-static ;;
  *) cannot "no recipe for $(uname -m)" ;;
esac

# $1: architecture, the rest: arguments of the program.
container() {
  if [[ $1 == "$native" ]]; then
    "${podman[@]}" run "${confined[@]}" "localhost/spotwarden:$1" "${@:2}"
  else
    "${podman[@]}" run "${confined[@]}" --volume "$(command -v "$emulator"):/$emulator:ro" --entrypoint "/$emulator" \
      "localhost/spotwarden:$1" /spotwarden "${@:2}"
  fi
}

for arch in "$native" "$foreign"; do
  prints "$arch: --version" "spotwarden $version" container "$arch" --version
  prints "$arch: check --help" "--output" container "$arch" check --help
  prints "$arch: simulate" " passed" container "$arch" simulate --speed max
done
confinement "localhost/spotwarden:$native"
# Without arguments it is the agent, which refuses to start without a node's name.
if output=$(timeout 60 "${podman[@]}" run "${confined[@]}" "localhost/spotwarden:$native" 2>&1); then
  fail "the agent started without a node"
fi
[[ $output == *NODE_NAME* ]] || fail "the command of the image is not the agent:" "$output"
echo "image: all passed"
