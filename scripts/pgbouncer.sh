#!/usr/bin/env bash
# Finds PgBouncer and prints its path, the only line on standard output: $PGBOUNCER, the PATH, /usr/sbin. Where it is missing
# and this runs as root on Debian or Ubuntu, the package pgbouncer is installed; its service is not started.
set -euo pipefail
# shellcheck source=scripts/apt.sh
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

# print_if_found: prints the path and ends the script. An unprivileged user's PATH often lacks the sbin directories.
print_if_found() {
  if PATH=$PATH:/usr/local/sbin:/usr/sbin command -v "${PGBOUNCER:-pgbouncer}"; then exit 0; fi
}

print_if_found
if [[ -z ${PGBOUNCER:-} ]] && apt_install pgbouncer; then print_if_found; fi
printf 'pgbouncer: not found: install PgBouncer, or set PGBOUNCER to its path\n' >&2
exit 1
