#!/usr/bin/env bash
# Renders every cluster into the folder $1, one file each, as Argo CD does it; fails where one does not build, or would bring
# a Secret that is not sealed.
set -euo pipefail

out=${1:?usage: render.sh FOLDER}
mkdir -p -- "$out"
out=$(cd -- "$out" && pwd)
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
for cluster in clusters/*/; do
  file=$out/$(basename -- "$cluster").yaml
  kubectl kustomize "$cluster" >"$file"
  if grep -q '^kind: Secret$' "$file"; then
    echo "render.sh: $cluster holds a Secret in clear; seal it with kubeseal" >&2
    exit 1
  fi
  echo "$file"
done
