#!/usr/bin/env bash
# Finds PostgreSQL's server programs, and prints their directory.
#
#   scripts/postgres.sh [PROGRAM...]     default: initdb postgres psql pgbench
#
# The directory is the only line on standard output. Looked up in this order: $PG_BIN, `pg_config --bindir`, the newest
# /usr/lib/postgresql/*/bin, the PATH. Where all of them lack a PROGRAM and this runs as root on Debian or Ubuntu, the packages
# postgresql and postgresql-contrib are installed; no system cluster is started.
set -euo pipefail
# shellcheck source=scripts/apt.sh
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

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
