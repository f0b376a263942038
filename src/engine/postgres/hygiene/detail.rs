//! What the checks of single tables look at, beside the tables themselves.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow, postgres::types::Oid};

use crate::{
    engine::postgres::{
        catalog::{oid, oids},
        catalog_sql,
        session::Session,
        sql::constant,
    },
    policy::hygiene::facts::{
        Bound, ConstraintKind, Counters, Facts, Identity, Kind, TableDetail, Toast, TotalKey,
        Unvalidated,
    },
};

/// Files whose size is asked at most: each takes some 20 microseconds.
const SIZES_AT_MOST: usize = 2_000;

/// Reads everything into `facts`, which hold the tables and indexes already.
pub(super) async fn read(session: &mut Session, facts: &mut Facts) -> Result<(), sqlx::Error> {
    read_tables(session, facts).await?;
    read_sizes(session, facts).await?;
    read_bounds(session, facts).await?;
    read_published(session, facts).await?;
    facts.total_keys = total_keys(session).await?;
    facts
        .total_keys
        .retain(|key| facts.tables.contains_key(&key.table));
    facts.unvalidated = unvalidated(session).await?;
    facts
        .unvalidated
        .retain(|constraint| facts.tables.contains_key(&constraint.table));
    Ok(())
}

/// The counters come by functions, as their views would join all indexes.
const DETAILS: &str = "\
SELECT c.oid AS id, c.relpersistence = 'u' AS unlogged, c.relhassubclass AS has_children, c.relreplident::text AS identity, c.relnatts::int4 AS attributes, \
  c.relrowsecurity AND row_security_active(c.oid) AS row_security, \
  substring(array_to_string(c.reloptions, ',') FROM 'fillfactor=([0-9]+)')::int2 AS fill_factor, \
  t.relname::text AS toast, t.relpages::int8 AS toast_pages, t.reltuples::float8 AS chunks, \
  (extract(epoch FROM greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid))) * 1000000)::int8 AS analyzed_at, \
  pg_stat_get_tuples_inserted(c.oid) AS inserted, pg_stat_get_tuples_updated(c.oid) AS updated, \
  pg_stat_get_tuples_deleted(c.oid) AS deleted, pg_stat_get_live_tuples(c.oid) AS live, \
  pg_stat_get_mod_since_analyze(c.oid) AS modified, has_any_column_privilege(c.oid, 'SELECT') AS may_read \
FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND c.relnamespace NOT IN ( \
  SELECT n.oid FROM pg_namespace n WHERE n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'retention_operator'))";

/// Partitions that are foreign tables, by their parents.
const FOREIGN: &str = "\
SELECT DISTINCT i.inhparent AS id FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'f'";

/// Sequences, views, foreign tables, free-standing types and what belongs to extensions: indexes share their names.
const OTHER_NAMES: &str = "\
SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND (c.relkind IN ('S', 'v', 'f', 'c', 'm') \
  OR c.relkind IN ('r', 'p', 'i', 'I') AND c.oid IN (SELECT d.objid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e'))";

const SELF: &str = "\
SELECT current_user::text AS role, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS now, pg_is_in_recovery() AS in_recovery, \
  (SELECT (extract(epoch FROM pg_stat_get_db_stat_reset_time(d.oid)) * 1000000)::int8 FROM pg_database d WHERE d.datname = current_database()) AS counting_since";

async fn read_tables(session: &mut Session, facts: &mut Facts) -> Result<(), sqlx::Error> {
    let row = session.row(constant(SELF)).await?;
    facts.role = row.try_get("role")?;
    facts.now = facts.now.or(instant(&row, "now")?);
    facts.in_recovery = row.try_get("in_recovery")?;
    facts.counting_since = instant(&row, "counting_since")?;
    session
        .collect(constant(DETAILS), |row| {
            if let Some(table) = facts.tables.get_mut(&oid(row, "id")?) {
                table.detail = detail(row)?;
            }
            Ok(())
        })
        .await?;
    for row in session.rows(constant(OTHER_NAMES)).await? {
        let name = (row.try_get("schema")?, row.try_get("name")?);
        facts.other_names.push(name);
    }
    for row in session.rows(constant(FOREIGN)).await? {
        if let Some(table) = facts.tables.get_mut(&oid(&row, "id")?) {
            table.detail.foreign_children = true;
        }
    }
    let hidden = facts
        .tables
        .values()
        .filter(|table| table.kind != Kind::Partitioned && table.pages > 0)
        .filter(|table| table.detail.row_security || !table.detail.may_read)
        .count();
    if hidden > 0 {
        facts.unseen.push(format!(
            "the column statistics of {hidden} tables: role {} may not read these tables, or row-level security hides their rows from it; SELECT on them, or pg_read_all_data, shows them",
            facts.role
        ));
    }
    Ok(())
}

