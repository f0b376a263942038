//! Facts about the database, and what its statistics say: nothing here reads a row of a user's table or moves a counter of one.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};

use super::{
    catalog::{oid, oids},
    connect::Server,
    expiry,
    session::Session,
    sql::constant,
};
use crate::{
    engine::{DatabaseFacts, LeafStatistics, TableStatistics},
    policy::{
        encoding::{Encoding, decode},
        estimate::ColumnStatistics,
        plan::RulePlan,
        table::{ColumnFacts, TableFacts, TimeDomain},
    },
};

/// The exact size asks the file system for each file: a second for 10,000 tables with their indexes. From that many on it is the
/// catalog's.
const FACTS: &str = "\
SELECT split_part(current_setting('server_version'), ' ', 1) AS version, current_database()::text AS name, \
  d.oid AS id, \
  CASE WHEN (SELECT count(*) FROM pg_class c WHERE c.relkind IN ('r', 'm', 'i', 't', 'S')) <= 10000 THEN pg_database_size(d.oid) \
    ELSE (SELECT sum(c.relpages)::int8 FROM pg_class c) * current_setting('block_size')::int8 END AS size, \
  (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS now, pg_is_in_recovery() AS in_recovery, \
  has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS may_identify, \
  (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' \
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')) AS tables, \
  EXISTS (SELECT FROM pg_class c WHERE c.relkind IN ('r', 'p', 'f') \
    AND c.relnamespace NOT IN (SELECT n.oid FROM pg_namespace n \
      WHERE n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'retention_operator')) \
    AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')) AS may_write \
FROM pg_database d WHERE d.datname = current_database()";

const IDENTITY: &str = "SELECT system_identifier::text AS identifier FROM pg_control_system()";

/// Reads the database's facts in the transaction that `session` is in.
pub(super) async fn facts(
    session: &mut Session,
    server: &Server,
) -> Result<DatabaseFacts, sqlx::Error> {
    let row = session.row(constant(FACTS)).await?;
    let id = oid(&row, "id")?;
    let cluster = if row.try_get("may_identify")? {
        session
            .row(constant(IDENTITY))
            .await?
            .try_get("identifier")?
    } else {
        // An administrator took that right away: the address is the next best that stays the same.
        server.address.clone()
    };
    Ok(DatabaseFacts {
        engine: "PostgreSQL",
        version: row.try_get("version")?,
        name: row.try_get("name")?,
        identity: format!("{cluster}-{id}"),
        size_bytes: row.try_get("size")?,
        tables: row.try_get("tables")?,
        now: instant(row.try_get("now")?)?,
        in_recovery: row.try_get("in_recovery")?,
        read_only_by: if row.try_get("may_write")? {
            "ReadOnlyTransaction"
        } else {
            "ReadOnlyRole"
        },
    })
}

macro_rules! usage {
    ($last_read:literal) => {
        concat!(
            "SELECT t.id, (extract(epoch FROM greatest(pg_stat_get_last_analyze_time(t.id), \
                 pg_stat_get_last_autoanalyze_time(t.id))) * 1000000)::int8 AS analyzed_at, \
               (pg_stat_get_numscans(t.id) + coalesce((SELECT sum(pg_stat_get_numscans(x.indexrelid)) \
                 FROM pg_index x WHERE x.indrelid = t.id), 0))::int8 AS scans, \
               (pg_stat_get_tuples_inserted(t.id) + pg_stat_get_tuples_updated(t.id) + pg_stat_get_tuples_deleted(t.id))::int8 AS writes, \
               pg_stat_get_dead_tuples(t.id)::int8 AS dead, \
               (extract(epoch FROM ",
            $last_read,
            ") * 1000000)::int8 AS last_read, \
               (SELECT (extract(epoch FROM pg_stat_get_db_stat_reset_time(d.oid)) * 1000000)::int8 \
                 FROM pg_database d WHERE d.datname = current_database()) AS counting_since \
             FROM unnest($1::oid[]) AS t(id)"
        )
    };
}

