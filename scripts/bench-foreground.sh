#!/usr/bin/env bash
# Measures what a service feels while its database is swept: pgbench (a thousand transactions a second, half of them reads) on the
# very tables that are being swept, beside nothing, beside a busy loop that never touches the database, beside a sweep with the
# default pace, and beside one plain DELETE. All in one run, each arm on a fresh copy of the same files.
#
#   scripts/bench-foreground.sh         4 tables of 5 million rows, 60 s an arm
#   ROWS=1000000 TABLES=2 SECONDS_PER_ARM=20 ARMS='quiet sweep sweep:10ms:10' RATE=500 scripts/bench-foreground.sh
#
# Percentiles are over the transactions that ended while the arm's load was at work, from their scheduled start. Lock waits of
# more than 100 ms are counted by the server itself (log_lock_waits).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rows=${ROWS:-5000000}
tables=${TABLES:-4}
seconds=${SECONDS_PER_ARM:-60}
rate=${RATE:-1000}
arms=${ARMS:-quiet hog sweep delete}

# shellcheck source=scripts/bench-server.sh
source scripts/bench-server.sh
start_server shared_buffers=2GB max_wal_size=8GB checkpoint_timeout=30min autovacuum=off fsync=on synchronous_commit=on full_page_writes=on \
  log_lock_waits=on deadlock_timeout=100ms

# policy [CHUNK DUTY]: with the default pace, or with that one.
policy() {
  cat <<YAML
apiVersion: retention-operator.io/v1alpha1
kind: RetentionPolicy
metadata: {name: bench}
spec:
  mode: Enforce
  database: {urlFrom: {secretKeyRef: {name: unused, key: url}}}
  pace: {${1:+chunkDuration: $1, maxDuty: $2}}
  rules:
YAML
  for ((n = 1; n <= tables; n++)); do
    printf '    - {name: events-%d, table: events_%d, column: at, expireAfter: 292d, action: Delete}\n' "$n" "$n"
  done
}

# Reads and writes hit expired rows as well as live ones, on every table.
{
  printf '\\set id random(1, %d)\n' "$rows"
  printf '\\set t random(1, %d)\n' "$tables"
} | tee "$dir/read.sql" >"$dir/write.sql"
for ((n = 1; n <= tables; n++)); do
  [[ $n == 1 ]] && word=if || word=elif
  printf '\\%s :t = %d\nSELECT payload FROM events_%d WHERE id = :id;\n' "$word" "$n" "$n" >>"$dir/read.sql"
  printf '\\%s :t = %d\nUPDATE events_%d SET customer = customer + 1 WHERE id = :id;\n' "$word" "$n" "$n" >>"$dir/write.sql"
done
echo '\endif' | tee -a "$dir/read.sql" >>"$dir/write.sql"

say "making $tables tables of $rows rows"
sql --command 'CREATE DATABASE template'
for ((n = 1; n <= tables; n++)); do
  sql --dbname template --command "
    CREATE TABLE events_$n (id bigint PRIMARY KEY, at timestamptz NOT NULL, customer int NOT NULL, kind text NOT NULL, payload text);
    INSERT INTO events_$n SELECT n, now() - interval '503.448 days' + n * (interval '503.448 days' / $rows), n % 50000, 'kind-' || n % 7, repeat(md5(n::text), 3)
      FROM generate_series(1, $rows) n;
    CREATE INDEX ON events_$n (at); CREATE INDEX ON events_$n (customer);"
done
sql --dbname template --command 'VACUUM (ANALYZE)' --command CHECKPOINT

fresh() {
  sql --command "SET client_min_messages = warning" --command "DROP DATABASE IF EXISTS work WITH (FORCE)" --command "CREATE DATABASE work TEMPLATE template" --command CHECKPOINT
  # A copy does not remember that it was analysed, as a service's database does: limits would have its rows counted.
  sql --dbname work --command ANALYZE
  for ((n = 1; n <= tables; n++)); do
    sql --dbname work --command "SELECT count(*), max(length(payload)) FROM events_$n" >/dev/null
  done
}

now_us() { date +%s%6N; }