fn detail(row: &PgRow) -> Result<TableDetail, sqlx::Error> {
    let toast: Option<String> = row.try_get("toast")?;
    let chunks: Option<f64> = row.try_get("chunks")?;
    Ok(TableDetail {
        unlogged: row.try_get("unlogged")?,
        has_children: row.try_get("has_children")?,
        identity: match row.try_get("identity")? {
            "n" => Identity::Nothing,
            "f" => Identity::Full,
            "i" => Identity::Index,
            _ => Identity::Default,
        },
        row_security: row.try_get("row_security")?,
        attributes: u32::try_from(row.try_get::<i32, _>("attributes")?).unwrap_or(0),
        fill_factor: row
            .try_get::<Option<i16>, _>("fill_factor")?
            .and_then(|percent| u8::try_from(percent).ok()),
        toast: toast
            .map(|name| {
                Ok::<_, sqlx::Error>(Toast {
                    name,
                    pages: count(row, "toast_pages")?,
                    chunks: chunks.filter(|chunks| *chunks >= 0.0),
                })
            })
            .transpose()?,
        analyzed_at: instant(row, "analyzed_at")?,
        counters: Counters {
            inserted: count(row, "inserted")?,
            updated: count(row, "updated")?,
            deleted: count(row, "deleted")?,
            live: count(row, "live")?,
            modified: count(row, "modified")?,
        },
        may_read: row.try_get("may_read")?,
        ..TableDetail::default()
    })
}

/// `$1`: tables. What somebody locks against everybody is left out: the function would wait for the lock.
const SIZES: &str = "\
WITH locked AS MATERIALIZED ( \
  SELECT DISTINCT l.relation FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
  WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL AND d.datname = current_database()) \
SELECT t.id, pg_relation_size(t.id::regclass) / current_setting('block_size')::int8 AS pages \
FROM unnest($1::oid[]) AS t(id) WHERE t.id NOT IN (SELECT relation FROM locked)";

/// The catalog's zeros are those of the last VACUUM or ANALYZE, or of a table that never had one: the files of such tables are
/// looked at.
async fn read_sizes(session: &mut Session, facts: &mut Facts) -> Result<(), sqlx::Error> {
    let mut empty: Vec<u32> = facts
        .tables
        .values()
        .filter(|table| table.kind != Kind::Partitioned && table.pages == 0)
        .filter(|table| table.rows.is_none_or(|rows| rows == 0.0))
        .map(|table| table.id)
        .collect();
    empty.sort_unstable();
    if empty.len() > SIZES_AT_MOST {
        facts.unseen.push(format!(
            "whether {} of {} tables that look empty are so: the files of {SIZES_AT_MOST} were looked at",
            empty.len() - SIZES_AT_MOST,
            empty.len()
        ));
        empty.truncate(SIZES_AT_MOST);
    }
    if empty.is_empty() {
        return Ok(());
    }
    let rows = session
        .rows(constant(SIZES).bind(oids(empty.iter())))
        .await?;
    for row in rows {
        if let Some(table) = facts.tables.get_mut(&oid(&row, "id")?) {
            // A table that was dropped meanwhile has no size.
            let pages: Option<i64> = row.try_get("pages")?;
            table.detail.file_pages = pages.and_then(|pages| u64::try_from(pages).ok());
        }
    }
    Ok(())
}

