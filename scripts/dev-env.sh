#!/usr/bin/env bash
# A real Kubernetes API server, its etcd and a PostgreSQL on free ports of 127.0.0.1, for the demo and for trying things by hand.
#
#   scripts/dev-env.sh start DIR [OWNER_PID]   start them with their files in DIR; they run until `stop`, or until OWNER_PID ends
#   scripts/dev-env.sh stop DIR                end them, each by its process id; what is in DIR stays for reading
#
# After `start`, `source DIR/env` sets KUBECONFIG, DATABASE_URL (superuser, database postgres), PGHOST, PGPORT, PGUSER, PGPASSWORD,
# PGDATABASE and puts kubectl and PostgreSQL's programs first in the PATH. DIR must be one that another user may enter when
# this runs as root (PostgreSQL refuses to be root): under /tmp, say.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '[dev-env +%ds] %s\n' "$SECONDS" "$*" >&2; }
die() { printf 'dev-env: %s\n' "$*" >&2; exit 1; }

# birth PID: when the process started, in clock ticks since boot; fails where there is none. With it a recycled id is told apart.
birth() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20 | grep .; }

# alive PID BIRTH: whether that process runs; this very script, called by the owner watch, does not count.
alive() { [[ $1 != "$$" && $(birth "$1") == "$2" ]]; }

# launch NAME COMMAND...: starts it in a session of its own, out of reach of the terminal's Ctrl-C, and notes its process id,
# which is its group's id too. A shell makes what it starts in the background ignore SIGINT; PostgreSQL's stop needs it.
launch() {
  local name=$1
  shift
  setsid env --default-signal=INT "$@" </dev/null >"$dir/$name.log" 2>&1 &
  printf '%s %s %s\n' "$name" "$!" "$(birth $!)" >>"$dir/pids"
}

# free_port: a port on which nobody listens, below the range from which the kernel takes ports of outgoing connections.
free_port() {
  local port
  while port=$(shuf --input-range 20000-32000 --head-count 1); do
    (exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s\n' "$port"
}

# wait_for WHAT COMMAND...: until the command succeeds; fails when a server ended, or after a minute.
wait_for() {
  local what=$1 deadline=$((SECONDS + 60)) name pid born
  shift
  until "$@" >/dev/null 2>&1; do
    while read -r name pid born; do
      alive "$pid" "$born" || { tail -n 20 "$dir/$name.log" >&2; die "$name ended; its log is $dir/$name.log"; }
    done <"$dir/pids"
    ((SECONDS < deadline)) || die "$what did not answer within a minute; the logs are $dir/*.log"
    sleep 0.1
  done
  say "$what answers"
}

start() {
  local owner=${1:-} kubernetes_bin postgres_bin etcd_port api_port postgres_port
  [[ ! -s $dir/pids ]] || die "$dir/pids says that servers run already: scripts/dev-env.sh stop $dir"
  kubernetes_bin=$("$scripts/control-plane.sh" kube-apiserver etcd kubectl)
  postgres_bin=$("$scripts/postgres.sh" initdb postgres psql)

  # Until everything answers, whatever ends this script ends what it has started, also what it had no time to note.
  trap '{ stop; kill -s KILL $(jobs -pr); wait; } 2>/dev/null || true' EXIT
  trap 'exit 130' INT TERM HUP
  etcd_port=$(free_port) api_port=$(free_port) postgres_port=$(free_port)
  launch postgres "$scripts/serve.sh" postgres "$dir/postgres" "$postgres_port"
  launch etcd "$scripts/serve.sh" etcd "$dir/etcd" "$etcd_port"
  launch kube-apiserver "$scripts/serve.sh" kube-apiserver "$dir/kube-apiserver" "$api_port" "$etcd_port"
  # shellcheck disable=SC2016 # the other shell expands them
  [[ -z $owner ]] || launch owner-watch bash -c 'tail --pid="$1" --follow /dev/null; exec "$2" stop "$3"' - "$owner" "$scripts/dev-env.sh" "$dir"

  cat >"$dir/env" <<ENV
export KUBECONFIG='$dir/kube-apiserver/kubeconfig' KUBECACHEDIR='$dir/kube-cache'
export PGHOST=127.0.0.1 PGPORT=$postgres_port PGUSER=postgres PGPASSWORD=postgres PGDATABASE=postgres
export DATABASE_URL=postgres://postgres:postgres@127.0.0.1:$postgres_port/postgres
export PATH='$kubernetes_bin:$postgres_bin':"\$PATH"
ENV
  # shellcheck source=/dev/null
  source "$dir/env"
  wait_for PostgreSQL psql --no-psqlrc --command 'SELECT 1'
  wait_for 'the Kubernetes API server' kubectl get --raw /readyz
  trap - EXIT
}

stop() {
  local name pid born signal
  [[ -s $dir/pids ]] || return 0
  while read -r name pid born; do
    alive "$pid" "$born" || continue
    # PostgreSQL gives its shared memory back; its SIGTERM would wait for the clients. An API server that is still starting
    # takes long over a SIGTERM, and nobody waits for its answers any more.
    signal=KILL
    [[ $name != postgres ]] || signal=INT
    # The whole group: while a server is being prepared, its script waits for a child.
    kill -s "$signal" -- "-$pid" 2>/dev/null || true
  done < <(tac "$dir/pids")
  while read -r name pid born; do
    for _ in {1..100}; do
      alive "$pid" "$born" || continue 2
      sleep 0.1
    done
    kill -s KILL -- "-$pid" 2>/dev/null || true
  done <"$dir/pids"
  rm -f "$dir/pids"
}

[[ $# -ge 2 ]] || { sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
verb=$1
mkdir -p "$2"
chmod go+x "$2"
dir=$(cd "$2" && pwd)
shift 2
case $verb in
  start) start "$@" ;;
  stop) stop ;;
  *) die "unknown verb '$verb': start or stop" ;;
esac
