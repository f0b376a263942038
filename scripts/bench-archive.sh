#!/usr/bin/env bash
# Measures a sweep that archives into a table of the same database against the script that people write first: psycopg2 fetches the
# rows of DELETE … RETURNING * and inserts them one by one. Paired ratios with their minimum, median and maximum; beside them the one
# SQL statement that does the same at once, and that nobody should run beside a service.
#
#   scripts/bench-archive.sh            2 million rows, 3 repeats
#   ROWS=500000 REPEATS=5 CHUNK=20ms DUTY=25 scripts/bench-archive.sh
#
# Speed is compared within one repeat only: their order changes, and each works on a fresh copy of the same files. psycopg2 is the
# machine's own where python3 has it; else pip puts it into ${RETENTION_OPERATOR_CACHE:-~/.cache/retention-operator}, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rows=${ROWS:-2000000}
repeats=${REPEATS:-3}
chunk=${CHUNK:-200ms}
duty=${DUTY:-100}

# find_python: prints a Python that has psycopg2.
find_python() {
  local version=2.9.10 cache=${RETENTION_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/retention-operator} python dir work
  dir=$cache/psycopg2-$version
  for python in python3 "$dir/bin/python3"; do
    if "$python" -c 'import psycopg2' 2>/dev/null; then
      printf '%s\n' "$python"
      return
    fi
  done
  say "putting psycopg2-binary $version into $dir (once)"
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/.psycopg2.XXXXXX")
  if ! { python3 -m venv "$work" && "$work/bin/python3" -m pip install --quiet --only-binary :all: "psycopg2-binary==$version"; } >&2; then
    rm -rf "$work"
    printf 'bench-archive: psycopg2 is not to be had: install it for python3 (Debian: python3-psycopg2; else: pip install psycopg2-binary)\n' >&2
    return 1
  fi
  # A virtual environment knows its own path, which it gets only now; what it runs is found beside it.
  rm -rf "$dir"
  mv "$work" "$dir"
  printf '%s\n' "$dir/bin/python3"
}

# shellcheck source=scripts/bench-server.sh
source scripts/bench-server.sh
python=$(find_python)
start_server shared_buffers=1GB max_wal_size=4GB autovacuum=off fsync=on synchronous_commit=on

# policy LEDGER: the policy's document.
policy() {
  cat <<YAML
apiVersion: retention-operator.io/v1alpha1
kind: RetentionPolicy
metadata: {name: bench}
spec:
  mode: Enforce
  database: {urlFrom: {secretKeyRef: {name: unused, key: url}}, ledger: $1}
  rules:
    - {name: events, table: events, column: at, expireAfter: 292d, action: Archive, archive: {table: {name: archive.events}}}
  pace: {chunkDuration: $chunk, maxDuty: $duty}
YAML
}
policy '"Off"' >"$dir/off.yaml"
policy Auto >"$dir/auto.yaml"

cat >"$dir/peer.py" <<'PYTHON'
import psycopg2

connection = psycopg2.connect("")
deleted, kept = connection.cursor(), connection.cursor()
deleted.execute("DELETE FROM events WHERE at < now() - interval '292 days' RETURNING *")
for row in deleted:
    kept.execute("INSERT INTO archive.events VALUES (%s, %s, %s, %s, %s)", row)
connection.commit()
PYTHON

# A span of 503.448 days in time order, of which 42 % are older than 292 days.
sql --command 'CREATE DATABASE template_events'
sql --dbname template_events --command "
  CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, customer int NOT NULL, kind text NOT NULL, payload text);
  INSERT INTO events (at, customer, kind, payload)
    SELECT now() - interval '503.448 days' + n * (interval '503.448 days' / $rows), n % 50000, 'kind-' || n % 7, repeat(md5(n::text), 3)
    FROM generate_series(0, $rows - 1) n;
  ALTER TABLE events ADD PRIMARY KEY (id);
  CREATE INDEX events_customer ON events (customer);
  CREATE INDEX events_at ON events (at);
  CREATE SCHEMA archive;"
sql --dbname template_events --command 'VACUUM (ANALYZE) events' --command CHECKPOINT