const KEYS: &str = "\
SELECT p.partrelid AS id, p.partstrat = 'r' AS by_range, p.partdefid <> 0 AS has_default, array_agg(a.attname::text ORDER BY u.n) AS columns, \
  p.partnatts::int4 AS keys, (array_agg(a.atttypid ORDER BY u.n))[1] IN (1184, 1114, 1082) AND p.partattrs[0] <> 0 AS by_time \
FROM pg_partitioned_table p CROSS JOIN LATERAL unnest(p.partattrs::int2[]) WITH ORDINALITY AS u(number, n) \
JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = u.number \
GROUP BY p.partrelid, p.partstrat, p.partdefid, p.partnatts, p.partattrs[0]";

/// `$1`: parents, partitioned by ranges whose first column is a timestamptz, a timestamp or a date. The server prints their bounds
/// in the settings of the transaction, and reads them back by the same. The name of the constraint that detaching concurrently leaves is
/// made of table and column, if it is free and short. Given no table, it takes no lock.
const BOUNDS: &str = "\
SELECT b.id, b.parent, b.text, CASE a.atttypid \
    WHEN 1184 THEN extract(epoch FROM b.upper::timestamptz) \
    WHEN 1114 THEN extract(epoch FROM b.upper::timestamp) \
    WHEN 1082 THEN extract(epoch FROM b.upper::date) END::float8 AS upper, \
  CASE WHEN p.partnatts = 1 AND octet_length(b.name) + octet_length(a.attname) < 57 \
    AND NOT EXISTS (SELECT FROM pg_class t WHERE t.oid = b.parent AND t.relispartition) \
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conname = concat(b.name, '_', a.attname, '_check') AND k.connamespace = b.schema) \
    THEN concat(b.name, '_', a.attname, '_check') END AS detached_check \
FROM (SELECT i.inhrelid AS id, i.inhparent AS parent, c.relname::text AS name, c.relnamespace AS schema, e.text, substring(e.text FROM 'TO \\(''([^'']*)''') AS upper \
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
  CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, 0) AS text) e \
  WHERE i.inhparent = ANY ($1) AND NOT i.inhdetachpending) b \
JOIN pg_partitioned_table p ON p.partrelid = b.parent JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] \
WHERE b.upper IS NOT NULL";

async fn read_bounds(session: &mut Session, facts: &mut Facts) -> Result<(), sqlx::Error> {
    let mut by_time: HashMap<u32, (String, bool, bool)> = HashMap::new();
    for row in session.rows(constant(KEYS)).await? {
        let id = oid(&row, "id")?;
        let columns: Vec<String> = row.try_get("columns")?;
        let (by_range, timed): (bool, bool) = (row.try_get("by_range")?, row.try_get("by_time")?);
        if let (true, Some(first)) = (by_range && timed, columns.first()) {
            let alone = row.try_get::<i32, _>("keys")? == 1;
            by_time.insert(id, (first.clone(), alone, row.try_get("has_default")?));
        }
        facts.partition_keys.insert(id, columns);
    }
    if by_time.is_empty() {
        return Ok(());
    }
    let rows = session
        .rows(constant(BOUNDS).bind(oids(by_time.keys())))
        .await?;
    for row in rows {
        let parent = by_time.get(&oid(&row, "parent")?);
        let table = facts.tables.get_mut(&oid(&row, "id")?);
        if let (Some((column, alone, beside_default)), Some(table)) = (parent, table) {
            table.detail.bound = Some(Box::new(Bound {
                column: column.clone(),
                alone: *alone,
                upper: row.try_get("upper")?,
                text: row.try_get("text")?,
                beside_default: *beside_default,
                detached_check: row.try_get("detached_check")?,
            }));
        }
    }
    Ok(())
}

const PUBLISHES: &str = "SELECT EXISTS (SELECT FROM pg_publication p WHERE p.pubdelete) AS deletes";

async fn read_published(session: &mut Session, facts: &mut Facts) -> Result<(), sqlx::Error> {
    if !session
        .row(constant(PUBLISHES))
        .await?
        .try_get::<bool, _>("deletes")?
    {
        return Ok(());
    }
    let version: i32 = session
        .row(constant(catalog_sql::VERSION))
        .await?
        .try_get("version")?;
    let statement = if version >= 150_000 {
        catalog_sql::PUBLISHED_15
    } else {
        catalog_sql::PUBLISHED_14
    };
    let primary: HashSet<u32> = facts
        .indexes
        .iter()
        .filter(|index| index.primary)
        .map(|index| index.table)
        .collect();
    // Nearly all tables have a primary key and nothing else said: those are left out before the server is asked.
    let leaves: Vec<u32> = facts
        .tables
        .values()
        .filter(|table| table.kind == Kind::Table)
        .filter(|table| table.detail.identity != Identity::Default || !primary.contains(&table.id))
        .map(|table| table.id)
        .collect();
    let rows = session
        .rows(constant(statement).bind(oids(leaves.iter())))
        .await?;
    for row in rows {
        if let Some(table) = facts.tables.get_mut(&oid(&row, "leaf")?) {
            table.detail.published = row.try_get("publication")?;
        }
    }
    Ok(())
}

