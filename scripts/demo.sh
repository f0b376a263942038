#!/usr/bin/env bash
# Shows the operator at work, for real and on this machine alone: a Kubernetes API server, a PostgreSQL with a shop's tables, the
# operator, and the policies of examples/. Everything listens on 127.0.0.1, lives in a directory under /tmp, and is gone at the end.
#
#   scripts/demo.sh            needs Rust and Go; the first run builds, which takes some minutes
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

readonly NAMESPACE=shop WAIT=--timeout=120s ROLE=retention PASSWORD=only-for-the-demo
bold='' dim='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi

# --- how it is told -----------------------------------------------------------------------------------------------------------

chapter=0
headline() { chapter=$((chapter + 1)); printf '\n%s%d. %s%s %s[+%ds]%s\n' "$bold" "$chapter" "$1" "$plain" "$dim" "$SECONDS" "$plain"; }
tell() { printf '%s\n' "$*" | fold -s -w 120 | sed "s/^/   /; s/ *\$//"; }
# show COMMAND...: prints the command as one would type it, then what it says.
show() { printf '   %s$ %s%s\n' "$dim" "$*" "$plain"; "$@" 2>&1 | sed 's/^/   /'; }
# columns: aligns lines of cells that are separated by |.
columns() {
  awk -F '|' '
    { rows = NR; for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } fields[NR] = NF }
    END {
      for (row = 1; row <= rows; row++) {
        line = "  "
        for (i = 1; i <= fields[row]; i++) line = line sprintf(i < fields[row] ? " %-" (width[i] + 2) "s" : " %s", cell[row, i])
        sub(/ +$/, "", line)
        print line
      }
    }'
}
die() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }

# --- what it ends, however it ends --------------------------------------------------------------------------------------------