work_quiet() { sleep "$seconds"; }
work_hog() { timeout "$seconds" bash -c 'while :; do :; done' || true; }
work_sweep() {
  policy "$@" >"$dir/policy.yaml"
  DATABASE_URL=postgres://postgres:postgres@127.0.0.1:$port/work timeout --signal INT "$seconds" \
    "$operator" sweep -f "$dir/policy.yaml" --output json >"$dir/sweep.json" 2>"$dir/sweep.err" || true
}
work_delete() {
  for ((n = 1; n <= tables; n++)); do
    sql --dbname work --command "DELETE FROM events_$n WHERE at < now() - interval '292 days'"
  done
}

# percentiles BEGIN END: of the logged transactions between two instants in microseconds; read p50 p99 max, write p50 p99 max, count.
# A log line: client, transaction, latency in us (from the scheduled start), script, seconds, microseconds, schedule lag in us.
percentiles() {
  local kind
  for kind in 0 1; do
    cat "$dir"/pgbench.* | awk -v from="$1" -v to="$2" -v kind="$kind" '$4 == kind {at = $5 * 1000000 + $6; if (at >= from && at <= to) print $3}' |
      sort -n | awk '{v[NR] = $1} END {if (NR == 0) {print "0 0 0 0 "; exit}
        printf "%.2f %.2f %.2f %d ", v[int(NR * 0.5) + 1] / 1000, v[int(NR * 0.99) + 1] / 1000, v[NR] / 1000, NR}'
  done | tr '\n' ' '
  echo
}

version=$(sql --command 'SHOW server_version')
printf 'PostgreSQL %s, %s cores, %s tables of %s rows, 42 %% expired, pgbench %s/s for %s s an arm\n\n' \
  "$version" "$(nproc)" "$tables" "$rows" "$rate" "$seconds"
printf '%-14s %28s %28s %8s %10s %12s %s\n' arm 'read p50/p99/max ms' 'write p50/p99/max ms' 's' 'tx' 'waits>100ms' 'rows deleted'

declare -A read_p99 write_p99
for arm in $arms; do
  say "$arm"
  fresh
  rm -f "$dir"/pgbench.*
  before=$(wc -l <"$dir/postgres.log")
  pgbench --no-vacuum --protocol prepared --file "$dir/read.sql@1" --file "$dir/write.sql@1" --rate "$rate" --client 8 --jobs 2 \
    --time "$((seconds + 6))" --log --log-prefix "$dir/pgbench" work >"$dir/pgbench-$arm.out" 2>&1 &
  load=$!
  sleep 3
  from=$(now_us)
  IFS=: read -r what chunk duty <<<"$arm"
  "work_$what" ${chunk:+"$chunk" "$duty"}
  to=$(now_us)
  wait "$load" || { cat "$dir/pgbench-$arm.out" >&2; exit 1; }
  load=
  read -r r50 r99 rmax rn w50 w99 wmax wn < <(percentiles "$from" "$to")
  read_p99[$arm]=$r99 write_p99[$arm]=$w99
  waits=$(tail -n "+$((before + 1))" "$dir/postgres.log" | grep -c 'still waiting for' || true)
  gone=$(sql --dbname work --command "SELECT $tables * $rows - ($(for ((n = 1; n <= tables; n++)); do printf '(SELECT count(*) FROM events_%d) + ' "$n"; done)0)")
  printf '%-14s %28s %28s %8s %10s %12s %s\n' "$arm" "$r50 / $r99 / $rmax" "$w50 / $w99 / $wmax" \
    "$(awk -v a="$from" -v b="$to" 'BEGIN {printf "%.1f", (b - a) / 1e6}')" "$((rn + wn))" "$waits" "$gone"
done
if [[ -n ${read_p99[quiet]:-} ]]; then
  printf '\np99 over that of the quiet arm (read / write)\n'
  for arm in $arms; do
    awk -v arm="$arm" -v r="${read_p99[$arm]}" -v w="${write_p99[$arm]}" -v qr="${read_p99[quiet]}" -v qw="${write_p99[quiet]}" \
      'BEGIN {printf "  %-14s %.2f / %.2f\n", arm, r / qr, w / qw}'
  done
fi
