#!/usr/bin/env bash
# Runs cargo-deny on the dependency tree with deny.toml.
#
#   scripts/deny.sh [CHECK...]     default: bans licenses sources. `advisories` fetches the RustSec database and so needs its network
#
# cargo-deny is taken from the PATH where its version is the one wanted, else from the cache
# ${RETENTION_OPERATOR_CACHE:-${XDG_CACHE_HOME:-~/.cache}/retention-operator}, where it is installed once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VERSION=0.20.2

say() { printf '[deny +%ds] %s\n' "$SECONDS" "$*" >&2; }

# has_version PROGRAM: the program runs and is of the version wanted.
has_version() {
  [[ $("$1" --version 2>/dev/null) == "cargo-deny $VERSION" ]]
}

# install_into DIR: an unoptimised build: the release profile of cargo-deny (one unit, fat LTO) costs minutes more than the check.
install_into() {
  local dir=$1 started=$SECONDS
  say "installing cargo-deny $VERSION into $dir (once; minutes on a small machine)"
  log=$(mktemp)
  build=$(mktemp -d)
  ticker=
  trap '[[ -z $ticker ]] || kill "$ticker" 2>/dev/null || true; rm -rf "$log" "$build"' EXIT
  trap 'exit 130' INT TERM HUP
  (
    exec {lock}>&-
    while sleep 15; do say "… building cargo-deny: $(grep -c '^ *Compiling ' "$log" || true) crates so far"; done
  ) &
  ticker=$!
  CARGO_TARGET_DIR=$build CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --locked --debug --root "$dir" --version "$VERSION" cargo-deny >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    say "installing cargo-deny $VERSION failed"
    exit 1
  }
  kill "$ticker"
  ticker=
  say "cargo-deny $VERSION installed in $((SECONDS - started)) s"
}

checks=("$@")
((${#checks[@]} > 0)) || checks=(bans licenses sources)

program=$(command -v cargo-deny || true)
if [[ -z $program ]] || ! has_version "$program"; then
  dir=${RETENTION_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/retention-operator}/cargo-deny-$VERSION
  program=$dir/bin/cargo-deny
  mkdir -p "$dir"
  exec {lock}>"$dir/.lock"
  flock --nonblock "$lock" || { say "waiting for another run that installs cargo-deny"; flock "$lock"; }
  has_version "$program" || install_into "$dir"
  exec {lock}>&-
fi

"$program" --all-features --locked check --hide-inclusion-graph "${checks[@]}"
