//! What audits remember over time: the use of tables and indexes, one point a day, and since when findings are there.
//!
//! One row an object and none a sample. The tables are younger than the ledger's others: a ledger without them is whole, and
//! gets them where the role may create. Like the others they hold nothing that runs code.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};

use super::{book::number, ddl};
use crate::{
    engine::{
        ledger::{DayPoint, Remember, Remembered, TrendPoint},
        postgres::{
            session::Session,
            sql::{constant, fixed},
        },
    },
    policy::usage::{Break, Change, Memory, Node, OwnUse, State, Swept, Window, Windows},
};

/// The tables; each statement is repeatable.
pub(super) const TABLES: [(&str, &str); 6] = [
    (
        "usage_node",
        "CREATE TABLE IF NOT EXISTS retention_operator.usage_node (one boolean PRIMARY KEY, server text NOT NULL, \
         timeline text NOT NULL, started_at timestamptz NOT NULL, reset_at timestamptz, epoch text NOT NULL, \
         since timestamptz NOT NULL, broken_by text NOT NULL, sampled_at timestamptz NOT NULL) WITH (fillfactor = 20)",
    ),
    (
        "usage_window",
        "CREATE TABLE IF NOT EXISTS retention_operator.usage_window (key bigint PRIMARY KEY, name text NOT NULL, \
         object_id bigint NOT NULL, since timestamptz NOT NULL, broken_by text NOT NULL, reads bigint NOT NULL, \
         writes bigint NOT NULL, counted_at timestamptz NOT NULL, last_use timestamptz, blind_seconds bigint NOT NULL) \
         WITH (fillfactor = 50)",
    ),
    (
        "trend",
        "CREATE TABLE IF NOT EXISTS retention_operator.trend (policy text NOT NULL, day date NOT NULL, \
         taken_at timestamptz NOT NULL, size_bytes bigint NOT NULL, expired_rows bigint, dead_rows bigint NOT NULL, \
         critical bigint NOT NULL, warning bigint NOT NULL, info bigint NOT NULL, PRIMARY KEY (policy, day))",
    ),
    (
        "finding",
        "CREATE TABLE IF NOT EXISTS retention_operator.finding (policy text NOT NULL, id text NOT NULL, \
         first_seen timestamptz NOT NULL, last_seen timestamptz NOT NULL, PRIMARY KEY (policy, id))",
    ),
    (
        "own_use",
        "CREATE TABLE IF NOT EXISTS retention_operator.own_use (object_id bigint PRIMARY KEY, reads bigint NOT NULL, \
         writes bigint NOT NULL, at timestamptz NOT NULL) WITH (fillfactor = 50)",
    ),
    (
        "own_run",
        "CREATE TABLE IF NOT EXISTS retention_operator.own_run (token text PRIMARY KEY, sweep_id text NOT NULL, \
         begun_at timestamptz NOT NULL, ended_at timestamptz, exact boolean NOT NULL)",
    ),
];

const MAY_FILL: &str = "\
SELECT has_schema_privilege(s.oid, 'CREATE') AS may_fill FROM pg_namespace s WHERE s.nspname = 'retention_operator'";

/// Which of the tables there are.
pub(super) enum There {
    /// All of them.
    All { may_write: bool },
    /// Some are missing.
    Missing { may_create: bool },
    /// They may not be used.
    Unusable(String),
}

pub(super) async fn look(session: &mut Session, role: &str) -> Result<There, sqlx::Error> {
    let names: Vec<String> = TABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let tables = session.rows(constant(ddl::SHAPE).bind(names)).await?;
    let mut may_write = true;
    for table in &tables {
        let name: String = table.try_get("name")?;
        if !table.try_get::<bool, _>("plain")? {
            return Ok(There::Unusable(format!(
                "nothing is kept over time: {}.{name} is not the table that the operator makes",
                ddl::SCHEMA
            )));
        }
        if !table.try_get::<bool, _>("may_read")? {
            return Ok(There::Unusable(format!(
                "nothing is kept over time: role {role:?} may not read {}.{name}; run: {}",
                ddl::SCHEMA,
                super::grant_tables(role)
            )));
        }
        may_write &= table.try_get::<bool, _>("may_write")?;
    }
    if tables.len() == TABLES.len() {
        return Ok(There::All { may_write });
    }
    let rows = session.rows(constant(MAY_FILL)).await?;
    let may_create = rows
        .first()
        .map_or(Ok(false), |row| row.try_get("may_fill"))?;
    Ok(There::Missing { may_create })
}

