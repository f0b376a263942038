#!/usr/bin/env bash
# Measures a sweep against one plain DELETE of the same rows, on the same server, in the same run: paired ratios with their minimum,
# median and maximum. Also the estimate's error, the counters that an audit moves, the longest chunk and the peak memory.
#
#   scripts/bench.sh            5 million rows, 3 repeats
#   ROWS=1000000 REPEATS=5 CHUNK=20ms ARMS='bench_random_plain' scripts/bench.sh
#
# Speed is compared within one repeat only: the order of the two alternates, each works on a fresh copy of the same files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rows=${ROWS:-5000000}
repeats=${REPEATS:-3}
chunk=${CHUNK:-200ms}
audits=${AUDITS:-100}

# shellcheck source=scripts/bench-server.sh
source scripts/bench-server.sh
start_server shared_buffers=1GB max_wal_size=4GB autovacuum=off fsync=on synchronous_commit=on

cat >"$dir/policy.yaml" <<YAML
apiVersion: retention-operator.io/v1alpha1
kind: RetentionPolicy
metadata: {name: bench}
spec:
  mode: Enforce
  database: {urlFrom: {secretKeyRef: {name: unused, key: url}}}
  rules:
    - {name: events, table: events, column: at, expireAfter: 292d, action: Delete}
  pace: {chunkDuration: $chunk, maxDuty: 100}
YAML

# make_template NAME ORDER INDEX: a span of 503.448 days, of which 42 % are older than 292 days.
make_template() {
  local name=$1 order=$2 index=$3 position='n'
  [[ $order == ordered ]] || position='(n * 7919::bigint) % '"$rows"
  sql --command "CREATE DATABASE $name"
  sql --dbname "$name" --command "
    CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, customer int NOT NULL, kind text NOT NULL, payload text);
    INSERT INTO events (at, customer, kind, payload)
      SELECT now() - interval '503.448 days' + ($position) * (interval '503.448 days' / $rows), n % 50000, 'kind-' || n % 7, repeat(md5(n::text), 3)
      FROM generate_series(0, $rows - 1) n;
    ALTER TABLE events ADD PRIMARY KEY (id);
    CREATE INDEX events_customer ON events (customer);"
  [[ $index != indexed ]] || sql --dbname "$name" --command 'CREATE INDEX events_at ON events (at)'
  sql --dbname "$name" --command 'VACUUM (ANALYZE) events' --command CHECKPOINT
}

fresh() {
  sql --command "SET client_min_messages = warning" --command "DROP DATABASE IF EXISTS work WITH (FORCE)" --command "CREATE DATABASE work TEMPLATE $1" --command CHECKPOINT
  # A copy does not remember that it was analysed, as a service's database does: limits would have its rows counted.
  sql --dbname work --command 'ANALYZE events'
  # Both begin with the table in memory.
  sql --dbname work --command 'SELECT count(*), max(length(payload)) FROM events' >/dev/null
}

expired="at < now() - interval '292 days'"

# plain: rows and milliseconds of one DELETE, as the server's client sees it.
plain() {
  psql --no-psqlrc --dbname work --command '\timing on' --command "DELETE FROM events WHERE $expired" |
    awk '/^DELETE/ {rows = $2} /^Time:/ {ms = $2} END {print rows, int(ms)}'
}

# sweep: rows, milliseconds of the whole process, longest chunk in ms, peak memory in KiB.
sweep() {
  local began ended peak=0 pid seen watched
  rm -f "$dir/ended"
  began=$(now_ms)
  # The end is noted where it is waited for, so that looking at the memory costs no time of the sweep.
  (
    DATABASE_URL=postgres://postgres:postgres@127.0.0.1:$port/work "$operator" sweep -f "$dir/policy.yaml" --output json >"$dir/sweep.json" &
    echo $! >"$dir/pid"
    wait $! && now_ms >"$dir/ended"
  ) &
  watched=$!
  sleep 0.1
  pid=$(<"$dir/pid")
  while read -r _ seen _ < <(grep VmHWM "/proc/$pid/status" 2>/dev/null); do
    peak=$seen
    sleep 0.1
  done
  wait "$watched" || { cat "$dir/sweep.json" >&2; return 1; }
  ended=$(<"$dir/ended")
  local deleted longest
  deleted=$(sed -n '/"lastSweep"/,/}/s/.*"rowsDeleted": \([0-9]*\).*/\1/p' "$dir/sweep.json")
  longest=$(sed -n 's/.*"longestChunkMillis": \([0-9]*\).*/\1/p' "$dir/sweep.json")
  printf '%s %s %s %s\n' "$deleted" "$((ended - began))" "$longest" "$peak"
}

