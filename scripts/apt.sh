# shellcheck shell=bash
# Sourced by the scripts that find database servers. Standard output is theirs; everything here speaks on standard error.

# apt_install PACKAGE...: installs Debian packages without letting their services start: the tests and the demo run servers of
# their own, as ordinary processes. Returns 1 where that cannot be done here: no apt-get, or not root.
apt_install() {
  command -v apt-get >/dev/null && [[ $(id -u) == 0 ]] || return 1
  printf 'installing the Debian packages %s (their services are not started)\n' "$*" >&2

  # invoke-rc.d and deb-systemd-invoke both ask this file before they start anything; one that is there already stays.
  local policy=/usr/sbin/policy-rc.d own_policy='' status=0
  if [[ ! -e $policy ]]; then
    own_policy=$policy
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    # shellcheck disable=SC2064 # the path as it is now
    trap "rm -f '$policy'" EXIT
  fi
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  # A fresh container image has no package lists; a machine with stale ones gets them refreshed after the first failure.
  "${apt[@]}" install --yes --no-install-recommends "$@" >/dev/null 2>&1 ||
    { "${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends "$@"; } >&2 || status=1
  [[ -z $own_policy ]] || rm -f "$own_policy"
  return "$status"
}