/// Makes the tables that are missing, for all who use the ledger. The book is locked.
pub(super) async fn make(session: &mut Session) -> Result<(), sqlx::Error> {
    let names: Vec<String> = TABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let present = session
        .rows(constant(ddl::PRESENT).bind(names))
        .await?
        .iter()
        .map(|row| row.try_get("name"))
        .collect::<Result<Vec<String>, sqlx::Error>>()?;
    let mut made = Vec::new();
    for (name, statement) in TABLES {
        if !present.iter().any(|present| present == name) {
            session.raw(&fixed(statement)).await?;
            made.push(name);
        }
    }
    super::share(session, &made).await
}

const NODE: &str = "\
SELECT server, timeline, (extract(epoch FROM started_at) * 1000000)::int8 AS started, \
  (extract(epoch FROM reset_at) * 1000000)::int8 AS reset, epoch, (extract(epoch FROM since) * 1000000)::int8 AS since, \
  broken_by, (extract(epoch FROM sampled_at) * 1000000)::int8 AS sampled \
FROM retention_operator.usage_node WHERE one";
const WINDOWS: &str = "\
SELECT key, object_id AS id, (extract(epoch FROM since) * 1000000)::int8 AS since, broken_by, reads, writes, \
  (extract(epoch FROM counted_at) * 1000000)::int8 AS counted, (extract(epoch FROM last_use) * 1000000)::int8 AS last_use, \
  blind_seconds AS blind FROM retention_operator.usage_window";
/// So many windows are written by one statement: all of a large database would be a message of many megabytes.
const BATCH: usize = 1_000;
/// Where the sweeps of the last weeks went, until when, and until when those went that do not know what they added to the
/// counters: one part of them never ended in good order, or an operator ended it that does not count. One that has not ended may
/// still be at it, unless each of its parts has ended in good order: then it waits for its next window.
const SWEPT: &str = "\
SELECT array_agg(t.table_id) AS ids, array_agg((extract(epoch FROM t.until) * 1000000)::int8) AS until, \
  array_agg((extract(epoch FROM t.unclear) * 1000000)::int8) AS unclear FROM ( \
  SELECT r.table_id, max(coalesce(s.ended_at, CASE WHEN s.exact THEN s.rested END, clock_timestamp())) AS until, \
    max(s.ended_at) FILTER (WHERE NOT (s.exact AND s.told)) AS unclear \
  FROM (SELECT s.id, s.ended_at, coalesce(bool_and(o.ended_at IS NOT NULL AND o.exact), false) AS exact, \
      coalesce(bool_or(o.ended_at = s.ended_at), false) AS told, max(o.ended_at) AS rested \
    FROM retention_operator.sweep s LEFT JOIN retention_operator.own_run o ON o.sweep_id = s.id \
    WHERE s.ended_at IS NULL OR s.ended_at > clock_timestamp() - interval '60 days' GROUP BY s.id, s.ended_at) s \
  JOIN retention_operator.sweep_rule r ON r.sweep_id = s.id GROUP BY r.table_id) t";
const OWN: &str = "\
SELECT array_agg(object_id) AS ids, array_agg(reads) AS reads, array_agg(writes) AS writes, \
  array_agg((extract(epoch FROM at) * 1000000)::int8) AS at FROM retention_operator.own_use";
/// `$1`: the policy.
const FINDINGS: &str = "\
SELECT array_agg(id) AS ids, array_agg((extract(epoch FROM first_seen) * 1000000)::int8) AS since \
FROM retention_operator.finding WHERE policy = $1::text";

