#!/usr/bin/env bash
# Writes the files that are generated from the code, or checks that they are what the code says.
#
#   scripts/generate.sh            write
#   scripts/generate.sh --check    compare only; names what differs and fails
#
# The Rust types make the CustomResourceDefinition. The chart and the kustomize base carry copies: neither Helm nor kustomize reads
# files outside of its own directory. docs/api.md is written by a unit test, which also compares it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check=no
case ${1:-} in
  '') ;;
  --check) check=yes ;;
  *) printf 'generate: unknown argument %s\n' "$1" >&2; exit 1 ;;
esac

readonly COPIES=(
  crds/retentionpolicies.retention-operator.io.yaml
  charts/retention-operator/files/crd.yaml
  deploy/crd.yaml
)

definition=$(mktemp)
trap 'rm -f "$definition"' EXIT
cargo run --locked --quiet -- crd >"$definition"

stale=()
for copy in "${COPIES[@]}"; do
  if cmp --silent "$definition" "$copy"; then continue; fi
  stale+=("$copy")
  if [[ $check == yes ]]; then
    diff --unified=1 "$copy" "$definition" | head -n 40 >&2 || true
  else
    mkdir -p "${copy%/*}"
    cp "$definition" "$copy"
    chmod 644 "$copy"
    printf 'wrote %s\n' "$copy"
  fi
done

if [[ $check == yes && ${#stale[@]} -gt 0 ]]; then
  printf 'not what the code generates: %s. Run `make generate` and commit the result\n' "${stale[*]}" >&2
  exit 1
fi

if [[ $check == yes ]]; then
  cargo test --locked --quiet --lib api::reference >&2
else
  UPDATE_GENERATED=1 cargo test --locked --quiet --lib api::reference >/dev/null
  printf 'wrote docs/api.md\n'
fi
