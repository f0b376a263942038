#!/usr/bin/env bash
# Runs one real server in the foreground, on 127.0.0.1 only, with its files in a directory of its own. The one place that knows
# the servers' flags: the tests start it as a child, scripts/dev-env.sh in the background.
#
#   scripts/serve.sh etcd           DIR PORT
#   scripts/serve.sh kube-apiserver DIR PORT ETCD_PORT       writes DIR/kubeconfig (system:masters)
#   scripts/serve.sh postgres       DIR PORT [NAME=VALUE...] superuser postgres, password postgres; NAME=VALUE are settings
#   scripts/serve.sh pgbouncer      DIR PORT POSTGRES_PORT [POOL_SIZE]
#                                                            transaction mode; logins in DIR/users.txt: "name" "password"
#
# A second start in the same DIR goes on with the data that is there. With TIED_TO_PARENT=yes the kernel ends the server when the
# thread that started this script ends, however it ends; `exec` all the way keeps the process id that the caller knows.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() { printf 'serve: %s\n' "$*" >&2; exit 1; }

# become SIGNAL COMMAND...: replaces this script by COMMAND; SIGNAL is what it gets when the parent dies. One setpriv does both
# the user and the signal, in this order: the kernel forgets the signal when the user changes.
become() {
  local signal=$1
  shift
  [[ ${TIED_TO_PARENT:-} != yes ]] || as_user+=(--pdeathsig "$signal")
  exec setpriv "${as_user[@]}" "$@"
}

# PostgreSQL and PgBouncer refuse to run as root: then `as_user` gets the setpriv options that make them another user.
as_user=(--no-new-privs)
drop_root() {
  [[ $(id -u) == 0 ]] || return 0
  local user=postgres
  id -u "$user" >/dev/null 2>&1 || user=nobody
  as_user+=(--reuid "$(id -u "$user")" --regid "$(id -g "$user")" --clear-groups)
  chown -R "$user" "$dir"
  setpriv "${as_user[@]}" test -x "$dir" ||
    die "the user $user, under which $server must run, cannot enter $dir: choose a directory under /tmp, say"
}

serve_etcd() {
  local bin
  bin=$("$scripts/control-plane.sh" etcd)
  # The peer address is never used by a cluster of one, but must be said: port 0 takes any free one.
  become KILL "$bin/etcd" --data-dir "$dir/data" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$port" --advertise-client-urls "http://127.0.0.1:$port" \
    --listen-peer-urls http://127.0.0.1:0
}

serve_kube_apiserver() {
  local etcd_port=$1 bin token
  bin=$("$scripts/control-plane.sh" kube-apiserver)
  if [[ ! -f $dir/tokens.csv ]]; then
    token=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
    (umask 077 && printf '%s,admin,admin,"system:masters"\n' "$token" >"$dir/tokens.csv")
  fi
  token=$(cut -d , -f 1 "$dir/tokens.csv")
  (umask 077 && cat >"$dir/kubeconfig") <<YAML
apiVersion: v1
kind: Config
current-context: retention-operator
clusters:
  - name: retention-operator
    cluster: {server: "https://127.0.0.1:$port", certificate-authority: "$dir/certs/apiserver.crt"}
users:
  - name: admin
    user: {token: "$token"}
contexts:
  - name: retention-operator
    context: {cluster: retention-operator, user: admin}
YAML
  # The server makes its own certificate, and its key signs the service accounts' tokens as well. Without controllers nobody
  # would create the default service accounts that the ServiceAccount admission plugin asks for.
  become KILL "$bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd_port" \
    --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$port" --cert-dir "$dir/certs" \
    --endpoint-reconciler-type none --service-cluster-ip-range 10.96.0.0/16 \
    --authorization-mode RBAC --anonymous-auth=false --token-auth-file "$dir/tokens.csv" \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$dir/certs/apiserver.key" --service-account-signing-key-file "$dir/certs/apiserver.key" \
    --disable-admission-plugins ServiceAccount
}

serve_postgres() {
  local bin settings=() setting
  bin=$("$scripts/postgres.sh" initdb postgres)
  for setting in "$@"; do settings+=(-c "$setting"); done
  drop_root
  # A cache in root's own home, say, is not for another user: it runs a copy, which finds its libraries beside it.
  if ! setpriv "${as_user[@]}" test -x "$bin/postgres"; then
    [[ -d $dir/installation ]] || cp -r "${bin%/bin}" "$dir/installation"
    bin=$dir/installation/bin
  fi
  cd "$dir"
  if [[ ! -d data ]]; then
    rm -rf data.new
    echo postgres >password.txt
    setpriv "${as_user[@]}" "$bin/initdb" --pgdata data.new --username postgres --pwfile password.txt \
      --auth scram-sha-256 --encoding UTF8 --locale C --no-sync >initdb.log 2>&1 || { cat initdb.log >&2; die "initdb failed"; }
    mv data.new data
  fi
  # SIGQUIT ends it at once too, but lets it give its shared memory back. Durability against a crash of the machine is not what
  # is wanted of a throw-away server; the caller's settings come last and win.
  become QUIT "$bin/postgres" -D "$dir/data" -c listen_addresses=127.0.0.1 -c port="$port" -c unix_socket_directories= \
    -c fsync=off -c full_page_writes=off -c shared_buffers=128MB -c max_connections=200 -c timezone=UTC -c log_timezone=UTC \
    "${settings[@]}"
}

serve_pgbouncer() {
  local postgres_port=$1 pool_size=${2:-4} program
  program=$("$scripts/pgbouncer.sh")
  cat >"$dir/pgbouncer.ini" <<INI
[databases]
* = host=127.0.0.1 port=$postgres_port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $dir/users.txt
pool_mode = transaction
default_pool_size = $pool_size
max_client_conn = 200
admin_users = postgres
INI
  drop_root
  become KILL "$program" "$dir/pgbouncer.ini"
}

server=${1:?what to serve: etcd, kube-apiserver, postgres or pgbouncer}
dir=${2:?a directory}
port=${3:?a port}
shift 3
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
case $server in
  etcd | postgres) ;;
  kube-apiserver) : "${1:?the port of etcd}" ;;
  pgbouncer) : "${1:?the port of PostgreSQL}" ;;
  *) die "unknown server '$server'" ;;
esac
"serve_${server//-/_}" "$@"