/// `$1`: the policy. At most so many days as are kept.
const TREND: &str = "\
SELECT (extract(epoch FROM t.taken_at) * 1000000)::int8 AS taken, t.size_bytes, t.expired_rows, t.dead_rows, t.critical, t.warning, t.info \
FROM retention_operator.trend t WHERE t.policy = $1::text ORDER BY t.day DESC LIMIT 400";

/// Reads everything.
pub(super) async fn read(session: &mut Session, policy: &str) -> Result<Remembered, sqlx::Error> {
    let row = session
        .row(constant(FINDINGS).bind(policy.to_owned()))
        .await?;
    let ids: Vec<String> = list(&row, "ids")?;
    let since: Vec<i64> = list(&row, "since")?;
    let first_seen = ids
        .into_iter()
        .zip(since)
        .map(|(id, micros)| Ok((id, instant(micros)?)))
        .collect::<Result<HashMap<_, _>, sqlx::Error>>()?;
    let row = session.row(constant(SWEPT)).await?;
    let ids: Vec<i64> = list(&row, "ids")?;
    let until: Vec<i64> = list(&row, "until")?;
    let unclear: Vec<Option<i64>> = list(&row, "unclear")?;
    let swept = ids
        .into_iter()
        .zip(until.into_iter().zip(unclear))
        .map(|(id, (until, unclear))| {
            let swept = Swept {
                until: instant(until)?,
                unclear_until: unclear.map(instant).transpose()?,
            };
            Ok((number(id), swept))
        })
        .collect::<Result<HashMap<_, _>, sqlx::Error>>()?;
    Ok(Remembered {
        usage: Some(Memory {
            state: state(session).await?,
            windows: windows(session).await?,
            swept,
            own: own(session).await?,
        }),
        trend: trend(session, policy).await?,
        first_seen,
        ..Remembered::default()
    })
}

async fn trend(session: &mut Session, policy: &str) -> Result<Vec<TrendPoint>, sqlx::Error> {
    let rows = session
        .rows(constant(TREND).bind(policy.to_owned()))
        .await?;
    rows.iter()
        .rev()
        .map(|row| {
            Ok(TrendPoint {
                taken: instant(row.try_get("taken")?)?,
                day: DayPoint {
                    size_bytes: row.try_get("size_bytes")?,
                    expired_rows: row.try_get("expired_rows")?,
                    dead_rows: Some(row.try_get("dead_rows")?).filter(|rows| *rows != UNKNOWN),
                    findings: [
                        row.try_get("critical")?,
                        row.try_get("warning")?,
                        row.try_get("info")?,
                    ],
                },
            })
        })
        .collect()
}

async fn own(session: &mut Session) -> Result<HashMap<u32, OwnUse>, sqlx::Error> {
    let row = session.row(constant(OWN)).await?;
    let ids: Vec<i64> = list(&row, "ids")?;
    let reads: Vec<i64> = list(&row, "reads")?;
    let writes: Vec<i64> = list(&row, "writes")?;
    let at: Vec<i64> = list(&row, "at")?;
    let counts = reads.into_iter().zip(writes).zip(at);
    ids.into_iter()
        .zip(counts)
        .map(|(id, ((reads, writes), at))| {
            let own = OwnUse {
                reads,
                writes,
                at: Some(instant(at)?),
            };
            Ok((number(id), own))
        })
        .collect()
}

async fn state(session: &mut Session) -> Result<Option<State>, sqlx::Error> {
    let rows = session.rows(constant(NODE)).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let broken_by: String = row.try_get("broken_by")?;
    Ok(Some(State {
        node: Node {
            at: instant(row.try_get("sampled")?)?,
            server: row.try_get("server")?,
            timeline: row.try_get("timeline")?,
            started: instant(row.try_get("started")?)?,
            reset: row
                .try_get::<Option<i64>, _>("reset")?
                .map(instant)
                .transpose()?,
            epoch: row.try_get("epoch")?,
            counting: true,
            standby: false,
            has_standbys: false,
        },
        since: instant(row.try_get("since")?)?,
        broken_by: Break::read(&broken_by),
    }))
}