/// By oid, as the views would read all tables first. `$1`: leaves.
const USAGE_14: &str = usage!("NULL::timestamptz");
/// 16 and newer remember when a table and an index were last scanned.
const USAGE_16: &str = usage!(
    "greatest(pg_stat_get_lastscan(t.id), (SELECT max(pg_stat_get_lastscan(x.indexrelid)) \
     FROM pg_index x WHERE x.indrelid = t.id))"
);

macro_rules! distribution {
    ($type:literal, $seconds:literal) => {
        concat!(
            "SELECT want.id, s.null_frac::float8 AS null_fraction, s.most_common_freqs::float8[] AS frequencies, \
               (SELECT array_agg(",
            $seconds,
            " ORDER BY n) FROM unnest(s.histogram_bounds::text::",
            $type,
            "[]) WITH ORDINALITY AS b(v, n)) AS histogram, \
               (SELECT array_agg(",
            $seconds,
            " ORDER BY n) FROM unnest(s.most_common_vals::text::",
            $type,
            "[]) WITH ORDINALITY AS b(v, n)) AS common \
             FROM unnest($1::oid[], $2::text[], $3::text[]) AS want(id, schema, name) \
             JOIN pg_stats s ON s.schemaname = want.schema AND s.tablename = want.name \
               AND s.attname = $4::text AND NOT s.inherited"
        )
    };
}

/// Of encoded columns: the stored values as texts, to be decoded here.
const TEXTS: &str = distribution!("text", "v");
const INSTANTS: &str = distribution!("timestamptz", "extract(epoch FROM v)::float8");
const LOCALS: &str = distribution!("timestamp", "extract(epoch FROM v)::float8");
/// By days, as the calendar of dates reaches further than that of timestamps.
const DATES: &str = distribution!(
    "date",
    "CASE WHEN isfinite(v) THEN (v - '1970-01-01'::date)::float8 * 86400 \
     WHEN v > '1970-01-01'::date THEN 'infinity'::float8 ELSE '-infinity'::float8 END"
);

/// Reads what the statistics know of a plan's table and its column.
pub(super) async fn statistics(
    session: &mut Session,
    plan: &RulePlan,
    version: i32,
) -> Result<TableStatistics, sqlx::Error> {
    let table = &plan.table;
    let usage = usage(session, table, version).await?;
    let distributions = distributions(session, plan).await?;
    let leaves = table
        .leaves
        .iter()
        .filter(|leaf| leaf.pages > 0)
        .map(|leaf| LeafStatistics {
            rows: leaf.rows,
            column: distributions.get(&leaf.id).cloned(),
            analyzed_at: usage.get(&leaf.id).and_then(|usage| usage.analyzed_at),
        })
        .collect();
    Ok(TableStatistics {
        leaves,
        last_read: usage.values().filter_map(|usage| usage.last_read).max(),
        scans: usage.values().map(|usage| usage.scans).sum(),
        writes: usage.values().map(|usage| usage.writes).sum(),
        counting_since: usage.values().find_map(|usage| usage.counting_since),
        dead_rows: usage.values().map(|usage| usage.dead).sum(),
    })
}

struct Usage {
    analyzed_at: Option<Timestamp>,
    last_read: Option<Timestamp>,
    counting_since: Option<Timestamp>,
    scans: i64,
    writes: i64,
    dead: i64,
}

async fn usage(
    session: &mut Session,
    table: &TableFacts,
    version: i32,
) -> Result<HashMap<u32, Usage>, sqlx::Error> {
    let statement = if version >= 160_000 {
        USAGE_16
    } else {
        USAGE_14
    };
    let ids = oids(table.leaves.iter().map(|leaf| &leaf.id));
    let rows = session.rows(constant(statement).bind(ids)).await?;
    rows.iter()
        .map(|row| {
            let usage = Usage {
                analyzed_at: moment(row, "analyzed_at")?,
                last_read: moment(row, "last_read")?,
                counting_since: moment(row, "counting_since")?,
                scans: row.try_get::<Option<i64>, _>("scans")?.unwrap_or(0),
                writes: row.try_get::<Option<i64>, _>("writes")?.unwrap_or(0),
                dead: row.try_get::<Option<i64>, _>("dead")?.unwrap_or(0),
            };
            Ok((oid(row, "id")?, usage))
        })
        .collect()
}