/// From 18 on a column may be marked NOT NULL although old rows of it were never looked at.
const TOTAL_KEYS: &str = "\
SELECT x.indrelid AS table, x.indexrelid AS index, i.relname::text AS name, x.indimmediate AS immediate, \
  (SELECT array_agg(a.attname::text ORDER BY u.n) FROM unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) WITH ORDINALITY AS u(number, n) \
    JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u.number) AS columns, \
  NOT coalesce((to_jsonb(x) ->> 'indnullsnotdistinct')::bool, false) AND NOT EXISTS ( \
    SELECT FROM unnest((x.indkey::int2[])[0:x.indnkeyatts - 1], x.indclass::oid[], x.indcollation::oid[]) AS u(number, class, text_order) \
    JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u.number JOIN pg_opclass o ON o.oid = u.class \
    WHERE NOT o.opcdefault OR u.text_order <> a.attcollation) AS is_plain \
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
WHERE x.indisunique AND x.indisvalid AND NOT x.indisprimary AND x.indpred IS NULL AND x.indexprs IS NULL \
  AND NOT EXISTS (SELECT FROM pg_index p WHERE p.indrelid = x.indrelid AND p.indisprimary) \
  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = x.indrelid \
    AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1]) AND NOT a.attnotnull) \
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = x.indrelid AND k.contype = 'n' AND NOT k.convalidated \
    AND k.conkey && x.indkey::int2[])";

async fn total_keys(session: &mut Session) -> Result<Vec<TotalKey>, sqlx::Error> {
    let rows = session.rows(constant(TOTAL_KEYS)).await?;
    rows.iter()
        .map(|row| {
            Ok(TotalKey {
                table: oid(row, "table")?,
                index: oid(row, "index")?,
                name: row.try_get("name")?,
                columns: row.try_get("columns")?,
                immediate: row.try_get("immediate")?,
                is_plain: row.try_get("is_plain")?,
            })
        })
        .collect()
}

/// What is `NOT ENFORCED` (18 and newer) counts as not validated there, and cannot be.
const UNVALIDATED: &str = "\
SELECT k.conrelid AS table, k.conname::text AS name, k.contype::text AS kind, nullif(k.confrelid, 0) AS referred \
FROM pg_constraint k WHERE NOT k.convalidated AND k.contype IN ('c', 'f', 'n') AND k.conrelid <> 0 \
  AND k.conparentid = 0 AND k.coninhcount = 0 AND coalesce((to_jsonb(k) ->> 'conenforced')::bool, true) \
ORDER BY k.conrelid, k.conname";

async fn unvalidated(session: &mut Session) -> Result<Vec<Unvalidated>, sqlx::Error> {
    let rows = session.rows(constant(UNVALIDATED)).await?;
    rows.iter()
        .map(|row| {
            Ok(Unvalidated {
                table: oid(row, "table")?,
                name: row.try_get("name")?,
                kind: match row.try_get("kind")? {
                    "f" => ConstraintKind::ForeignKey,
                    "n" => ConstraintKind::NotNull,
                    _ => ConstraintKind::Check,
                },
                referred: row.try_get::<Option<Oid>, _>("referred")?.map(|oid| oid.0),
            })
        })
        .collect()
}

/// A number that is never negative.
fn count(row: &PgRow, name: &str) -> Result<u64, sqlx::Error> {
    let number: Option<i64> = row.try_get(name)?;
    Ok(number
        .and_then(|number| u64::try_from(number).ok())
        .unwrap_or(0))
}

/// From microseconds since 1970.
fn instant(row: &PgRow, name: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(name)?
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