async fn windows(session: &mut Session) -> Result<Windows, sqlx::Error> {
    let windows = session
        .collect(constant(WINDOWS), |row| {
            let window = Window {
                id: number(row.try_get("id")?),
                since: instant(row.try_get("since")?)?,
                broken_by: Break::read(row.try_get("broken_by")?),
                reads: row.try_get("reads")?,
                writes: row.try_get("writes")?,
                counted: instant(row.try_get("counted")?)?,
                last_use: row
                    .try_get::<Option<i64>, _>("last_use")?
                    .map(instant)
                    .transpose()?,
                blind_seconds: row.try_get("blind")?,
            };
            Ok((row.try_get("key")?, window))
        })
        .await?;
    Ok(windows.into())
}

/// `$1`: when the last sample was taken, `$2`…: the server now. Another sample in between matches no row.
const NEXT_NODE: &str = "\
UPDATE retention_operator.usage_node SET server = $2::text, timeline = $3::text, \
  started_at = timestamptz 'epoch' + $4::int8 * interval '1 microsecond', \
  reset_at = timestamptz 'epoch' + $5::int8 * interval '1 microsecond', epoch = $6::text, \
  since = timestamptz 'epoch' + $7::int8 * interval '1 microsecond', broken_by = $8::text, \
  sampled_at = timestamptz 'epoch' + $9::int8 * interval '1 microsecond' \
WHERE one AND (extract(epoch FROM sampled_at) * 1000000)::int8 = $1::int8";
/// `$1`: nothing.
const FIRST_NODE: &str = "\
INSERT INTO retention_operator.usage_node (one, server, timeline, started_at, reset_at, epoch, since, broken_by, sampled_at) \
SELECT true, $2::text, $3::text, timestamptz 'epoch' + $4::int8 * interval '1 microsecond', \
  timestamptz 'epoch' + $5::int8 * interval '1 microsecond', $6::text, \
  timestamptz 'epoch' + $7::int8 * interval '1 microsecond', $8::text, \
  timestamptz 'epoch' + $9::int8 * interval '1 microsecond' WHERE $1::int8 IS NULL ON CONFLICT (one) DO NOTHING";
/// The names are for people who look into the ledger.
const ENTER_WINDOWS: &str = "\
INSERT INTO retention_operator.usage_window (key, name, object_id, since, broken_by, reads, writes, counted_at, last_use, blind_seconds) \
SELECT w.key, concat_ws('.', quote_ident(n.nspname), quote_ident(t.relname), quote_ident(c.relname)), w.id, timestamptz 'epoch' + w.since * interval '1 microsecond', w.broken_by, w.reads, w.writes, \
  timestamptz 'epoch' + w.counted * interval '1 microsecond', timestamptz 'epoch' + w.last_use * interval '1 microsecond', w.blind \
FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], $9::int8[]) \
  AS w(key, id, since, broken_by, reads, writes, counted, last_use, blind) \
LEFT JOIN pg_class c ON c.oid = w.id::oid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace \
LEFT JOIN pg_index x ON x.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = x.indrelid \
ON CONFLICT (key) DO UPDATE SET name = excluded.name, object_id = excluded.object_id, since = excluded.since, \
  broken_by = excluded.broken_by, reads = excluded.reads, writes = excluded.writes, counted_at = excluded.counted_at, \
  last_use = excluded.last_use, blind_seconds = excluded.blind_seconds";
const FORGET_WINDOWS: &str = "\
DELETE FROM retention_operator.usage_window WHERE key = ANY ($1::int8[])";
/// `$1`: old numbers, `$2`: new ones.
const RENUMBER: &str = "\
WITH old AS (DELETE FROM retention_operator.own_use WHERE object_id = ANY ($1::int8[]) RETURNING object_id, reads, writes, at) \
INSERT INTO retention_operator.own_use AS o (object_id, reads, writes, at) \
SELECT n.new, old.reads, old.writes, old.at FROM unnest($1::int8[], $2::int8[]) AS n(old, new) JOIN old ON old.object_id = n.old \
ON CONFLICT (object_id) DO UPDATE SET reads = o.reads + excluded.reads, writes = o.writes + excluded.writes";
/// Where somebody removed a table, its sums go with the next sample.
const FORGET_OWN: &str = "\
DELETE FROM retention_operator.own_use o WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid::int8 = o.object_id)";
const FORGET_RUNS: &str = "\
DELETE FROM retention_operator.own_run o WHERE NOT EXISTS (SELECT FROM retention_operator.sweep s WHERE s.id = o.sweep_id)";