async fn distributions(
    session: &mut Session,
    plan: &RulePlan,
) -> Result<HashMap<u32, ColumnStatistics>, sqlx::Error> {
    let table = &plan.table;
    let column = table.column(&plan.column);
    let encoding = plan
        .encoding
        .zip(column)
        .filter(|(_, column)| expiry::fits(plan, column));
    let statement = match (column.and_then(|column| column.time_domain), encoding) {
        (Some(TimeDomain::Instant), _) => INSTANTS,
        (Some(TimeDomain::Local), _) => LOCALS,
        (Some(TimeDomain::Date), _) => DATES,
        (None, Some(_)) => TEXTS,
        (None, None) => return Ok(HashMap::new()),
    };
    let leaves: Vec<_> = table.leaves.iter().filter(|leaf| leaf.pages > 0).collect();
    let schemas: Vec<String> = leaves.iter().map(|leaf| leaf.schema.clone()).collect();
    let names: Vec<String> = leaves.iter().map(|leaf| leaf.name.clone()).collect();
    let query = constant(statement)
        .bind(oids(leaves.iter().map(|leaf| &leaf.id)))
        .bind(schemas)
        .bind(names)
        .bind(plan.column.clone());
    let rows = session.rows(query).await?;
    rows.iter()
        .map(|row| {
            let null_fraction = row.try_get("null_fraction")?;
            let frequencies: Vec<f64> = list(row, "frequencies")?;
            let statistics = match encoding {
                None => {
                    let values: Vec<f64> = list(row, "common")?;
                    ColumnStatistics {
                        null_fraction,
                        unreadable_fraction: 0.0,
                        histogram: list(row, "histogram")?,
                        common: values.into_iter().zip(frequencies).collect(),
                    }
                }
                Some((encoding, column)) => {
                    let decoded = |name| -> Result<Vec<Option<f64>>, sqlx::Error> {
                        let values: Vec<String> = list(row, name)?;
                        let read = |value: &String| read(plan, encoding, column, value);
                        Ok(values.iter().map(read).collect())
                    };
                    let common: Vec<_> = decoded("common")?.into_iter().zip(frequencies).collect();
                    ColumnStatistics::decoded(null_fraction, &decoded("histogram")?, &common)
                }
            };
            Ok((oid(row, "id")?, statistics))
        })
        .collect()
}

const CORRELATION: &str = "\
SELECT coalesce(min(abs(s.correlation)), 0)::float8 AS correlation \
FROM unnest($1::text[], $2::text[]) AS want(schema, name) \
JOIN pg_stats s ON s.schemaname = want.schema AND s.tablename = want.name AND s.attname = $3::text AND NOT s.inherited";

/// How well the order on disk follows that of the column, 0 to 1: that of the worst leaf; 0 where nothing is known.
pub(super) async fn correlation(
    session: &mut Session,
    table: &TableFacts,
    column: &str,
) -> Result<f64, sqlx::Error> {
    let leaves = table.leaves.iter().filter(|leaf| leaf.pages > 0);
    let (schemas, names): (Vec<String>, Vec<String>) = leaves
        .map(|leaf| (leaf.schema.clone(), leaf.name.clone()))
        .unzip();
    let query = constant(CORRELATION)
        .bind(schemas)
        .bind(names)
        .bind(column.to_owned());
    session.row(query).await?.try_get("correlation")
}

/// What a value in the statistics means. The padding of `character(n)` is not part of it; that of a domain over it is not
/// known here, and such a value then counts as unreadable.
fn read(plan: &RulePlan, encoding: Encoding, column: &ColumnFacts, value: &str) -> Option<f64> {
    let value = if column.type_name.starts_with("character(") || column.type_name == "bpchar" {
        value.trim_end_matches(' ')
    } else {
        value
    };
    decode(encoding, column.storage?, value, &plan.column_zone)
}

fn list<T>(row: &PgRow, name: &str) -> Result<Vec<T>, sqlx::Error>
where
    Option<Vec<T>>: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    Ok(row.try_get::<Option<Vec<T>>, _>(name)?.unwrap_or_default())
}

fn moment(row: &PgRow, name: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(name)?
        .map(instant)
        .transpose()
}

/// From microseconds since 1970.
pub(super) fn instant(micros: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(micros).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