counters="SELECT coalesce(sum(seq_scan) + sum(idx_scan), 0) || ' scans, ' ||
  (SELECT sum(heap_blks_read + heap_blks_hit) FROM pg_statio_user_tables) || ' heap pages' FROM pg_stat_user_tables"

version=$(sql --command 'SHOW server_version')
printf 'PostgreSQL %s, %s cores, %s rows, 42 %% expired, chunkDuration %s, maxDuty 100, %s repeats; min / median / max\n' \
  "$version" "$(nproc)" "$rows" "$chunk" "$repeats"

for order in ordered random; do
  for index in indexed plain; do
    template=bench_${order}_$index
    [[ " ${ARMS:-$template} " == *" $template "* ]] || continue
    say "making $template"
    make_template "$template" "$order" "$index"
    printf '\nrows in %s, time column %s\n' "${order/ordered/time order}" "${index/plain/not indexed}"

    fresh "$template"
    true_rows=$(sql --dbname work --command "SELECT count(*) FROM events WHERE $expired")
    # The counting above is not the audit's.
    sql --dbname work --command 'SELECT pg_stat_force_next_flush()' >/dev/null 2>&1 || true
    sql --command "DROP DATABASE work" --command "CREATE DATABASE work TEMPLATE $template"
    before=$(sql --dbname work --command "$counters")
    url=postgres://postgres:postgres@127.0.0.1:$port/work
    for ((n = 0; n < audits; n++)); do
      DATABASE_URL=$url "$operator" audit -f "$dir/policy.yaml" --output json >"$dir/audit.json" || [[ $? == 2 ]]
    done
    estimate=$(sed -n '/"expiredRows": {/,/}/s/.*"value": \([0-9]*\).*/\1/p' "$dir/audit.json" | head -n 1)
    after=$(sql --dbname work --command "$counters")
    awk -v e="$estimate" -v t="$true_rows" -v n="$rows" 'BEGIN {d = e - t; if (d < 0) d = -d;
      printf "  expired: %d, estimated %d, off by %.2f %% of the rows\n", t, e, 100 * d / n}'
    printf '  %s audits: counters before %s, after %s\n' "$audits" "$before" "$after"

    for f in ratios ours theirs longest peak; do : >"$dir/$f"; done
    for ((n = 1; n <= repeats; n++)); do
      if ((n % 2)); then
        fresh "$template"; read -r plain_rows plain_ms < <(plain)
        fresh "$template"; read -r sweep_rows sweep_ms longest peak < <(sweep)
      else
        fresh "$template"; read -r sweep_rows sweep_ms longest peak < <(sweep)
        fresh "$template"; read -r plain_rows plain_ms < <(plain)
      fi
      left=$(sql --dbname work --command "SELECT count(*) FROM events WHERE at < now() - interval '292 days 10 minutes'")
      [[ $left == 0 ]] || { printf 'rows are left: %s\n' "$left" >&2; exit 1; }
      awk -v a="$sweep_rows" -v b="$sweep_ms" -v c="$plain_rows" -v d="$plain_ms" 'BEGIN {print (a / b) / (c / d)}' >>"$dir/ratios"
      awk -v a="$sweep_rows" -v b="$sweep_ms" 'BEGIN {printf "%dk\n", a / b}' >>"$dir/ours"
      awk -v a="$plain_rows" -v b="$plain_ms" 'BEGIN {printf "%dk\n", a / b}' >>"$dir/theirs"
      printf '%s\n' "$longest" >>"$dir/longest"
      awk -v kib="$peak" 'BEGIN {printf "%.1f\n", kib / 1024}' >>"$dir/peak"
      say "$template $n: sweep $sweep_rows rows in $sweep_ms ms, DELETE $plain_rows in $plain_ms ms"
    done
    printf '  sweep %s rows/s, DELETE %s rows/s, ratio %s\n' "$(spread <"$dir/ours")" "$(spread <"$dir/theirs")" "$(spread <"$dir/ratios")"
    printf '  longest chunk %s ms, peak memory %s MiB (the whole process, final count included)\n' "$(spread <"$dir/longest")" "$(spread <"$dir/peak")"
    sql --command "DROP DATABASE work WITH (FORCE)" --command "DROP DATABASE $template"
  done
done
