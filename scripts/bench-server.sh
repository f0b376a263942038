# What the measuring scripts share; they source it. Builds the operator, and starts a PostgreSQL of their own on 127.0.0.1, which ends
# with them and takes its files along.
#
#   source scripts/bench-server.sh
#   start_server [NAME=VALUE...]        with those settings; a second time: on the same files
#
# Sets $operator (the program) and $dir (files of this run), exports PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE. What a script
# puts into $load (pids) is ended with it, too.

say() { printf '[bench +%ds] %s\n' "$SECONDS" "$*" >&2; }

postgres_bin=$(scripts/postgres.sh initdb postgres psql pgbench | tail -n 1)
export PATH="$postgres_bin:$PATH"
cargo build --locked --quiet --profile fast --bin retention-operator
target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
operator=$target/fast/retention-operator

dir=$(mktemp -d)
chmod go+x "$dir"
server=
load=
cleanup() {
  local pid
  for pid in $load $server; do
    kill -INT "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$dir"
}
trap cleanup EXIT

# free_port: a port on which nobody listens.
free_port() {
  local port
  while port=$(shuf --input-range 20000-32000 --head-count 1); do
    (exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s\n' "$port"
}

port=$(free_port)
export PGHOST=127.0.0.1 PGPORT=$port PGUSER=postgres PGPASSWORD=postgres PGDATABASE=postgres

start_server() {
  env --default-signal=INT scripts/serve.sh postgres "$dir/postgres" "$port" "$@" >>"$dir/postgres.log" 2>&1 &
  server=$!
  for _ in {1..300}; do
    psql --quiet --no-psqlrc --command 'SELECT 1' >/dev/null 2>&1 && return
    sleep 0.1
  done
  cat "$dir/postgres.log" >&2
  return 1
}

# sql ARGUMENTS...: psql without ornaments, which ends at the first error.
sql() { psql --quiet --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 "$@"; }

now_ms() { date +%s%3N; }

# spread: minimum, median and maximum of the numbers on standard input.
spread() { sort -g | awk '{v[NR] = $1} END {printf "%s / %s / %s", v[1], v[int((NR + 1) / 2)], v[NR]}'; }