dir='' operator=''
clean_up() {
  local code=$?
  trap - EXIT INT TERM HUP
  if [[ -n $operator ]]; then
    kill -s TERM "$operator" 2>/dev/null || true
    wait "$operator" 2>/dev/null || true
  fi
  if [[ -n $dir ]]; then
    if ((code != 0)) && [[ -s $dir/operator.log ]]; then
      printf '\nThe last lines of the operator:\n' >&2
      tail -n 15 "$dir/operator.log" >&2
    fi
    scripts/dev-env.sh stop "$dir" || true
    rm -rf "$dir"
  fi
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- the parts ----------------------------------------------------------------------------------------------------------------

# loud_when_long LOG COMMAND...: shows what a build says only when it has something to do.
headline 'The parts: the operator, a Kubernetes API server, a PostgreSQL'
command -v cargo >/dev/null || die 'Rust is needed: https://rustup.rs'
cargo build --locked --profile fast
target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
dir=$(mktemp --directory /tmp/retention-operator-demo.XXXXXX)
# A copy: another build of this checkout does not replace it while it runs.
cp "$target/fast/retention-operator" "$dir/retention-operator"
scripts/dev-env.sh start "$dir" $$
# shellcheck source=/dev/null
source "$dir/env"

# free_port: a port on which nobody listens.
free_port() {
  local port
  while port=$(shuf --input-range 20000-32000 --head-count 1); do
    (exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s\n' "$port"
}

sql() { psql --no-psqlrc --quiet --no-align --tuples-only --field-separator '|' --set ON_ERROR_STOP=1 --dbname "${DATABASE:-$NAMESPACE}" "$@"; }

headline "A service's database: 640,000 rows, some of them years old"
DATABASE=postgres sql --command "CREATE DATABASE $NAMESPACE" --command "CREATE ROLE $ROLE LOGIN PASSWORD '$PASSWORD'"
sql >/dev/null <<'SQL'
SET synchronous_commit = off;
SELECT setseed(0.4711);

-- Written in time order, over nearly two years; some rows never got a time.
CREATE TABLE activity_logs (id bigint PRIMARY KEY, customer_id int NOT NULL, action text NOT NULL, created_at timestamptz);
INSERT INTO activity_logs
  SELECT n, n % 500, (ARRAY['login', 'search', 'view', 'checkout'])[1 + n % 4],
    CASE WHEN n % 10000 <> 0 THEN now() - interval '695 days' * (1 - n / 400000.0) END
  FROM generate_series(1, 400000) n;
CREATE INDEX activity_logs_created_at ON activity_logs (created_at);

-- Sessions end in no order, and nobody indexed when.
CREATE TABLE sessions (id uuid PRIMARY KEY, customer_id int NOT NULL, expires_at timestamptz NOT NULL);
INSERT INTO sessions SELECT gen_random_uuid(), n % 500, now() + interval '14 days' - interval '70 days' * random() FROM generate_series(1, 120000) n;

CREATE TABLE outbox (id bigint PRIMARY KEY, topic text NOT NULL, published boolean NOT NULL, created_at timestamptz NOT NULL);
INSERT INTO outbox SELECT n, 'order-events', n % 200 <> 0, now() - interval '90 days' * (1 - n / 60000.0) FROM generate_series(1, 60000) n;

CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL, status text NOT NULL, closed_at timestamp);
INSERT INTO orders
  SELECT n, n % 500, (ARRAY['paid', 'paid', 'paid', 'cancelled', 'rejected', 'open'])[1 + n % 6],
    CASE WHEN n % 6 <> 5 THEN now() - interval '1100 days' * (1 - n / 40000.0) END
  FROM generate_series(1, 40000) n;
CREATE TABLE order_items (order_id bigint NOT NULL REFERENCES orders, position int NOT NULL, sku text NOT NULL, PRIMARY KEY (order_id, position));
INSERT INTO order_items SELECT n, 1, 'sku-' || n % 97 FROM generate_series(1, 40000) n;

CREATE TABLE carts (id bigint PRIMARY KEY, customer_id int NOT NULL, last_change date NOT NULL);
INSERT INTO carts SELECT n, n % 500, current_date - n % 60 FROM generate_series(1, 20000) n;

-- What the sweep does is compared with these.
CREATE SCHEMA proof;
CREATE TABLE proof.activity_logs AS TABLE activity_logs;
CREATE TABLE proof.sessions AS TABLE sessions;

ANALYZE;
SQL
sql --command "GRANT CONNECT ON DATABASE $NAMESPACE TO $ROLE" \
  --command "GRANT SELECT, DELETE ON activity_logs, sessions, outbox TO $ROLE" --command "GRANT SELECT ON orders, carts TO $ROLE"
tell "The operator gets a role of its own. It may read and delete rows of activity_logs, sessions and outbox, and read orders and carts. Nothing else."

headline 'A cluster with the RetentionPolicy API, the operator, and the policies of examples/'
{
  kubectl apply --server-side --filename crds/
  kubectl wait --for=condition=Established crd/retentionpolicies.retention-operator.io "$WAIT"
  kubectl create namespace "$NAMESPACE"
  # The example's Secrets name a host of a cluster; here is another one.
  sed "s/postgres\.shop\.svc/127.0.0.1/; s/5432/$PGPORT/; s/change-me/$PASSWORD/" examples/secrets.yaml | kubectl apply --filename -
} >/dev/null
# Ends with this script, also when that is killed.
NO_COLOR=1 setpriv --pdeathsig TERM "$dir/retention-operator" run --listen "127.0.0.1:$(free_port)" >"$dir/operator.log" 2>&1 &
operator=$!
policies=(activity-logs outbox orders-audit)
for policy in "${policies[@]}"; do show kubectl apply --filename "examples/$policy.yaml"; done

# await WHAT POLICY...: waits until the policies' status says so.
await() {
  local what=$1
  shift
  kubectl wait --namespace "$NAMESPACE" --for="$what" "$WAIT" "${@/#/retentionpolicy/}" >/dev/null || die "no policy came to $what"
}
# status POLICY JSONPATH
status() { kubectl get retentionpolicy "$1" --namespace "$NAMESPACE" --output "jsonpath=$2"; }
# rules HEADING JSONPATH POLICY...: one line for every rule of the policies.
rules() {
  local heading=$1 path=$2 policy
  shift 2
  { printf '%s\n' "$heading"; for policy in "$@"; do status "$policy" "{range .status.rules[*]}$path{'\n'}{end}"; done; } | columns
}

# --- the story ----------------------------------------------------------------------------------------------------------------

headline 'Audit: what is expired, and how do we know?'
await condition=Ready "${policies[@]}"
show kubectl get rp --all-namespaces
printf '\n'
rules 'RULE|ROWS|EXPIRED|HOW|EXACT|OLDEST|CUTOFF' \
  '{.name}|{.rows.value}|{.expiredRows.value}|{.expiredRows.method}|{.expiredRows.exact}|{.oldest.value}|{.cutoff}' "${policies[@]}"
tell "An audit reads catalogs and statistics only, in read-only transactions. With a hold or a where the statistics give no more than an upper bound: that proves nothing, so Compliant is Unknown."
printf '\n'
{
  printf 'POLICY|CONDITION|STATUS|REASON|MESSAGE\n'
  for policy in "${policies[@]}"; do status "$policy" "{range .status.conditions[*]}$policy|{.type}|{.status}|{.reason}|{.message}{'\n'}{end}"; done
} | columns

headline 'A policy that cannot work says so, and stops nobody else'
broken() {
  cat <<YAML
apiVersion: retention-operator.io/v1alpha1
kind: RetentionPolicy
metadata: {name: broken, namespace: $NAMESPACE}
spec:
  database: {urlFrom: {secretKeyRef: {name: shop-db, key: url}}}
  rules:
    - {name: logs, table: activity_logs, column: $1, expireAfter: $2, action: Delete}
YAML
}
tell "The API server refuses what can never be right, here expireAfter: 90 days"
if broken created_at '90 days' | kubectl apply --filename - 2>&1 | sed 's/^/   /'; then die 'an impossible policy was accepted'; fi
tell "What only the database can know, the status says: here column: created"
broken created 90d | kubectl apply --filename - >/dev/null
await condition=Stalled broken
status broken "{range .status.conditions[?(@.type=='Stalled')]}Stalled|{.reason}|{.message}{'\n'}{end}" | columns
kubectl delete rp broken --namespace "$NAMESPACE" >/dev/null

headline 'Sweep: the nightly run, asked for now'
request() {
  show kubectl annotate rp "$1" --namespace "$NAMESPACE" --field-manager=platform-team --overwrite \
    "retention-operator.io/sweep-requested-at=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
}
request activity-logs
await 'jsonpath={.status.lastSweep.outcome}=Succeeded' activity-logs
await condition=Compliant activity-logs
status activity-logs "{.status.lastSweep.outcome}: {.status.lastSweep.message}{'\n'}" | sed 's/^/   /'
status activity-logs "{range .status.lastSweep}TRIGGER|ROWS DELETED|CHUNKS|LONGEST CHUNK|RESTED{'\n'}{.trigger}|{.rowsDeleted}|{.chunks}|{.longestChunkMillis} ms|{.throttledSeconds} s{'\n'}{end}" | columns
printf '\n'
rules 'RULE|EXPIRED|HOW|EXACT|DELETED|WATERMARK' \
  '{.name}|{.expiredRows.value}|{.expiredRows.method}|{.expiredRows.exact}|{.rowsDeleted}|{.watermark}' activity-logs
tell "And the database itself? A copy of both tables was made before; the cutoffs follow from the watermark, reckoned by PostgreSQL:"
verdict=$(sql --set "watermark=$(status activity-logs '{.status.rules[0].watermark}')" <<'SQL'
WITH cutoff AS (
  SELECT :'watermark'::timestamptz AS sessions,
    (:'watermark'::timestamptz AT TIME ZONE 'Europe/Berlin' - interval '365 days') AT TIME ZONE 'Europe/Berlin' AS activity_logs
), compared AS (
  SELECT 'activity_logs' AS name, now.id IS NULL AS gone, coalesce(was.created_at < cutoff.activity_logs, false) AS expired, customer_id = 99 AS held
    FROM proof.activity_logs was CROSS JOIN cutoff LEFT JOIN (SELECT id FROM activity_logs) now USING (id)
  UNION ALL
  SELECT 'sessions', now.id IS NULL, was.expires_at < cutoff.sessions, false
    FROM proof.sessions was CROSS JOIN cutoff LEFT JOIN (SELECT id FROM sessions) now USING (id)
)
SELECT name, count(*), count(*) FILTER (WHERE gone), count(*) FILTER (WHERE expired AND held AND NOT gone),
  count(*) FILTER (WHERE expired AND NOT held AND NOT gone), count(*) FILTER (WHERE gone AND (held OR NOT expired))
  FROM compared GROUP BY name ORDER BY name
SQL
)
printf '%s\n' 'TABLE|ROWS BEFORE|GONE|HELD AND THERE|EXPIRED AND STILL THERE|GONE BUT NOT EXPIRED' "$verdict" | columns
[[ $(grep -c '|0|0$' <<<"$verdict") == 2 ]] || die 'the sweep did not delete exactly the expired rows'

headline 'Limits: a sweep that would take too much deletes nothing, and asks'
request outbox
await condition=ApprovalRequired outbox
status outbox "{range .status.conditions[?(@.type=='ApprovalRequired')]}ApprovalRequired|{.reason}|{.message}{'\n'}{end}" | columns
hash=$(status outbox '{.status.pendingApproval.planHash}')
tell "Rows in outbox: $(sql --command 'SELECT count(*) FROM outbox'). Somebody looks at the plan, and approves exactly that one:"
show kubectl annotate rp outbox --namespace "$NAMESPACE" --field-manager=platform-team "retention-operator.io/approved-plan=$hash"
await 'jsonpath={.status.lastSweep.outcome}=Succeeded' outbox
await condition=Compliant outbox
status outbox "{.status.lastSweep.outcome} ({.status.lastSweep.trigger}): {.status.lastSweep.message}{'\n'}" | sed 's/^/   /'
tell "Rows in outbox: $(sql --command 'SELECT count(*) FROM outbox'), $(sql --command 'SELECT count(*) FROM outbox WHERE NOT published') of them not published yet."

headline 'Afterwards'
show kubectl get rp --all-namespaces --output wide
printf '\n'
show kubectl events --namespace "$NAMESPACE"
printf '\n'
tell "Done after $SECONDS s. Everything is stopped and removed now. The next steps are in README.md."
