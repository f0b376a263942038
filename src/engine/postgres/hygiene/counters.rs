//! What the server counted of the use of tables and indexes, and which server it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;

use crate::{
    engine::postgres::{catalog::oid, session::Session, sql::constant},
    policy::usage::{Counters, Node},
};

macro_rules! counters {
    ($last_read:literal) => {
        concat!(
            "SELECT c.oid AS id, coalesce(pg_stat_get_numscans(c.oid), 0) AS reads, \
               CASE WHEN c.relkind = 'i' THEN 0 ELSE coalesce(pg_stat_get_tuples_inserted(c.oid) \
                 + pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid), 0) END AS writes, ",
            $last_read,
            " AS last_read \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'm', 'i') AND c.relpersistence <> 't' \
               AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'retention_operator')"
        )
    };
}

const COUNTERS_14: &str = counters!("NULL::int8");
/// 16 and newer remember when a table and an index were last scanned.
const COUNTERS_16: &str =
    counters!("(extract(epoch FROM pg_stat_get_lastscan(c.oid)) * 1000000)::int8");

/// The number of a timeline stands at the beginning of the names of its files: control data lag behind a promotion. A crash takes
/// the counters with it, and gives those of the whole server a new beginning. A role or a database may be left out of the count.
const NODE: &str = "\
SELECT pg_is_in_recovery() AS standby, d.oid::int8::text AS database, \
  (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS at, \
  (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8 AS started, \
  (extract(epoch FROM pg_stat_get_db_stat_reset_time(d.oid)) * 1000000)::int8 AS reset, \
  CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END AS timeline, \
  counting, concat_ws('/', CASE WHEN NOT counting THEN 'off' END, (SELECT extract(epoch FROM b.stats_reset) FROM pg_stat_bgwriter b), \
    (SELECT extract(epoch FROM w.stats_reset) FROM pg_stat_wal w)) AS epoch, \
  EXISTS (SELECT FROM pg_stat_replication) AS has_standbys, \
  has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS may_identify \
FROM pg_database d, LATERAL (SELECT current_setting('track_counts') = 'on' AND NOT EXISTS (SELECT FROM pg_db_role_setting s \
  WHERE s.setdatabase IN (0, d.oid) AND s.setconfig::text ILIKE '%track_counts=%')) AS t(counting) \
WHERE d.datname = current_database()";

const IDENTITY: &str = "SELECT system_identifier::text AS identifier FROM pg_control_system()";

pub(super) async fn counters(
    session: &mut Session,
    version: i32,
) -> Result<BTreeMap<u32, Counters>, sqlx::Error> {
    let statement = if version >= 160_000 {
        COUNTERS_16
    } else {
        COUNTERS_14
    };
    let counters = session
        .collect(constant(statement), |row| {
            let last_read: Option<i64> = row.try_get("last_read")?;
            let counters = Counters {
                reads: row.try_get("reads")?,
                writes: row.try_get("writes")?,
                last_read: last_read.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
            };
            Ok((oid(row, "id")?, counters))
        })
        .await?;
    Ok(counters.into_iter().collect())
}

/// The server; to be read after its counters.
pub(super) async fn node(session: &mut Session) -> Result<Node, sqlx::Error> {
    let row = session.row(constant(NODE)).await?;
    // Where the role may not ask, the beginnings of the counters tell one server from another as well.
    let system: String = if row.try_get("may_identify")? {
        session
            .row(constant(IDENTITY))
            .await?
            .try_get("identifier")?
    } else {
        String::new()
    };
    let database: String = row.try_get("database")?;
    Ok(Node {
        at: instant(row.try_get("at")?)?,
        server: format!("{system}-{database}"),
        timeline: row.try_get("timeline")?,
        started: instant(row.try_get("started")?)?,
        reset: row
            .try_get::<Option<i64>, _>("reset")?
            .map(instant)
            .transpose()?,
        epoch: row.try_get("epoch")?,
        counting: row.try_get("counting")?,
        standby: row.try_get("standby")?,
        has_standbys: row.try_get("has_standbys")?,
    })
}

fn instant(micros: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(micros).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