/// `$1`: the policy, `$2`: ids, `$3`: when they were seen. None is locked that stays as it is.
const NEW_FINDINGS: &str = "\
INSERT INTO retention_operator.finding (policy, id, first_seen, last_seen) \
SELECT $1::text, n.id, s.at, s.at FROM unnest($2::text[]) AS n(id), \
  (SELECT timestamptz 'epoch' + $3::int8 * interval '1 microsecond') AS s(at) \
WHERE NOT EXISTS (SELECT FROM retention_operator.finding f WHERE f.policy = $1::text AND f.id = n.id) \
ON CONFLICT (policy, id) DO NOTHING";
const SEEN_FINDINGS: &str = "\
UPDATE retention_operator.finding SET last_seen = clock_timestamp() \
WHERE policy = $1::text AND id = ANY ($2::text[]) AND last_seen < clock_timestamp() - interval '1 day'";
/// What is gone for a month and comes back is new.
const OLD_FINDINGS: &str = "\
DELETE FROM retention_operator.finding WHERE last_seen < clock_timestamp() - interval '30 days'";

/// In the ledger a number of dead rows that is not known: the column never took NULL, and an operator that is older could not read one.
const UNKNOWN: i64 = -1;
/// `$1`: the policy, `$2`…: the figures.
const FIRST_POINT: &str = "\
INSERT INTO retention_operator.trend (policy, day, taken_at, size_bytes, expired_rows, dead_rows, critical, warning, info) \
SELECT $1::text, (clock_timestamp() AT TIME ZONE 'UTC')::date, clock_timestamp(), $2::int8, $3::int8, $4::int8, $5::int8, $6::int8, $7::int8 \
WHERE NOT EXISTS (SELECT FROM retention_operator.trend t \
  WHERE t.policy = $1::text AND t.day = (clock_timestamp() AT TIME ZONE 'UTC')::date) ON CONFLICT (policy, day) DO NOTHING";
/// A day's point is that of its last audit, written anew once an hour at most.
const LATER_POINT: &str = "\
UPDATE retention_operator.trend t SET taken_at = clock_timestamp(), size_bytes = $2::int8, expired_rows = $3::int8, \
  dead_rows = $4::int8, critical = $5::int8, warning = $6::int8, info = $7::int8 \
WHERE t.policy = $1::text AND t.day = (clock_timestamp() AT TIME ZONE 'UTC')::date \
  AND t.taken_at < clock_timestamp() - interval '1 hour' \
  AND (t.size_bytes, t.expired_rows, t.dead_rows, t.critical, t.warning, t.info) \
    IS DISTINCT FROM ($2::int8, $3::int8, $4::int8, $5::int8, $6::int8, $7::int8)";
const OLD_POINTS: &str = "\
DELETE FROM retention_operator.trend WHERE day < (clock_timestamp() AT TIME ZONE 'UTC')::date - 400";