fresh() {
  sql --command "SET client_min_messages = warning" --command "DROP DATABASE IF EXISTS work WITH (FORCE)" \
    --command "CREATE DATABASE work TEMPLATE template_events" --command CHECKPOINT
  # A copy does not remember that it was analysed, as a service's database does: limits would have its rows counted.
  sql --dbname work --command 'ANALYZE events'
  # All begin with the table in memory.
  sql --dbname work --command 'SELECT count(*), max(length(payload)) FROM events' >/dev/null
}

# The archive that a script has is made beforehand; the sweep makes its own.
made='CREATE TABLE archive.events (LIKE events)'
peer() { PGDATABASE=work "$python" "$dir/peer.py"; }
statement() {
  sql --dbname work --command "WITH gone AS (DELETE FROM events WHERE at < now() - interval '292 days' RETURNING *) INSERT INTO archive.events SELECT * FROM gone"
}
sweep() {
  DATABASE_URL=postgres://postgres:postgres@127.0.0.1:$port/work "$operator" sweep -f "$dir/$1.yaml" --output json >"$dir/sweep.json" ||
    { cat "$dir/sweep.json" >&2; return 1; }
}

# measure ARM: appends the arm's rows per second to a file, after it has shown that no row was lost and none is there twice.
measure() {
  local arm=$1 began ended before after archived expired
  fresh
  before=$(sql --dbname work --command 'SELECT count(*), sum(id), sum(hashtext(payload)) FROM events')
  case $arm in peer | statement) sql --dbname work --command "$made" ;; esac
  began=$(now_ms)
  case $arm in
    off | auto) sweep "$arm" ;;
    *) "$arm" ;;
  esac
  ended=$(now_ms)
  after=$(sql --dbname work --command 'SELECT count(*), sum(id), sum(hashtext(payload)) FROM
    (SELECT id, payload FROM events UNION ALL SELECT id, payload FROM archive.events) AS rows')
  [[ $before == "$after" ]] || { printf '%s: the rows were %s and are %s\n' "$arm" "$before" "$after" >&2; exit 1; }
  expired=$(sql --dbname work --command "SELECT count(*) FROM events WHERE at < now() - interval '292 days 10 minutes'")
  [[ $expired == 0 ]] || { printf '%s: rows are left: %s\n' "$arm" "$expired" >&2; exit 1; }
  archived=$(sql --dbname work --command 'SELECT count(*) FROM archive.events')
  say "$arm: $archived rows in $((ended - began)) ms"
  awk -v n="$archived" -v ms="$((ended - began))" 'BEGIN {print 1000 * n / ms}' >>"$dir/$arm.rate"
}

rates() { awk '{printf "%dk\n", $1 / 1000}' "$dir/$1.rate" | spread; }
ratios() { paste "$dir/$1.rate" "$dir/$2.rate" | awk '{printf "%.2f\n", $1 / $2}' | spread; }

printf 'PostgreSQL %s, %s, %s cores, %s rows, 42 %% expired, chunkDuration %s, maxDuty %s, %s repeats; min / median / max\n' \
  "$(sql --command 'SHOW server_version')" "$("$python" -c 'import psycopg2; print("psycopg2", psycopg2.__version__)')" \
  "$(nproc)" "$rows" "$chunk" "$duty" "$repeats"
for ((n = 1; n <= repeats; n++)); do
  if ((n % 2)); then order=(peer off statement auto); else order=(auto statement off peer); fi
  for arm in "${order[@]}"; do measure "$arm"; done
done
printf '  psycopg2, row by row: %s rows/s\n' "$(rates peer)"
printf '  sweep:                %s rows/s, ÷ psycopg2 %s, ÷ one statement %s\n' "$(rates off)" "$(ratios off peer)" "$(ratios off statement)"
printf '  sweep with a ledger:  %s rows/s, ÷ psycopg2 %s, ÷ one statement %s\n' "$(rates auto)" "$(ratios auto peer)" "$(ratios auto statement)"
printf '  one statement:        %s rows/s, ÷ psycopg2 %s\n' "$(rates statement)" "$(ratios statement peer)"
