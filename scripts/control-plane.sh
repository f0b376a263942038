#!/usr/bin/env bash
# Makes the Kubernetes binaries available that the tests and the demo run for real, and prints their directory.
#
#   scripts/control-plane.sh [TOOL...]     TOOL: kube-apiserver etcd kubectl helm kubeconform (default: all)
#
# The directory is the only line on standard output; progress goes to standard error. Looked up in this order:
#   1. $KUBEBUILDER_ASSETS, where it holds every TOOL asked for (ask for helm in a call of its own: it is rarely there)
#   2. the cache: ${RETENTION_OPERATOR_CACHE:-${XDG_CACHE_HOME:-~/.cache}/retention-operator}/<versions>/bin
#   3. built from Go modules into that cache; needs Go and, once, a few minutes
# Two runs at the same time do not collide: the second one waits and finds the work done.
set -euo pipefail
exec 3>&1 1>&2

readonly KUBERNETES=v1.36.3 ETCD=v3.6.16 HELM=v4.3.1 KUBECONFORM=v0.8.0
readonly GO_NEEDED=1.26
readonly ALL_TOOLS=(kube-apiserver etcd kubectl helm kubeconform)

say() { printf '[control-plane +%ds] %s\n' "$SECONDS" "$*"; }
die() { printf 'control-plane: %s\n' "$*"; exit 1; }

# has_all DIR TOOL...: every tool is there and executable.
has_all() {
  local dir=$1 tool
  shift
  for tool in "$@"; do
    [[ -x $dir/$tool ]] || return 1
  done
}