/// Writes everything down. The book is locked.
pub(super) async fn write(session: &mut Session, remember: &Remember) -> Result<(), sqlx::Error> {
    if let Some(change) = &remember.usage {
        write_usage(session, change).await?;
    }
    let policy = || remember.policy.clone();
    if !remember.findings.is_empty() {
        let seen = |statement| {
            constant(statement)
                .bind(policy())
                .bind(remember.findings.clone())
        };
        let new = seen(NEW_FINDINGS).bind(remember.at.as_microsecond());
        session.execute(new).await?;
        session.execute(seen(SEEN_FINDINGS)).await?;
    }
    let DayPoint {
        size_bytes,
        expired_rows,
        dead_rows,
        findings: [critical, warning, info],
    } = remember.today;
    let point = |statement| {
        constant(statement)
            .bind(policy())
            .bind(size_bytes)
            .bind(expired_rows)
            .bind(dead_rows.unwrap_or(UNKNOWN))
            .bind(critical)
            .bind(warning)
            .bind(info)
    };
    if session.execute(point(FIRST_POINT)).await? == 0 {
        session.execute(point(LATER_POINT)).await?;
    } else {
        session.execute(constant(OLD_POINTS)).await?;
        session.execute(constant(OLD_FINDINGS)).await?;
        session.execute(constant(FORGET_RUNS)).await?;
    }
    Ok(())
}

async fn write_usage(session: &mut Session, change: &Change) -> Result<(), sqlx::Error> {
    let State {
        node,
        since,
        broken_by,
    } = &change.state;
    let previous = change.previous.map(Timestamp::as_microsecond);
    let statement = if previous.is_some() {
        NEXT_NODE
    } else {
        FIRST_NODE
    };
    let entered = constant(statement)
        .bind(previous)
        .bind(node.server.clone())
        .bind(node.timeline.clone())
        .bind(node.started.as_microsecond())
        .bind(node.reset.map(Timestamp::as_microsecond))
        .bind(node.epoch.clone())
        .bind(since.as_microsecond())
        .bind(broken_by.as_str())
        .bind(node.at.as_microsecond());
    if session.execute(entered).await? == 0 {
        // Somebody else took a sample meanwhile: this one rests on what is no more.
        return Ok(());
    }
    for windows in change.windows.chunks(BATCH) {
        session.execute(entering(windows)).await?;
    }
    if !change.gone.is_empty() {
        session
            .execute(constant(FORGET_WINDOWS).bind(change.gone.clone()))
            .await?;
    }
    if !change.renumbered.is_empty() {
        let numbers = change.renumbered.iter();
        let (old, new): (Vec<i64>, Vec<i64>) = numbers
            .map(|(old, new)| (i64::from(*old), i64::from(*new)))
            .unzip();
        session
            .execute(constant(RENUMBER).bind(old).bind(new))
            .await?;
    }
    if !change.gone.is_empty() {
        session.execute(constant(FORGET_OWN)).await?;
    }
    Ok(())
}

fn entering(
    windows: &[(i64, Window)],
) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let numbers = |of: &dyn Fn(&Window) -> i64| -> Vec<i64> {
        windows.iter().map(|(_, window)| of(window)).collect()
    };
    let keys: Vec<i64> = windows.iter().map(|(key, ..)| *key).collect();
    let broken_by: Vec<String> = windows
        .iter()
        .map(|(_, window)| window.broken_by.as_str().to_owned())
        .collect();
    let last_use: Vec<Option<i64>> = windows
        .iter()
        .map(|(_, window)| window.last_use.map(Timestamp::as_microsecond))
        .collect();
    constant(ENTER_WINDOWS)
        .bind(keys)
        .bind(numbers(&|window| i64::from(window.id)))
        .bind(numbers(&|window| window.since.as_microsecond()))
        .bind(broken_by)
        .bind(numbers(&|window| window.reads))
        .bind(numbers(&|window| window.writes))
        .bind(numbers(&|window| window.counted.as_microsecond()))
        .bind(last_use)
        .bind(numbers(&|window| window.blind_seconds))
}

fn list<T>(row: &PgRow, name: &str) -> Result<Vec<T>, sqlx::Error>
where
    Option<Vec<T>>: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    Ok(row.try_get::<Option<Vec<T>>, _>(name)?.unwrap_or_default())
}

fn instant(micros: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(micros).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_holds_anything_that_runs() {
        for (name, statement) in TABLES {
            assert!(statement.contains(&format!("IF NOT EXISTS {}.{name} (", ddl::SCHEMA)));
            for word in ["DEFAULT", "CHECK", "REFERENCES", "TRIGGER"] {
                assert!(!statement.contains(word), "{name}: {word}");
            }
        }
    }
}