require_go() {
  command -v go >/dev/null ||
    die "Go is needed to build ${missing[*]}: install Go $GO_NEEDED or newer (https://go.dev/dl), or point KUBEBUILDER_ASSETS at a directory that holds them"
  local version oldest
  version=$(cd / && go env GOVERSION)
  version=${version#go}
  oldest=$(printf '%s\n%s\n' "$GO_NEEDED" "${version%%[- ]*}" | sort -V | head -n 1)
  # A Go that may fetch a newer toolchain by itself does so when it reads the module's go.mod.
  if [[ $oldest != "$GO_NEEDED" && $(go env GOTOOLCHAIN) == local ]]; then
    die "Go $version is too old to build ${missing[*]}: install Go $GO_NEEDED or newer, or allow it to fetch one with GOTOOLCHAIN=auto"
  fi
}

# module_field MODULE@VERSION FIELD: a field of `go mod download -json`, fetching the module where it is not there yet.
module_field() {
  (cd "$work" && go mod download -json "$1") | sed -n "s/^[[:space:]]*\"$2\": \"\(.*\)\",\{0,1\}$/\1/p"
}

# own_go_mod DIR: prints the module's go.mod so that it builds outside its repository: replacements by a sibling directory
# fall away (the released versions named by `require` are the same code), Kubernetes' own modules get the version of the release.
own_go_mod() {
  awk -v staging="v0.${KUBERNETES#v1.}" '
    /=> *\.\.?\// {
      prefix = ($1 == "replace") ? "replace " : ""
      path = ($1 == "replace") ? $2 : $1
      if (path ~ /^k8s\.io\//) print prefix path " => " path " " staging
      next
    }
    { print }
  ' "$1/go.mod"
}

# compile MODULE VERSION LDFLAGS NAME=PACKAGE...: builds the commands of one module into the cache.
# Each binary appears under its name only once it is complete.
compile() {
  local module=$1 version=$2 ldflags=$3 source log="$work/build.log" pair ticker started=$SECONDS
  shift 3
  say "fetching $module $version"
  source=$(module_field "$module@$version" Dir)
  [[ -d $source ]] || die "could not fetch $module $version (the message is above)"
  own_go_mod "$source" >"$work/go-build.mod"
  [[ ! -f $source/go.sum ]] || cp "$source/go.sum" "$work/go-build.sum"
  chmod u+w "$work"/go-build.*

  for pair in "$@"; do
    say "building ${pair%%=*} $version"
    (
      exec {lock}>&-
      while sleep 15; do say "… building ${pair%%=*}: $(grep -vc "^go: " "$log" || true) packages compiled"; done
    ) &
    ticker=$!
    if ! (cd "$source" && GOWORK=off GOFLAGS='' CGO_ENABLED=0 go build -v -mod=mod -modfile="$work/go-build.mod" \
      -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$bin/.${pair%%=*}.$$" "${pair#*=}") >"$log" 2>&1; then
      kill "$ticker"
      rm -f "$bin/.${pair%%=*}.$$"
      tail -n 30 "$log"
      die "building ${pair%%=*} failed"
    fi
    kill "$ticker"
    wait "$ticker" 2>/dev/null || true
    mv "$bin/.${pair%%=*}.$$" "$bin/${pair%%=*}"
  done
  say "$module $version done in $((SECONDS - started)) s"
}

# wanted TOOL...: those of the tools that are missing, as NAME=PACKAGE pairs in the array `pairs`.
wanted() {
  local pair
  pairs=()
  for pair in "$@"; do
    [[ " ${missing[*]} " != *" ${pair%%=*} "* ]] || pairs+=("$pair")
  done
  ((${#pairs[@]} > 0))
}

tools=("$@")
((${#tools[@]} > 0)) || tools=("${ALL_TOOLS[@]}")
for tool in "${tools[@]}"; do
  [[ " ${ALL_TOOLS[*]} " == *" $tool "* ]] || die "unknown tool '$tool'; known: ${ALL_TOOLS[*]}"
done

if [[ -n ${KUBEBUILDER_ASSETS:-} ]] && has_all "$KUBEBUILDER_ASSETS" "${tools[@]}"; then
  (cd "$KUBEBUILDER_ASSETS" && pwd >&3)
  exit 0
fi

cache=${RETENTION_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/retention-operator}
bin=$cache/kubernetes-$KUBERNETES-etcd-$ETCD-helm-$HELM-kubeconform-$KUBECONFORM/bin
if ! has_all "$bin" "${tools[@]}"; then
  mkdir -p "$bin"
  bin=$(cd "$bin" && pwd)
  exec {lock}>"$bin/.lock"
  flock --nonblock "$lock" || { say "waiting for another run that is building in $bin"; flock "$lock"; }

  missing=()
  for tool in "${tools[@]}"; do [[ -x $bin/$tool ]] || missing+=("$tool"); done
  if ((${#missing[@]} > 0)); then
    require_go
    say "building ${missing[*]} from Go modules into $bin (once per version; minutes on a small machine)"
    work=$(mktemp -d)
    trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work" "$bin"/.*."$$"' EXIT
    trap 'exit 130' INT TERM HUP
    printf 'module fetch\n' >"$work/go.mod"

    component=k8s.io/component-base/version
    stamp="-X $component.gitVersion=$KUBERNETES -X $component.gitMajor=1 -X $component.gitMinor=${KUBERNETES:3:2} -X $component.gitTreeState=clean"
    if wanted kube-apiserver=./cmd/kube-apiserver kubectl=./cmd/kubectl; then
      compile k8s.io/kubernetes "$KUBERNETES" "$stamp" "${pairs[@]}"
    fi
    if wanted etcd=.; then compile go.etcd.io/etcd/server/v3 "$ETCD" "" "${pairs[@]}"; fi
    if wanted helm=./cmd/helm; then
      compile helm.sh/helm/v4 "$HELM" "-X helm.sh/helm/v4/internal/version.version=$HELM" "${pairs[@]}"
    fi
    if wanted kubeconform=./cmd/kubeconform; then
      compile github.com/yannh/kubeconform "$KUBECONFORM" "-X main.version=$KUBECONFORM" "${pairs[@]}"
    fi
  fi
fi
printf '%s\n' "$bin" >&3
